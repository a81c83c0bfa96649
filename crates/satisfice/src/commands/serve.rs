use crate::cli::Serve;
use anyhow::{Context, Result, bail};
use satisfice_graph::{GraphEngine, ModelDir};
use satisfice_server::{Admission, Limits, Models, Service};
use satisfice_store::{Check, GraphStore};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

pub(crate) fn run(args: &Serve) -> Result<()> {
    let check = match args.skip_checksums {
        true => Check::Structure,
        false => Check::Checksums,
    };
    let service = Arc::new(Service::new(
        load_models(&args.models, check)?,
        Admission::default(),
    ));
    runtime()?.block_on(async {
        let listener = TcpListener::bind(args.listen).await.with_context(|| {
            format!(
                "cannot listen on {}: choose another `--listen`",
                args.listen
            )
        })?;
        println!("serving on http://{}", listener.local_addr()?);
        satisfice_server::serve(listener, service, Limits::default(), stop_signal()?).await?;
        Ok(())
    })
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
        let model_dir = ModelDir::open(&path, None)?;
        let store = stores.open(&model_dir.store_path(), check)?;
        let engine = GraphEngine::open(&model_dir, store, check)
            .with_context(|| format!("model `{}`", model_dir.name()))?;
        models.insert(
            &model_dir.name(),
            u64::from(model_dir.version()),
            Arc::new(engine),
        )?;
        names.push(model_dir.name());
    }
    if names.is_empty() {
        bail!(
            "{}: no model: a model repository holds directories with a model.toml each",
            dir.display()
        );
    }
    Ok(models)
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
