use crate::{
    cli::{ModelControl, Serve},
    model_kind::ModelKind,
};
use anyhow::{Context, Result, bail};
use satisfice_core::{Engine, Error, ErrorKind};
use satisfice_graph::{GraphEngine, ModelDir};
use satisfice_multimodal::{MultimodalEngine, OpenOptions};
use satisfice_server::{Admission, Limits, LoadedVersions, Loader, Models, Service, grpc};
use satisfice_store::{Check, GraphStore};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

const GRPC_PORT: u16 = 8001;

pub(crate) fn run(args: &Serve) -> Result<()> {
    let check = match args.skip_checksums {
        true => Check::Structure,
        false => Check::Checksums,
    };
    let service = Service::new(load_models(&args.models, check)?, Admission::default());
    let service = Arc::new(match args.model_control {
        ModelControl::None => service,
        ModelControl::Explicit => service.with_loader(Arc::new(Repository {
            dir: args.models.clone(),
            check,
        })),
    });
    runtime()?.block_on(async {
        let http = listen(args.listen, "--listen").await?;
        let grpc = listen(grpc_address(args), "--grpc-listen").await?;
        println!("serving on http://{}", http.local_addr()?);
        println!("serving gRPC on {}", grpc.local_addr()?);
        let limits = Limits::default();
        tokio::try_join!(
            satisfice_server::serve(http, Arc::clone(&service), limits, stop_signal()?),
            grpc::serve(grpc, service, limits, stop_signal()?),
        )?;
        Ok(())
    })
}

fn grpc_address(args: &Serve) -> SocketAddr {
    let default_port = match args.listen.port() {
        0 => 0,
        _ => GRPC_PORT,
    };
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, default_port));
    args.grpc_listen.unwrap_or(default)
}

async fn listen(address: SocketAddr, option: &str) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: choose another `{option}`"))
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}

/// Completes when the process is asked to stop (SIGINT, SIGTERM).
pub(crate) fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Loads the highest version of every model directory in `dir`.
pub(crate) fn load_models(dir: &Path, check: Check) -> Result<Models> {
    let mut stores = Stores::default();
    let mut models = Models::new();
    let mut names = Vec::new();
    for path in model_dirs(dir)? {
        let model = open_model(&path, &mut stores, check)?;
        models.insert(&model.name, model.version, model.engine)?;
        names.push(model.name);
    }
    if names.is_empty() {
        bail!(
            "{}: no model: a model repository holds directories with a model.toml each",
            dir.display()
        );
    }
    Ok(models)
}

/// The highest version of a model.
struct OpenModel {
    name: String,
    version: u64,
    engine: Arc<dyn Engine>,
}

/// Opens the model in `dir`, whatever its kind.
fn open_model(dir: &Path, stores: &mut Stores, check: Check) -> Result<OpenModel> {
    match ModelKind::of(dir)? {
        ModelKind::Graph => {
            let model_dir = ModelDir::open(dir, None)?;
            let store = stores.open(&model_dir.store_path(), check)?;
            let engine = GraphEngine::open(&model_dir, store, check)
                .with_context(|| format!("model `{}`", model_dir.name()))?;
            Ok(OpenModel {
                name: model_dir.name(),
                version: u64::from(model_dir.version()),
                engine: Arc::new(engine),
            })
        }
        ModelKind::Multimodal => {
            let model_dir = satisfice_multimodal::ModelDir::open(dir, None)?;
            let engine = MultimodalEngine::open(&model_dir, &OpenOptions::default())
                .with_context(|| format!("model `{}`", model_dir.name()))?;
            Ok(OpenModel {
                name: model_dir.name(),
                version: u64::from(model_dir.version()),
                engine: Arc::new(engine),
            })
        }
    }
}

/// The model repository, for clients that load models.
struct Repository {
    dir: PathBuf,
    check: Check,
}

impl Repository {
    /// A model's highest version, with a store of its own: the graph may be another than the one
    /// that is served.
    fn open(&self, name: &str) -> Result<(u64, Arc<dyn Engine>)> {
        let model = open_model(&self.dir.join(name), &mut Stores::default(), self.check)?;
        Ok((model.version, model.engine))
    }
}

impl Loader for Repository {
    fn list(&self) -> Result<BTreeSet<String>, Error> {
        let dirs =
            model_dirs(&self.dir).map_err(|error| failed("repository_unreadable", &error))?;
        let names = dirs.iter().filter_map(|dir| dir.file_name()?.to_str());
        Ok(names.map(str::to_owned).collect())
    }

    fn load(&self, name: &str) -> Result<LoadedVersions, Error> {
        let model = self.open(name);
        Ok(vec![model.map_err(|error| failed("load_failed", &error))?])
    }
}

fn failed(code: &'static str, error: &anyhow::Error) -> Error {
    Error::new(ErrorKind::Internal, code, format!("{error:#}"))
}

fn model_dirs(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("{}", dir.display()))?;
    let mut dirs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.join("model.toml").is_file() {
            dirs.push(path);
        }
    }
    dirs.sort();
    Ok(dirs)
}

/// Graph stores by place: models of one graph share it.
#[derive(Default)]
struct Stores(BTreeMap<PathBuf, Arc<GraphStore>>);

impl Stores {
    fn open(&mut self, path: &Path, check: Check) -> Result<Arc<GraphStore>> {
        let path = fs::canonicalize(path).with_context(|| {
            format!("{}: no graph store; run `satisfice import`", path.display())
        })?;
        if let Some(store) = self.0.get(&path) {
            return Ok(store.clone());
        }
        let store = Arc::new(GraphStore::open(&path, check)?);
        self.0.insert(path, store.clone());
        Ok(store)
    }
}
