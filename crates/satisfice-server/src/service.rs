//! Which model answers, and when: resolution, admission, deadlines, panics.
//!
//! Nothing here knows a transport; every transport gives the same [`Call`] and gets the same
//! answer or [`Error`].

mod control;
mod deadline;
mod lane;
mod settings;
mod stats;

pub(crate) use control::check_control_parameters;
pub use control::{IndexEntry, ModelState};
pub use lane::Admission;
pub use settings::Settings;
pub(crate) use stats::{Duty, Reason, Recording, Stats};

use crate::{Models, Record, Stage, clip, protocol::ModelDescription};
use control::Control;
use lane::{Lane, Place};
use satisfice_core::{
    Engine, EngineMetric, Error, ErrorKind, InferRequest, InferResponse, ModelMetadata, TensorSpec,
};
use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Instant,
};
use tokio::sync::watch;

/// The models and who may use them when.
pub struct Service {
    models: RwLock<Registry>,
    /// Those of models that are loaded from now on.
    settings: Arc<RwLock<Settings>>,
    control: Option<Arc<Control>>,
    draining: watch::Sender<bool>,
}

type Registry = BTreeMap<String, Versions>;
type Versions = BTreeMap<u64, Arc<ServedModel>>;

impl Service {
    /// A service of `models`, each version of each model on its own by the model's settings.
    pub fn new(models: Models, settings: impl Into<Settings>) -> Self {
        let settings = settings.into();
        Self {
            models: RwLock::new(served(models, &settings)),
            settings: Arc::new(RwLock::new(settings)),
            control: None,
            draining: watch::Sender::new(false),
        }
    }

    /// Sets how models are served that are loaded from now on.
    pub fn set_settings(&self, settings: impl Into<Settings>) {
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = settings.into();
    }

    /// Whether new requests are welcome: not while draining, nor while an engine waits for something.
    pub fn is_ready(&self) -> bool {
        let versions = self.versions();
        !*self.draining.borrow() && versions.iter().all(|model| model.engine.is_ready())
    }

    /// Makes [`is_ready`](Self::is_ready) false, for load balancers to look elsewhere. Requests are
    /// still answered.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Completes when [`drain`](Self::drain) is called.
    pub fn drained(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut draining = self.draining.subscribe();
        async move {
            // An error means that the service is gone, which is an end too.
            let _ = draining.wait_for(|draining| *draining).await;
        }
    }

    /// The newest version of every model, by name.
    pub fn models(&self) -> Vec<Arc<ServedModel>> {
        let registry = read(&self.models);
        let newest = |versions: &Versions| versions.values().next_back().map(Arc::clone);
        registry.values().filter_map(newest).collect()
    }

    /// Every version of every model, by name and version.
    pub fn versions(&self) -> Vec<Arc<ServedModel>> {
        let registry = read(&self.models);
        let versions = registry.values().flat_map(BTreeMap::values);
        versions.map(Arc::clone).collect()
    }

    /// The versions that a question about the past is about: all, those of one model, or one.
    pub(crate) fn select(
        &self,
        name: Option<&str>,
        version: Option<&str>,
    ) -> Result<Vec<Arc<ServedModel>>, Error> {
        let Some(name) = name else {
            return Ok(self.versions());
        };
        let model = self.find(name, version)?;
        if version.is_some() {
            return Ok(vec![model]);
        }
        let mut versions = self.versions();
        versions.retain(|model| model.name == name);
        Ok(versions)
    }

    /// The model of that name: `version`, or its highest version.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] naming what there is.
    pub fn find(&self, name: &str, version: Option<&str>) -> Result<Arc<ServedModel>, Error> {
        let registry = read(&self.models);
        let versions = registry.get(name).ok_or_else(|| {
            let names = clip::list(registry.keys().map(String::as_str));
            not_found(
                "model_not_found",
                format!("no model `{}`", clip::clip(name)),
            )
            .with_hint(format!("models served: {names}"))
        })?;
        let model = match version {
            None => versions.values().next_back(),
            Some(version) => versions.values().find(|model| model.version == version),
        };
        model.map(Arc::clone).ok_or_else(|| {
            let known = clip::list(versions.values().map(|model| model.version.as_str()));
            let version = clip::clip(version.unwrap_or_default());
            not_found(
                "version_not_found",
                format!("model `{name}` has no version `{version}`"),
            )
            .with_hint(format!("versions served: {known}"))
        })
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("models", &read(&self.models).keys().collect::<Vec<_>>())
            .field("draining", &self.draining)
            .finish_non_exhaustive()
    }
}

/// The models with their places in a service.
fn served(models: Models, settings: &Settings) -> Registry {
    let served = |(name, engines): (String, BTreeMap<u64, Arc<dyn Engine>>)| {
        let admission = settings.of(&name).admission;
        let versions: Arc<[String]> = engines.keys().map(ToString::to_string).collect();
        let model = |(version, engine): (u64, _)| {
            let model = ServedModel {
                name: name.clone(),
                version: version.to_string(),
                versions: Arc::clone(&versions),
                engine,
                lane: Lane::new(admission),
                stats: Arc::default(),
            };
            (version, Arc::new(model))
        };
        let versions = engines.into_iter().map(model).collect();
        (name, versions)
    };
    models.into_inner().into_iter().map(served).collect()
}

/// Nothing that is done under the lock can panic half-way.
fn read(models: &RwLock<Registry>) -> RwLockReadGuard<'_, Registry> {
    models.read().unwrap_or_else(PoisonError::into_inner)
}

/// As [`read`].
fn write(models: &RwLock<Registry>) -> RwLockWriteGuard<'_, Registry> {
    models.write().unwrap_or_else(PoisonError::into_inner)
}

fn not_found(code: &'static str, message: String) -> Error {
    Error::new(ErrorKind::NotFound, code, message)
}

/// One request as a transport hands it over.
#[derive(Debug)]
pub struct Call {
    /// What the engine is asked.
    pub request: InferRequest,
    /// Length of the request on the wire, in bytes: what it counts for in admission.
    pub request_bytes: usize,
    /// When the request began to arrive; deadlines count from here.
    pub received: Instant,
    /// When the transport gives the request up, if it has said so.
    pub deadline: Option<Instant>,
    /// What is known of the request, for logs and traces.
    pub record: Arc<Record>,
}

/// One version of a model with its place in the service.
pub struct ServedModel {
    name: String,
    version: String,
    versions: Arc<[String]>,
    engine: Arc<dyn Engine>,
    lane: Lane,
    stats: Arc<Stats>,
}

impl ServedModel {
    /// Name of the model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// This version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// This version's signature.
    pub fn metadata(&self) -> &ModelMetadata {
        self.engine.metadata()
    }

    /// Numbers that the engine shows of itself.
    pub(crate) fn engine_metrics(&self) -> Vec<EngineMetric> {
        self.engine.metrics()
    }

    /// What this version has done.
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Requests that wait for the engine.
    pub(crate) fn waiting(&self) -> usize {
        self.lane.waiting()
    }

    /// Name, all versions, and this version's signature.
    pub fn describe(&self) -> ModelDescription {
        ModelDescription {
            name: self.name.clone(),
            versions: self.versions.to_vec(),
            metadata: self.engine.metadata().clone(),
        }
    }

    /// Refuses at once when a request of `request_bytes` bytes would find no place, so that its
    /// body need not be read.
    ///
    /// # Errors
    /// As [`infer`](Self::infer).
    pub fn check_room(&self, request_bytes: usize) -> Result<(), Error> {
        self.lane.enter(request_bytes).map(drop)
    }

    /// Answers a request: waits for a turn, then runs the engine on a blocking thread.
    ///
    /// Dropping the future while it waits means that the engine never sees the request. Once the
    /// engine runs it runs to the end, and keeps its turn until then.
    ///
    /// Two request parameters are read here and not shown to the engine: `deadline_ms` (a number
    /// over 0) and `timeout` (whole microseconds, 0 for none), both counted from
    /// [`Call::received`]. When the earliest of them and [`Call::deadline`] passes before the engine
    /// starts, it does not start.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] for names that the model does not have, and what the engine
    ///   refuses.
    /// - [`ErrorKind::TooLarge`] for a request that would not fit into an empty queue.
    /// - [`ErrorKind::Unavailable`] with code `queue_full` when there is no place to wait.
    /// - [`ErrorKind::DeadlineExceeded`] when the deadline passes before the engine starts.
    /// - [`ErrorKind::Internal`] with code `engine_panicked`; other requests are not affected.
    pub async fn infer(&self, mut call: Call) -> Result<InferResponse, Error> {
        self.check_names(&call.request)?;
        let deadline = deadline::take(&mut call.request.parameters, call.received)?;
        let deadline = deadline.into_iter().chain(call.deadline).min();
        let place = self.lane.enter(call.request_bytes)?;
        let entered = Instant::now();
        let place = place.turn(deadline).await;
        self.stats.waited(entered.elapsed());
        call.record.stage(Stage::Queue, entered);
        let place = place?;
        self.run(call.request, call.record, place).await
    }

    async fn run(
        &self,
        request: InferRequest,
        record: Arc<Record>,
        place: Place,
    ) -> Result<InferResponse, Error> {
        let engine = Arc::clone(&self.engine);
        let stats = Arc::clone(&self.stats);
        // The place goes with the work: it is free again when the engine has ended, not when the
        // client has gone.
        let work = move || {
            stats.executing();
            let start = Instant::now();
            let answer = engine.infer(&request);
            stats.executed(start.elapsed(), answer.as_ref().ok());
            record.stage(Stage::Execute, start);
            drop(request);
            drop(place);
            answer
        };
        let mut task = AbortOnDrop(tokio::task::spawn_blocking(work));
        match (&mut task.0).await {
            Ok(answer) => answer,
            Err(error) if error.is_panic() => {
                tracing::error!(model = self.name, version = self.version, "engine panicked");
                Err(Error::new(
                    ErrorKind::Internal,
                    "engine_panicked",
                    format!("the engine of model `{}` failed on this request", self.name),
                ))
            }
            Err(_) => Err(Error::new(
                ErrorKind::Unavailable,
                "shutting_down",
                "the server is shutting down",
            )),
        }
    }

    fn check_names(&self, request: &InferRequest) -> Result<(), Error> {
        let metadata = self.engine.metadata();
        let inputs = request.inputs.iter().map(|input| input.name.as_str());
        let outputs = request.outputs.iter().map(String::as_str);
        self.check_known(inputs, &metadata.inputs, "unknown_input", "inputs")?;
        self.check_known(outputs, &metadata.outputs, "unknown_output", "outputs")
    }

    fn check_known<'a>(
        &self,
        mut names: impl Iterator<Item = &'a str>,
        specs: &[TensorSpec],
        code: &'static str,
        what: &str,
    ) -> Result<(), Error> {
        match names.find(|&name| specs.iter().all(|spec| spec.name != name)) {
            None => Ok(()),
            Some(name) => {
                let known = clip::list(specs.iter().map(|spec| spec.name.as_str()));
                let name = clip::clip(name);
                Err(Error::new(
                    ErrorKind::InvalidInput,
                    code,
                    format!("model `{}` has no `{name}` among its {what}", self.name),
                )
                .with_hint(format!("{what} are {known}")))
            }
        }
    }
}

impl fmt::Debug for ServedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedModel")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Takes back blocking work that has not begun when nobody waits for it any more.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
