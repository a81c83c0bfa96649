//! One version of a graph model, ready to answer.

mod advance;
mod contract;
mod format;
mod outlook;
pub(crate) mod request;
mod view;

pub use format::{GraphFacts, RequestFormat, argmax};
pub use outlook::{DistantGraph, NodeDegrees, Outlook};

use crate::{
    Answer, GraphError, ModelDir, NewNodes, Plan, Profile, QueryBatch,
    embeddings::Embeddings,
    model::GnnModel,
    run::{Forecast, Scratch, Serving},
};
use advance::{Advance, changes_since_rest};
use contract::Minimum;
use format::Decoded;
use request::KnownNodes;
use satisfice_core::{
    Cores, Engine, Error, InferRequest, InferResponse, ModelMetadata, Offer, Parameters, Readiness,
    Stopped,
    parameters::{GRAPH, ParameterSpec},
};
use satisfice_kernels::while_whole;
use satisfice_store::{
    Check, GraphStore,
    live::{Changes, Follower, LiveGraph, Snapshot},
};
use std::{
    sync::{Arc, PoisonError, RwLock, Weak},
    time::{Duration, Instant},
};
use view::{Tables, View};

/// The graph that a model serves.
#[derive(Debug)]
enum Source {
    AtRest(Arc<GraphStore>),
    /// As it was when the model began to follow it: every snapshot has the same store.
    Live(Arc<Snapshot>),
}

impl Source {
    fn store(&self) -> &GraphStore {
        match self {
            Self::AtRest(store) => store,
            Self::Live(snapshot) => snapshot.base(),
        }
    }
}

/// A graph model with its graph and embeddings.
///
/// Answers may be asked for from several threads at once. Of a living graph, each is from one version, and none waits
/// for a write.
#[derive(Debug)]
pub struct GraphEngine {
    model: GnnModel,
    source: Source,
    embeddings: Embeddings,
    loops: Vec<(u32, u32)>,
    view: RwLock<Arc<View>>,
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
        Self::over(model_dir, Source::AtRest(store), check)
    }

    /// As [`open`](Self::open), over a living graph, which the engine follows from then on: after each group of
    /// writes it computes anew what they reach of the rows that are kept, and answers from then on are from those.
    ///
    /// # Errors
    /// As [`open`](Self::open); and where the rows that the graph's log reaches cannot be computed.
    pub fn follow(
        model_dir: &ModelDir,
        graph: &LiveGraph,
        check: Check,
    ) -> Result<Arc<Self>, GraphError> {
        let source = Source::Live(graph.snapshot());
        let engine = Arc::new(Self::over(model_dir, source, check)?);
        let follower: Weak<dyn Follower> = Arc::<Self>::downgrade(&engine);
        graph.follow(follower);
        match engine.view().snapshot {
            Some(_) => Ok(engine),
            None => Err(GraphError::Embeddings {
                path: model_dir.embeddings_path(),
                message: "what was written to the graph could not be followed".to_owned(),
            }),
        }
    }

    fn over(model_dir: &ModelDir, source: Source, check: Check) -> Result<Self, GraphError> {
        let store = source.store();
        let config = model_dir.config();
        let model = GnnModel::load(config, &model_dir.weights_path())?;
        let embeddings = Embeddings::open(model_dir, &model, store, check)?;
        let format = RequestFormat::new(model_dir, &model, GraphFacts::of(store))?.with_stored();
        let loops: Vec<(u32, u32)> = store.self_loops().collect();
        let engine = Self {
            embeddings,
            view: RwLock::new(Arc::new(View::at_rest(&model, store, &loops))),
            loops,
            profile: Profile::read(model_dir, store),
            format,
            model,
            source,
        };
        engine.check_files()?;
        Ok(engine)
    }

    /// The graph that the model serves, as it is at rest.
    pub fn store(&self) -> &GraphStore {
        self.source.store()
    }

    /// The version of the living graph that answers are from now; nothing of a graph at rest.
    pub fn version(&self) -> Option<u64> {
        let view = self.view();
        view.snapshot.as_ref().map(|snapshot| snapshot.version())
    }

    /// What requests find now.
    pub(crate) fn view(&self) -> Arc<View> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        view.clone()
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
        self.store().check_files()?;
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
        let view = self.view();
        let nodes = KnownNodes::new(self.store(), view.snapshot.as_deref());
        self.format.attach_to(nodes, batch, &Cores::default())
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
        self.answer_from(&self.view(), batch, plan, cores)
    }

    fn answer_from(
        &self,
        view: &View,
        batch: &QueryBatch,
        plan: Plan,
        cores: &Cores,
    ) -> Result<Answer, GraphError> {
        self.serving(view, batch, cores, |serving, scratch| {
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
        self.serving(&self.view(), batch, &cores, |serving, scratch| {
            serving.footprint(batch, plan, &cores, scratch)
        })
    }

    /// What each of `plans` would leave stale and cost.
    pub(crate) fn forecast(
        &self,
        view: &View,
        batch: &QueryBatch,
        plans: &[Plan],
        cores: &Cores,
    ) -> Result<Vec<Forecast>, GraphError> {
        self.serving(view, batch, cores, |serving, scratch| {
            serving.forecast(batch, plans, cores, scratch)
        })
    }

    /// Runs `work` with the model, graph and tables, and a space prepared for `batch`.
    fn serving<T>(
        &self,
        view: &View,
        batch: &QueryBatch,
        cores: &Cores,
        work: impl FnOnce(&Serving<'_>, &mut Scratch) -> Result<T, Stopped>,
    ) -> Result<T, GraphError> {
        let tables = Tables::new(&self.model, self.store(), &self.embeddings, &view.patches)?;
        let serving = Serving {
            model: &self.model,
            graph: view.graph(self.store(), &self.loops),
            levels: &tables.levels,
            messages: &tables.messages,
            reduced: &tables.reduced,
            own: tables.own,
            scales: view.scratch.scales(),
        };
        let work = |scratch: &mut Scratch| work(&serving, scratch);
        self.watched(|| Ok(view.scratch.with(serving.graph, batch, cores, work)?))
    }

    fn answer_request(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        let start = Instant::now();
        let view = self.view();
        let nodes = KnownNodes::new(self.store(), view.snapshot.as_deref());
        let decoded = self.format.decode_for(nodes, request)?;
        let (batch, plan) = (&decoded.batch, decoded.plan);
        let minimum = Minimum::of(request)?;
        if minimum.is_some() && !decoded.stored.is_empty() {
            return Err(contract::stored_unpromised().into());
        }
        let decode = start.elapsed();
        let promise = minimum
            .map(|minimum| self.promise(&view, (batch, minimum, plan), &request.cores))
            .transpose()?;
        let chosen = promise.map(|promise| promise.plan).or(plan);
        let plan = chosen.unwrap_or(self.default_plan());
        let answer = self.answer_from(&view, batch, plan, &request.cores)?;
        let mut parameters = describe(plan, batch, &answer, decode);
        if let Some(promise) = promise {
            promise.describe(&mut parameters);
        }
        if let Some(snapshot) = &view.snapshot {
            let version = i64::try_from(snapshot.version()).unwrap_or(i64::MAX);
            parameters.insert("version".to_owned(), version.into());
        }
        let values = decoded.in_order(answer.outputs, self.format.width());
        Ok(InferResponse {
            outputs: self.format.encode(&request.outputs, values)?,
            parameters,
        })
    }
}

/// Half of the cores, for work that requests do not wait for.
fn beside_requests() -> Cores {
    let cores = Cores::lent(None);
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    cores.grant((all / 2).max(1));
    cores
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

impl Follower for GraphEngine {
    /// # Panics
    /// When a file that the model reads is lost: the graph then says that a follower failed.
    fn advance(&self, snapshot: &Arc<Snapshot>, changes: &Changes) {
        let before = self.view();
        let at_first = before.snapshot.is_none();
        let all = at_first.then(|| changes_since_rest(snapshot));
        let changes = all.as_ref().unwrap_or(changes);
        let advance = Advance {
            model: &self.model,
            embeddings: &self.embeddings,
            snapshot,
            changes,
            cores: match at_first {
                true => Cores::default(),
                false => beside_requests(),
            },
        };
        match self.watched(|| advance.after(&before)) {
            Ok(next) => {
                let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
                *view = Arc::new(next);
            }
            Err(error) => panic!("the rows that a write reaches could not be computed: {error}"),
        }
    }
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
            let view = self.view();
            let nodes = KnownNodes::new(self.store(), view.snapshot.as_deref());
            let Decoded { batch, stored, .. } = self.format.decode_for(nodes, request)?;
            match stored.is_empty() {
                true => Ok(self.offers_of(&view, &batch, &request.cores)?),
                // Nothing was measured of those.
                false => Ok(Vec::new()),
            }
        })
    }

    fn readiness(&self) -> Readiness {
        match self.check_files() {
            Ok(()) => Readiness::Ready,
            Err(_) => Readiness::Failed,
        }
    }
}
