//! A model repository: a directory of model directories, `NAME/model.toml` and `NAME/<version>/`.

use crate::{model_kind::ModelKind, report::causes};
use anyhow::{Context, Result, bail};
use satisfice_core::{Engine, Error, ErrorKind, InferRequest, VersionDir};
use satisfice_graph::{GraphEngine, GraphWriter, LiveEngine, ModelDir};
use satisfice_multimodal::{MultimodalEngine, OpenOptions};
use satisfice_server::{
    LoadedVersions, Loader, Models, VersionPolicy, example,
    protocol::{TensorLimits, decode_request},
    warm_up,
};
use satisfice_store::{Check, GraphStore, live::LiveGraph};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

/// A request that every version of a model answers before it is served, as the body of an HTTP request.
const WARM_UP_FILE: &str = "warmup.json";

/// Directories in a model's directory that are looked into for changes.
const DEPTH_MAX: usize = 4;

/// How models are loaded.
#[derive(Debug, Clone)]
pub(crate) struct LoadOptions {
    pub check: Check,
    /// For models that are not in `model_versions`.
    pub versions: VersionPolicy,
    /// By name of the model.
    pub model_versions: BTreeMap<String, VersionPolicy>,
    /// Whether models without a warm-up request are warmed up with zeros.
    pub warm_up: bool,
    /// Whether graphs may be written to.
    pub live: bool,
}

impl LoadOptions {
    /// The highest version of every model.
    pub(crate) fn new(check: Check) -> Self {
        Self {
            check,
            versions: VersionPolicy::default(),
            model_versions: BTreeMap::new(),
            warm_up: false,
            live: false,
        }
    }
}

/// A repository with the way its models are loaded.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    dir: PathBuf,
    options: LoadOptions,
    /// Graphs that may be written to, as long as a model of theirs is there.
    graphs: Arc<LiveGraphs>,
}

impl Repository {
    pub(crate) fn new(dir: &Path, options: LoadOptions) -> Self {
        Self {
            dir: dir.to_owned(),
            options,
            graphs: Arc::default(),
        }
    }

    /// Every model, and why those are not there that could not be loaded; those of one graph share its store.
    pub(crate) fn models(&self) -> Result<Models> {
        let mut stores = Stores::default();
        let mut models = Models::new();
        for dir in model_dirs(&self.dir)? {
            let name = name(&dir);
            if let Err(error) = self.add(&dir, &name, &mut stores, &mut models) {
                let reason = causes(&error);
                tracing::error!(model = name, error = reason, "cannot be loaded");
                models.fail(&name, reason);
            }
        }
        Ok(models)
    }

    fn add(&self, dir: &Path, name: &str, stores: &mut Stores, models: &mut Models) -> Result<()> {
        let start = Instant::now();
        for (version, engine) in self.open(dir, stores)? {
            models.insert(name, version, engine)?;
        }
        models.set_load_duration(name, start.elapsed());
        Ok(())
    }

    /// The versions of a model that are served.
    fn open(&self, dir: &Path, stores: &mut Stores) -> Result<LoadedVersions> {
        let name = name(dir);
        let policy = self.options.model_versions.get(&name);
        let policy = policy.unwrap_or(&self.options.versions);
        let there = VersionDir::versions(dir).with_context(|| format!("{}", dir.display()))?;
        let selected = policy.select(&there);
        if let Some(missing) = selected.difference(&there).next() {
            bail!(
                "{}: no version {missing}, which is to be served",
                dir.display()
            );
        }
        if selected.is_empty() {
            bail!(
                "{}: no version: weights belong in a directory named 1, 2, ...",
                dir.display()
            );
        }
        let engine = |version| {
            let engine = self.open_engine(dir, version, stores)?;
            self.warm_up(dir, version, &*engine)?;
            Ok((version, engine))
        };
        selected.into_iter().map(engine).collect()
    }

    fn open_engine(
        &self,
        dir: &Path,
        version: u64,
        stores: &mut Stores,
    ) -> Result<Arc<dyn Engine>> {
        let check = self.options.check;
        let of_model = || format!("model `{}`", name(dir));
        match ModelKind::of(dir)? {
            ModelKind::Graph => {
                let model_dir = ModelDir::open(dir, Some(version))?;
                let path = model_dir.store_path();
                if self.options.live {
                    let graph = self.graphs.open(&path, check)?;
                    let engine =
                        LiveEngine::open(&model_dir, graph, check).with_context(of_model)?;
                    tell_of_profile(engine.engine(), dir, version);
                    return Ok(Arc::new(engine));
                }
                let store = stores.open(&path, check)?;
                let engine = GraphEngine::open(&model_dir, store, check).with_context(of_model)?;
                tell_of_profile(&engine, dir, version);
                Ok(Arc::new(engine))
            }
            ModelKind::Multimodal => {
                let model_dir = satisfice_multimodal::ModelDir::open(dir, Some(version))?;
                let engine = MultimodalEngine::open(&model_dir, &OpenOptions::default());
                Ok(Arc::new(engine.with_context(of_model)?))
            }
        }
    }

    /// Has a version answer its warm-up request. Zeros that it does not take are no fault of its.
    fn warm_up(&self, dir: &Path, version: u64, engine: &dyn Engine) -> Result<()> {
        let start = Instant::now();
        let file = dir.join(WARM_UP_FILE);
        if file.is_file() {
            let request = warm_up_request(&file)?;
            warm_up(engine, &request).with_context(|| format!("{}", file.display()))?;
        } else if self.options.warm_up {
            let answer = example(engine).and_then(|request| warm_up(engine, &request));
            if let Err(error) = answer {
                let model = name(dir);
                tracing::warn!(model, version, %error, "not warmed up: write a {WARM_UP_FILE}");
                return Ok(());
            }
        } else {
            return Ok(());
        }
        let (model, seconds) = (name(dir), start.elapsed().as_secs_f64());
        tracing::info!(model, version, seconds, "warmed up");
        Ok(())
    }
}

fn warm_up_request(file: &Path) -> Result<InferRequest> {
    let body = fs::read(file).with_context(|| format!("{}", file.display()))?;
    let decoded = decode_request(&body[..], None, TensorLimits::default());
    Ok(decoded
        .with_context(|| format!("{}", file.display()))?
        .request)
}

impl Loader for Repository {
    fn list(&self) -> Result<BTreeSet<String>, Error> {
        let dirs =
            model_dirs(&self.dir).map_err(|error| failed("repository_unreadable", &error))?;
        Ok(dirs.iter().map(|dir| name(dir)).collect())
    }

    /// With a store of its own: the graph may be another than the one that is served.
    fn load(&self, name: &str) -> Result<LoadedVersions, Error> {
        let versions = self.open(&self.dir.join(name), &mut Stores::default());
        versions.map_err(|error| failed("load_failed", &error))
    }

    fn fingerprint(&self, name: &str) -> Result<u64, Error> {
        let dir = self.dir.join(name);
        let mut hasher = DefaultHasher::new();
        let hashed = hash_files(&dir, DEPTH_MAX, &mut hasher);
        hashed.map_err(|error| failed("repository_unreadable", &error))?;
        // The graph may lie elsewhere; what is wrong with it is said when the model is loaded.
        if let Ok(model_dir) = ModelDir::open(&dir, None) {
            let _ = hash_files(&model_dir.store_path(), 1, &mut hasher);
        }
        Ok(hasher.finish())
    }
}

/// Hashes names, sizes and times of the files below `dir`, but not of those that are being written.
fn hash_files(dir: &Path, depth: usize, hasher: &mut impl Hasher) -> Result<()> {
    let read = fs::read_dir(dir).with_context(|| format!("{}", dir.display()))?;
    let mut paths: Vec<PathBuf> = read.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    for path in paths {
        if is_being_written(&path) || is_log(&path) {
            continue;
        }
        let Ok(metadata) = fs::metadata(&path) else {
            continue; // gone since
        };
        path.hash(hasher);
        if metadata.is_dir() {
            if depth > 1 {
                hash_files(&path, depth - 1, hasher)?;
            }
            continue;
        }
        metadata.len().hash(hasher);
        metadata.modified().ok().hash(hasher);
    }
    Ok(())
}

fn is_being_written(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || name.ends_with(".partial")
}

/// True for what is written to a store while it is served: no model has changed.
fn is_log(path: &Path) -> bool {
    path.ends_with("live") && path.with_file_name("manifest.toml").is_file()
}

fn failed(code: &'static str, error: &anyhow::Error) -> Error {
    Error::new(ErrorKind::Internal, code, causes(error))
}

/// A model's name is that of its directory.
fn name(dir: &Path) -> String {
    let name = dir.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
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

fn tell_of_profile(engine: &GraphEngine, dir: &Path, version: u64) {
    if let Some(problem) = engine.profile_problem() {
        let model = name(dir);
        tracing::warn!(model, version, %problem, "the model's profile is not used");
    }
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

/// Graphs that may be written to, by place: models of one graph share it, also those that are loaded later.
#[derive(Debug, Default)]
struct LiveGraphs(Mutex<BTreeMap<PathBuf, Weak<GraphWriter>>>);

impl LiveGraphs {
    fn open(&self, path: &Path, check: Check) -> Result<Arc<GraphWriter>> {
        let path = fs::canonicalize(path).with_context(|| {
            format!("{}: no graph store; run `satisfice import`", path.display())
        })?;
        let mut graphs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        graphs.retain(|_, graph| graph.strong_count() > 0);
        if let Some(graph) = graphs.get(&path).and_then(Weak::upgrade) {
            return Ok(graph);
        }
        let name = name(&path);
        let of_that_name = graphs.keys().find(|other| self::name(other) == name);
        if let Some(other) = of_that_name {
            bail!(
                "{}: a graph is written to by the name of its directory, and `{name}` is {} already; rename one",
                path.display(),
                other.display()
            );
        }
        let graph = Arc::new(GraphWriter::new(name, LiveGraph::open(&path, check)?));
        graphs.insert(path, Arc::downgrade(&graph));
        Ok(graph)
    }
}
