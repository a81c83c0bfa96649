//! Which model answers, and when: resolution, admission, deadlines, panics.
//!
//! Nothing here knows a transport; every transport gives the same [`Call`] and gets the same
//! answer or [`Error`].

mod contract;
mod control;
mod poll;
mod room;
mod schedule;
mod stats;

pub(crate) use control::check_control_parameters;
pub use control::{IndexEntry, ModelState};
pub use poll::Polling;
pub use room::Admission;
pub use schedule::PlanAudit;
pub(crate) use stats::{Duty, Reason, Recording, Stats};

use crate::{Models, clip, protocol::ModelDescription};
use contract::Contract;
use control::Control;
use room::Room;
use satisfice_core::{
    Engine, Error, ErrorKind, InferRequest, InferResponse, ModelMetadata, TensorSpec,
};
use schedule::{Fronts, Inputs, LaneId, Scheduler, Submission, Whole, Work};
use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Instant,
};
use tokio::sync::watch;

/// How a service treats its models.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Executions at once over all models, at least 1 and at most 64; by default the number of cores,
    /// and at least 2, so that one request that takes long does not hold up every other.
    pub executors: usize,
    /// For models that have none of their own.
    pub admission: Admission,
    /// By name of the model.
    pub models: BTreeMap<String, Admission>,
}

impl Default for Settings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            executors: cores.max(2),
            admission: Admission::default(),
            models: BTreeMap::new(),
        }
    }
}

/// The models and who may use them when.
pub struct Service {
    models: RwLock<Registry>,
    settings: Settings,
    scheduler: Arc<Scheduler>,
    control: Option<Arc<Control>>,
    draining: watch::Sender<bool>,
}

type Registry = BTreeMap<String, Versions>;
type Versions = BTreeMap<u64, Arc<ServedModel>>;

impl Service {
    /// A service of `models`, each version of each model with its own `admission`.
    pub fn new(models: Models, admission: Admission) -> Self {
        let settings = Settings {
            admission,
            ..Settings::default()
        };
        Self::with_settings(models, settings)
    }

    /// A service of `models`.
    pub fn with_settings(models: Models, settings: Settings) -> Self {
        let service = Self {
            models: RwLock::default(),
            scheduler: Arc::new(Scheduler::start(settings.executors)),
            settings,
            control: None,
            draining: watch::Sender::new(false),
        };
        for (name, engines) in models.into_inner() {
            service.replace(&name, engines);
        }
        service
    }

    /// Whether new requests are welcome: models answer as soon as they are in the service, so
    /// only draining says no.
    pub fn is_ready(&self) -> bool {
        !*self.draining.borrow()
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

    /// Serves `engines`, by version, instead of what was served under `name`; counters go on, and
    /// requests that run end where they began.
    fn replace(&self, name: &str, engines: BTreeMap<u64, Arc<dyn Engine>>) {
        let versions: Arc<[String]> = engines.keys().map(ToString::to_string).collect();
        let admission = self.settings.models.get(name);
        let admission = *admission.unwrap_or(&self.settings.admission);
        let mut new = Versions::new();
        for (version, engine) in engines {
            let old = read(&self.models)
                .get(name)
                .and_then(|old| old.get(&version).map(Arc::clone));
            let stats = old.map(|old| Arc::clone(&old.stats)).unwrap_or_default();
            let label = format!("{name}/{version}");
            let lane =
                self.scheduler
                    .open(&label, Arc::clone(&engine), Arc::clone(&stats), admission);
            let model = ServedModel {
                name: name.to_owned(),
                version: version.to_string(),
                versions: Arc::clone(&versions),
                engine,
                room: Room::new(admission),
                scheduler: Arc::clone(&self.scheduler),
                lane,
                stats,
            };
            new.insert(version, Arc::new(model));
        }
        let old = match new.is_empty() {
            true => write(&self.models).remove(name),
            false => write(&self.models).insert(name.to_owned(), new),
        };
        // What is dropped here may take its time, and nobody else's.
        drop(old);
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
}

/// One version of a model with its place in the service.
pub struct ServedModel {
    name: String,
    version: String,
    versions: Arc<[String]>,
    engine: Arc<dyn Engine>,
    room: Room,
    scheduler: Arc<Scheduler>,
    lane: LaneId,
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

    /// What this version has done.
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Requests of which something was not started.
    pub fn waiting(&self) -> usize {
        self.scheduler.waiting(self.lane)
    }

    /// What audits say of this version's plans.
    pub fn audits(&self) -> Vec<PlanAudit> {
        self.scheduler.audits(self.lane)
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
        self.room.enter(request_bytes).map(drop)
    }

    /// Answers a request: queues it until an executor has a turn for it.
    ///
    /// Dropping the future takes back what was not started. Once the engine runs it runs to the end,
    /// and keeps its turn until then.
    ///
    /// The request's contract is read here and not shown to the engine: `deadline_ms` (a number over
    /// 0) and `timeout` (whole microseconds, 0 for none), both counted from [`Call::received`];
    /// `min_accuracy` or `min_fidelity` (0 to 1); `priority` (1 is the highest, 0 the default).
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] for names that the model does not have, what the engine
    ///   refuses, and with code `minimum_unmeetable` for a minimum that no plan promises.
    /// - [`ErrorKind::TooLarge`] for a request that would not fit into an empty queue.
    /// - [`ErrorKind::Unavailable`] with code `queue_full` when there is no place to wait, and
    ///   `deadline_unmeetable` when the deadline cannot be met beside the work that waits.
    /// - [`ErrorKind::DeadlineExceeded`] when the deadline passes before there is an answer, and with
    ///   code `deadline_too_short` when the cheapest plan takes longer.
    /// - [`ErrorKind::Internal`] with code `engine_panicked`; other requests are not affected.
    pub async fn infer(&self, mut call: Call) -> Result<InferResponse, Error> {
        self.check_names(&call.request)?;
        let parameters = &mut call.request.parameters;
        let contract = Contract::take(parameters, call.received, call.deadline)?;
        let ticket = self.room.enter(call.request_bytes)?;
        let submission = Submission {
            work: self.prepare(call.request, contract).await?,
            contract,
            ticket,
        };
        self.scheduler.answer(self.lane, submission).await
    }

    /// What the request asks the scheduler to do. Engines are asked off the async threads.
    async fn prepare(&self, request: InferRequest, contract: Contract) -> Result<Work, Error> {
        let engine = Arc::clone(&self.engine);
        let fronts = match engine.batching() {
            Some(_) => self.scheduler.fronts(self.lane),
            None => None,
        };
        if fronts.is_none() && !contract.is_demanding() {
            return Ok(Work::Whole(Whole::plain(request)));
        }
        let task = tokio::task::spawn_blocking(move || match fronts {
            Some(fronts) => inputs(&*engine, request, &contract, &fronts),
            None => {
                let offers = engine.offers(&request)?;
                Ok(Work::Whole(Whole { request, offers }))
            }
        });
        task.await.unwrap_or_else(|error| {
            let model = &self.name;
            tracing::error!(model, version = self.version, %error, "engine panicked");
            Err(schedule::panicked(model))
        })
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

impl Drop for ServedModel {
    fn drop(&mut self) {
        self.scheduler.close(self.lane);
    }
}

/// A request to an engine that batches, checked and cut into inputs.
fn inputs(
    engine: &dyn Engine,
    request: InferRequest,
    contract: &Contract,
    fronts: &Fronts,
) -> Result<Work, Error> {
    let Some(batching) = engine.batching() else {
        return Ok(Work::Whole(Whole::plain(request)));
    };
    let job = batching.prepare(request)?;
    Ok(Work::Inputs(Box::new(Inputs::new(job, contract, fronts)?)))
}
