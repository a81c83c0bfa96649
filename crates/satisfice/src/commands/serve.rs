use super::settings;
use crate::{cli::Serve, logging};
use anyhow::{Context, Result, bail};
use satisfice_cluster::{ClusterConfig, ClusterEngine, ClusterNode, quiet_engine_panics};
use satisfice_core::{Engine, Error, ErrorKind};
use satisfice_graph::{GraphEngine, ModelDir};
use satisfice_server::{
    Bound, LoadedVersions, Loader, Models, Server, Service,
    config::{self, Config, ModelControl},
};
use satisfice_store::{Check, GraphStore};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};

/// For the threads of engines that did not end in time.
const LAST_WAIT: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &Serve) -> Result<()> {
    let config = settings::load(args)?.config;
    let set_level = logging::init_server(config.log);
    let service = Arc::new(service(&config)?);
    let runtime = runtime()?;
    let server = runtime.block_on(async {
        let bound = Bound::bind(&config).await?;
        let tls = config.tls.certificate.is_some();
        let server = Server::new(config, service, set_level)?;
        announce(&bound, tls)?;
        let mut reload = signal(SignalKind::hangup())?;
        let reloads = async {
            while reload.recv().await.is_some() {
                reconfigure(&server, args);
            }
        };
        tokio::select! {
            served = server.run(bound, stop_signal()?) => served?,
            () = reloads => {}
        }
        anyhow::Ok(server)
    })?;
    server.flush();
    // Whoever is still at work has had its time.
    runtime.shutdown_timeout(LAST_WAIT);
    Ok(())
}

fn service(config: &Config) -> Result<Service> {
    let config::Repository {
        path,
        control,
        skip_checksums,
    } = &config.repository;
    let path = path.as_deref().context(
        "no model repository: name one with `--models` or `path` in `[repository]` of the configuration",
    )?;
    let check = match skip_checksums {
        true => Check::Structure,
        false => Check::Checksums,
    };
    let service = Service::new(load_models(path, check)?, config);
    Ok(match control {
        ModelControl::None => service,
        ModelControl::Explicit => service.with_loader(Arc::new(Repository {
            dir: path.to_owned(),
            check,
        })),
    })
}

/// Prints where the server is, for people and for programs that wait for it.
fn announce(bound: &Bound, tls: bool) -> Result<()> {
    let scheme = if tls { "https" } else { "http" };
    for (name, address) in bound.addresses()? {
        match name {
            "HTTP" => println!("serving on {scheme}://{address}"),
            "gRPC" => println!("serving gRPC on {address}"),
            name => println!("serving {name} on {scheme}://{address}"),
        }
    }
    Ok(())
}

/// Reads the configuration anew; says what took effect and what did not.
fn reconfigure(server: &Server, args: &Serve) {
    let loaded = settings::load(args).and_then(|loaded| Ok(server.reload(loaded.config)?));
    match loaded {
        Ok(restart) if restart.is_empty() => tracing::warn!("configuration read anew"),
        Ok(restart) => tracing::warn!(
            needs_restart = restart.join(", "),
            "configuration read anew, but some of it needs a restart"
        ),
        Err(error) => tracing::error!(
            error = format!("{error:#}"),
            "configuration not read anew: everything is as it was"
        ),
    }
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
            if let Some(problem) = engine.profile_problem() {
                warn!("model `{}`: its profile is not used: {problem}", model_dir.name());
            }
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
