//! One version of a graph model, ready to answer.

mod contract;
mod format;
mod outlook;
mod request;

pub use format::{GraphFacts, RequestFormat, argmax};
pub use outlook::{DistantGraph, NodeDegrees, Outlook};

use crate::{
    Answer, GraphError, ModelDir, NewNodes, Plan, Profile, QueryBatch,
    embeddings::{Embeddings, graph_view},
    model::GnnModel,
    run::{Forecast, Scratch, ScratchPool, Serving},
};
use contract::Minimum;
use satisfice_core::{
    Cores, Engine, Error, InferRequest, InferResponse, ModelMetadata, Offer, Parameters, Readiness,
    Stopped,
    parameters::{GRAPH, ParameterSpec},
};
use satisfice_kernels::while_whole;
use satisfice_store::{Check, GraphStore};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A graph model with its graph and embeddings.
///
/// Answers may be asked for from several threads at once.
#[derive(Debug)]
pub struct GraphEngine {
    model: GnnModel,
    store: Arc<GraphStore>,
    embeddings: Embeddings,
    loops: Vec<(u32, u32)>,
    scratch: ScratchPool,
    profile: Result<Option<Profile>, GraphError>,
    format: RequestFormat,
}

impl GraphEngine {
    /// Reads a model's weights and embeddings and checks that they belong to `store`. A profile that
    /// does not is left aside: see [`GraphEngine::profile_problem`].
    ///
    /// # Errors
    /// [`GraphError`], with the file or tensor at fault.
    pub fn open(
        model_dir: &ModelDir,
        store: Arc<GraphStore>,
        check: Check,
    ) -> Result<Self, GraphError> {
        let config = model_dir.config();
        let model = GnnModel::load(config, &model_dir.weights_path())?;
        let embeddings = Embeddings::open(model_dir, &model, &store, check)?;
        let format = RequestFormat::new(model_dir, &model, GraphFacts::of(&store))?;
        let loops: Vec<(u32, u32)> = store.self_loops().collect();
        let engine = Self {
            embeddings,
            scratch: ScratchPool::new(graph_view(&store, &loops), model.scales()),
            loops,
            profile: Profile::read(model_dir, &store),
            format,
            model,
            store,
        };
        engine.check_files()?;
        Ok(engine)
    }

    /// The graph that the model serves.
    pub fn store(&self) -> &GraphStore {
        &self.store
    }

    /// The plan of requests that name none.
    pub fn default_plan(&self) -> Plan {
        self.format.default_plan()
    }

    /// What the plans promise and cost, where it was measured.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref().ok()?.as_ref()
    }

    /// Why the profile that is there is not used, if so: an operator should know.
    pub fn profile_problem(&self) -> Option<&GraphError> {
        self.profile.as_ref().err()
    }

    /// Names of the classes, where the graph has them and the model leaves one value a class.
    pub fn class_names(&self) -> Option<&[String]> {
        self.format.class_names()
    }

    /// Whether the files that the model reads are what they were when they were opened.
    ///
    /// # Errors
    /// [`StoreError::Lost`](satisfice_store::StoreError::Lost) names one that was truncated or changed in place.
    pub fn check_files(&self) -> Result<(), GraphError> {
        self.store.check_files()?;
        self.embeddings.check_files()
    }

    /// What `work` makes of the model's files, unless one is lost.
    fn watched<T, E: From<GraphError>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        while_whole(|| Ok(self.check_files()?), work)
    }

    /// Checks and orders a batch of new nodes, on all cores.
    ///
    /// # Errors
    /// [`GraphError::Request`] and [`GraphError::TooLarge`].
    pub fn attach<'a>(&self, batch: impl Into<NewNodes<'a>>) -> Result<QueryBatch, GraphError> {
        self.format.attach(batch, &Cores::default())
    }

    /// Answers a batch by a plan, on all cores. Deterministic: the same batch, graph, weights and plan give the
    /// same numbers.
    ///
    /// # Errors
    /// [`GraphError::Store`] when a file is not what it was when it was opened.
    pub fn answer(&self, batch: &QueryBatch, plan: Plan) -> Result<Answer, GraphError> {
        self.answer_on(batch, plan, &Cores::default())
    }

    /// As [`answer`](Self::answer), on the cores granted, which change no number. It gives way, and gives up, within a
    /// block of nodes.
    ///
    /// # Errors
    /// [`GraphError::Canceled`] when nobody waits for the answer any more.
    pub fn answer_on(
        &self,
        batch: &QueryBatch,
        plan: Plan,
        cores: &Cores,
    ) -> Result<Answer, GraphError> {
        self.serving(batch, cores, |serving, scratch| {
            serving.answer(batch, plan, cores, scratch)
        })
    }

    /// Bytes of the different rows that a plan reads for a batch and of those that it computes, each counted once: what no way
    /// to run the plan can move less than. For measurements: it takes longer than some answers.
    ///
    /// # Errors
    /// [`GraphError::Store`] when a file is not what it was when it was opened.
    pub fn footprint(&self, batch: &QueryBatch, plan: Plan) -> Result<u64, GraphError> {
        let cores = Cores::default();
        self.serving(batch, &cores, |serving, scratch| {
            serving.footprint(batch, plan, &cores, scratch)
        })
    }

    /// What each of `plans` would leave stale and cost.
    pub(crate) fn forecast(
        &self,
        batch: &QueryBatch,
        plans: &[Plan],
        cores: &Cores,
    ) -> Result<Vec<Forecast>, GraphError> {
        self.serving(batch, cores, |serving, scratch| {
            serving.forecast(batch, plans, cores, scratch)
        })
    }

    /// Runs `work` with the model, graph and tables, and a space prepared for `batch`.
    fn serving<T>(
        &self,
        batch: &QueryBatch,
        cores: &Cores,
        work: impl FnOnce(&Serving<'_>, &mut Scratch) -> Result<T, Stopped>,
    ) -> Result<T, GraphError> {
        let levels = self.embeddings.levels(&self.model, &self.store)?;
        let messages = self.embeddings.messages(&self.model)?;
        let reduced = self.embeddings.reduced(&self.model)?;
        let serving = Serving {
            model: &self.model,
            graph: graph_view(&self.store, &self.loops),
            levels: &levels,
            messages: &messages,
            reduced: &reduced,
            own: self.embeddings.own()?,
            scales: self.scratch.scales(),
        };
        let work = |scratch: &mut Scratch| work(&serving, scratch);
        self.watched(|| Ok(self.scratch.with(serving.graph, batch, cores, work)?))
    }

    fn answer_request(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        let start = Instant::now();
        let (batch, plan) = self.format.decode(request, self.store.ids())?;
        let minimum = Minimum::of(request)?;
        let decode = start.elapsed();
        let promise = minimum
            .map(|minimum| self.promise(&batch, minimum, plan, &request.cores))
            .transpose()?;
        let chosen = promise.map(|promise| promise.plan).or(plan);
        let plan = chosen.unwrap_or(self.default_plan());
        let answer = self.answer_on(&batch, plan, &request.cores)?;
        let mut parameters = describe(plan, &batch, &answer, decode);
        if let Some(promise) = promise {
            promise.describe(&mut parameters);
        }
        Ok(InferResponse {
            outputs: self.format.encode(&request.outputs, answer.outputs)?,
            parameters,
        })
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn describe(plan: Plan, batch: &QueryBatch, answer: &Answer, decode: Duration) -> Parameters {
    let times = answer.times;
    Parameters::from([
        ("plan".to_owned(), plan.to_string().into()),
        ("candidates".to_owned(), answer.candidates.into()),
        (
            "recomputed_nodes".to_owned(),
            answer.recomputed.len().into(),
        ),
        ("batch_edges".to_owned(), batch.edges().into()),
        ("edges".to_owned(), (answer.edges as i64).into()),
        ("rows".to_owned(), (answer.rows as i64).into()),
        ("decode_us".to_owned(), micros(decode).into()),
        ("select_us".to_owned(), micros(times.select).into()),
        ("layers_us".to_owned(), micros(times.layers).into()),
        ("head_us".to_owned(), micros(times.head).into()),
    ])
}

impl Engine for GraphEngine {
    fn metadata(&self) -> &ModelMetadata {
        self.format.metadata()
    }

    fn parameters(&self) -> &'static [ParameterSpec] {
        &GRAPH
    }

    fn example(&self) -> Option<InferRequest> {
        self.format.example()
    }

    fn infer(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        self.watched(|| self.answer_request(request))
    }

    fn shares_cores(&self) -> bool {
        true
    }

    fn offers(&self, request: &InferRequest) -> Result<Vec<Offer>, Error> {
        if self.profile().is_none() {
            return Ok(Vec::new());
        }
        self.watched(|| {
            let (batch, _) = self.format.decode(request, self.store.ids())?;
            Ok(self.offers_of(&batch, &request.cores)?)
        })
    }

    fn readiness(&self) -> Readiness {
        match self.check_files() {
            Ok(()) => Readiness::Ready,
            Err(_) => Readiness::Failed,
        }
    }
}
