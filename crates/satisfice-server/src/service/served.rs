//! One version of a model, and how it is asked.

use super::{
    Admission, PlanAudit, SpareTime, Stats,
    contract::Contract,
    room::{Room, Ticket},
    schedule::{
        Asked, Fronts, Inputs, LaneId, Scheduler, Submission, Whole, Work, guarded, plan_named,
        too_late,
    },
    times::Times,
};
use crate::{
    Record, clip,
    protocol::{ModelDescription, plans::ModelPlans},
};
use satisfice_core::{
    Cores, Engine, EngineMetric, Error, ErrorKind, InferRequest, InferResponse, ModelMetadata,
    Offer, Parameters, Readiness, TensorSpec, WritableGraph,
    parameters::{self, CONTRACT, Place},
};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

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

/// What a version of a model is called.
pub(super) struct Identity {
    pub name: String,
    pub version: String,
    /// All versions that are served beside it.
    pub versions: Arc<[String]>,
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
    /// Name and version, for logs.
    label: Arc<str>,
    stats: Arc<Stats>,
    /// What it takes to find out what the scheduler is to do.
    preparing: Mutex<Times>,
}

impl ServedModel {
    /// Gives the engine its queue.
    pub(super) fn new(
        identity: Identity,
        engine: Arc<dyn Engine>,
        admission: Admission,
        stats: Arc<Stats>,
        scheduler: Arc<Scheduler>,
    ) -> Self {
        let Identity {
            name,
            version,
            versions,
        } = identity;
        let label: Arc<str> = format!("{name}/{version}").into();
        let lane = scheduler.open(&label, Arc::clone(&engine), Arc::clone(&stats), admission);
        Self {
            name,
            version,
            versions,
            engine,
            room: Room::new(admission),
            scheduler,
            lane,
            label,
            stats,
            preparing: Mutex::default(),
        }
    }

    /// The counters, for what takes this one's place.
    pub(super) fn stats_kept(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

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

    /// The smallest request that it answers.
    pub(crate) fn example(&self) -> Result<InferRequest, Error> {
        crate::repository::example(&*self.engine)
    }

    /// Whether the engine would answer now.
    pub(crate) fn readiness(&self) -> Readiness {
        self.engine.readiness()
    }

    /// The graph that the engine answers from, if that may be written to.
    pub(super) fn graph(&self) -> Option<Arc<dyn WritableGraph>> {
        self.engine.graph()
    }

    /// What the engine counts of its own.
    pub(crate) fn engine_metrics(&self) -> Vec<EngineMetric> {
        self.engine.metrics()
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

    /// The plans that there are for the smallest request, as they are now known; none where nothing was measured.
    ///
    /// # Errors
    /// What the engine says of its own example.
    pub(crate) async fn plans(&self) -> Result<ModelPlans, Error> {
        let (offers, predicted_for) = match self.scheduler.fronts(self.lane) {
            Some(fronts) => {
                let all: Vec<usize> = (0..fronts.strategies().len()).collect();
                (fronts.alone(&all, 1), "one input")
            }
            None => (self.offers_for_example().await?, "the smallest request"),
        };
        Ok(ModelPlans {
            model_name: self.name.clone(),
            model_version: self.version.clone(),
            predicted_for,
            plans: ModelPlans::summaries(offers, &self.audits()),
        })
    }

    async fn offers_for_example(&self) -> Result<Vec<Offer>, Error> {
        let (engine, name) = (Arc::clone(&self.engine), Arc::clone(&self.label));
        let offers = tokio::task::spawn_blocking(move || {
            guarded(&name, || {
                engine.offers(&crate::repository::example(&*engine)?)
            })
        });
        let offers = offers
            .await
            .expect("invariant: panics are caught, and a runtime that ends asks nobody")?;
        Ok(self.scheduler.known(self.lane, offers))
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
        self.enter(request_bytes).map(drop)
    }

    /// A place, or a refusal that says when to come again.
    fn enter(&self, request_bytes: usize) -> Result<Ticket, Error> {
        self.room.enter(request_bytes).map_err(|error| {
            if error.kind() != ErrorKind::Unavailable {
                return error;
            }
            match self.scheduler.wait(self.lane) {
                Duration::ZERO => error,
                wait => error.with_retry_after(wait),
            }
        })
    }

    /// Answers a request: queues it until an executor has a turn for it.
    ///
    /// Dropping the future takes back what was not started. An engine that runs is told, and keeps its turn
    /// until it gives up or comes to its end; so it is when the deadline passes.
    ///
    /// The request's contract ([`CONTRACT`](satisfice_core::parameters::CONTRACT)) is read here, and of it the engine
    /// sees the deadline and the plan alone. Deadlines count from [`Call::received`].
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] for names that the model does not have, with code `unknown_parameter` for
    ///   parameters that nobody reads, what the engine
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
        check_parameters(&*self.engine, parameters)?;
        call.request.deadline = contract.deadline;
        let cores = Cores::lent(contract.deadline);
        call.request.cores = cores.clone();
        // Whatever works on the request ends with this future.
        let _waits = Waits(cores);
        let ticket = self.enter(call.request_bytes)?;
        let asked = Asked {
            contract: &contract,
            plan: plan_named(&call.request.parameters),
            bytes: call.request_bytes,
        };
        self.scheduler.check_time(self.lane, asked)?;
        let preparing = self.prepare(call.request, contract, call.request_bytes);
        let work = match contract.deadline {
            None => preparing.await?,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), preparing)
                .await
                .map_err(|_| too_late())??,
        };
        let submission = Submission {
            work,
            contract,
            ticket,
            record: call.record,
        };
        self.scheduler.answer(self.lane, submission).await
    }

    /// What the request of `bytes` bytes asks the scheduler to do. Engines are asked off the async
    /// threads, unless they are known to answer before another thread could begin.
    async fn prepare(
        &self,
        request: InferRequest,
        contract: Contract,
        bytes: usize,
    ) -> Result<Work, Error> {
        let engine = Arc::clone(&self.engine);
        let batching = engine.batching();
        let fronts = batching.and_then(|_| self.scheduler.fronts(self.lane));
        if fronts.is_none() && !contract.is_demanding() && !contract.explain {
            return Ok(Work::Whole(Whole::plain(request)));
        }
        let name = Arc::clone(&self.label);
        let spare_time = self.room.admission().spare_time;
        let prepare = move || {
            let start = Instant::now();
            let work = guarded(&name, || {
                if let Some(fronts) = fronts {
                    return inputs(&*engine, request, &contract, spare_time, &fronts);
                }
                let offers = engine.offers(&request)?;
                Ok(Work::Whole(Whole { request, offers }))
            });
            (work, start.elapsed())
        };
        let brief = lock(&self.preparing).are_brief(bytes);
        let turns = self.scheduler.brief_turns();
        let turn = brief.then(|| turns.begin()).flatten();
        let (work, took) = match turn {
            Some(_turn) => prepare(),
            None => tokio::task::spawn_blocking(prepare)
                .await
                .expect("invariant: panics are caught, and a runtime that ends asks nobody"),
        };
        lock(&self.preparing).observe(bytes, took.as_secs_f64());
        work
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

/// Somebody waits for what is done on these cores, until this is dropped.
struct Waits(Cores);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Nothing that is done under the lock can panic half-way.
fn lock(times: &Mutex<Times>) -> MutexGuard<'_, Times> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refuses parameters that neither the server nor the engine reads, once the contract is taken out.
pub(crate) fn check_parameters(
    engine: &dyn Engine,
    parameters: &mut Parameters,
) -> Result<(), Error> {
    if parameters.is_empty() {
        return Ok(());
    }
    let known = CONTRACT.iter().chain(engine.parameters());
    parameters::check(parameters, &known, Place::Request)
}

/// A request to an engine that batches, checked and cut into inputs.
fn inputs(
    engine: &dyn Engine,
    request: InferRequest,
    contract: &Contract,
    spare_time: SpareTime,
    fronts: &Fronts,
) -> Result<Work, Error> {
    let Some(batching) = engine.batching() else {
        return Ok(Work::Whole(Whole::plain(request)));
    };
    let job = batching.prepare(request)?;
    let inputs = Inputs::new(job, contract, spare_time, fronts)?;
    Ok(Work::Inputs(Box::new(inputs)))
}
