//! Which model answers, and when: resolution, admission, deadlines, panics.
//!
//! Nothing here knows a transport; every transport gives the same [`Call`] and gets the same
//! answer or [`Error`].

mod deadline;
mod lane;

pub use lane::Admission;

use crate::{Models, clip, protocol::ModelDescription};
use lane::{Lane, Place};
use satisfice_core::{Engine, Error, ErrorKind, InferRequest, InferResponse, TensorSpec};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// The models and who may use them when.
pub struct Service {
    models: BTreeMap<String, BTreeMap<u64, Arc<ServedModel>>>,
    draining: AtomicBool,
}

impl Service {
    /// A service of `models`, each version of each model with its own `admission`.
    pub fn new(models: Models, admission: Admission) -> Self {
        let models = models
            .into_inner()
            .into_iter()
            .map(|(name, engines)| {
                let versions: Arc<[String]> = engines.keys().map(ToString::to_string).collect();
                let served = |(version, engine): (u64, _)| {
                    let model = ServedModel {
                        name: name.clone(),
                        version: version.to_string(),
                        versions: Arc::clone(&versions),
                        engine,
                        lane: Lane::new(admission),
                    };
                    (version, Arc::new(model))
                };
                let versions = engines.into_iter().map(served).collect();
                (name, versions)
            })
            .collect();
        Self {
            models,
            draining: AtomicBool::new(false),
        }
    }

    /// Whether new requests are welcome: every model is loaded before the service exists, so only
    /// draining says no.
    pub fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }

    /// Makes [`is_ready`](Self::is_ready) false, for load balancers to look elsewhere. Requests are
    /// still answered.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The newest version of every model, by name.
    pub fn models(&self) -> impl Iterator<Item = &Arc<ServedModel>> {
        self.models
            .values()
            .filter_map(|versions| versions.values().next_back())
    }

    /// The model of that name: `version`, or its highest version.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] naming what there is.
    pub fn find(&self, name: &str, version: Option<&str>) -> Result<Arc<ServedModel>, Error> {
        let versions = self.models.get(name).ok_or_else(|| {
            let names = clip::list(self.models.keys().map(String::as_str));
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
            .field("models", &self.models.keys().collect::<Vec<_>>())
            .field("draining", &self.draining)
            .finish()
    }
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
}

/// One version of a model with its place in the service.
pub struct ServedModel {
    name: String,
    version: String,
    versions: Arc<[String]>,
    engine: Arc<dyn Engine>,
    lane: Lane,
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
    /// [`Call::received`]. When the earlier one passes before the engine starts, it does not start.
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
        let place = self.lane.enter(call.request_bytes)?;
        let place = place.turn(deadline).await?;
        self.run(call.request, place).await
    }

    async fn run(&self, request: InferRequest, place: Place) -> Result<InferResponse, Error> {
        let engine = Arc::clone(&self.engine);
        // The place goes with the work: it is free again when the engine has ended, not when the
        // client has gone.
        let work = move || {
            let answer = engine.infer(&request);
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
