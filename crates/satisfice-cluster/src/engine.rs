//! A cluster's node as an engine: the existing server serves it like any other.

use crate::{
    BatchAnswer, Choice, Chooser, ClusterError, ClusterNode, Cost, Exchange, NodeStatus, Wire,
};
use satisfice_core::{
    Engine, EngineMetric, Error, ErrorKind, InferRequest, InferResponse, ModelMetadata, Offer,
    Parameter, Parameters, Readiness,
    parameters::{CLUSTER, EXCHANGE, ParameterSpec},
};
use satisfice_graph::{GraphError, GraphFacts, Outlook, Plan, QueryBatch, RequestFormat};
use satisfice_kernels::while_whole;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The model of a cluster's parts, answered by the group.
#[derive(Debug)]
pub struct ClusterEngine {
    node: Arc<ClusterNode>,
    format: RequestFormat,
    outlook: Outlook,
    chooser: Chooser,
    by_partials: AtomicU64,
    by_rows: AtomicU64,
}

impl ClusterEngine {
    /// Of a node.
    ///
    /// # Errors
    /// [`ClusterError::Graph`] when the sidecar's default plan is none.
    pub fn new(node: Arc<ClusterNode>) -> Result<Self, ClusterError> {
        let part = node.part();
        let manifest = part.manifest();
        let facts = GraphFacts {
            nodes: manifest.graph_nodes,
            undirected: manifest.undirected,
            duplicates: manifest.duplicates,
            ids: manifest.ids,
            classes: manifest.classes.clone(),
        };
        let format = RequestFormat::new(part.model_dir(), part.model(), facts)?;
        // A rounded wire rounds answers that the profile's were not.
        let profile = match node.config().wire {
            Wire::F32 => part.profile(),
            Wire::F16 => Ok(None),
        };
        Ok(Self {
            format,
            outlook: Outlook::new(profile),
            node,
            chooser: Chooser::default(),
            by_partials: AtomicU64::new(0),
            by_rows: AtomicU64::new(0),
        })
    }

    /// What to exchange for a batch, and what that is predicted to cost.
    fn choose(
        &self,
        batch: &QueryBatch,
        plan: Plan,
        choice: Choice,
    ) -> Result<(Exchange, Cost), ClusterError> {
        let config = self.node.config();
        let links = (config.wire, config.link_costs());
        self.chooser
            .choose(self.node.part(), (batch, plan), links, choice)
    }

    /// Why the model's profile is not used, if so: an operator should know.
    pub fn profile_problem(&self) -> Option<&GraphError> {
        self.outlook.problem()
    }

    /// The configuration's choice, unless the request may choose and does.
    fn choice_of(&self, request: &InferRequest) -> Result<Choice, Error> {
        let configured = self.node.config().exchange;
        let wanted = match EXCHANGE.text(&request.parameters)? {
            None => return Ok(configured),
            Some("partials") => Choice::Partials,
            Some("rows") => Choice::Rows,
            Some(_) => Choice::Auto,
        };
        match (configured, wanted) {
            (Choice::Partials, Choice::Rows) => Err(Error::new(
                ErrorKind::InvalidInput,
                "rows_stay",
                "rows of features and embeddings do not leave their machine in this cluster",
            )
            .with_hint("`exchange = \"partials\"` in cluster.toml says so")),
            (Choice::Partials, _) => Ok(Choice::Partials),
            (_, wanted) => Ok(wanted),
        }
    }

    /// Whether the files of the part that requests are read with are what they were.
    fn check_files(&self) -> Result<(), Error> {
        Ok(self.node.part().check_files()?)
    }

    fn answer_request(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        let start = Instant::now();
        let (batch, plan) = self.format.decode(request, self.node.part().ids())?;
        let graph = self.node.part().distant_graph()?;
        let promise = self.outlook.promise(&graph, (&batch, plan), request)?;
        let chosen = promise.as_ref().map(|(plan, _)| *plan).or(plan);
        let plan = chosen.unwrap_or(self.format.default_plan());
        let (exchange, cost) = self.choose(&batch, plan, self.choice_of(request)?)?;
        let decode = start.elapsed();
        let answer = self.node.answer(&batch, plan, exchange, request.deadline)?;
        let counter = match exchange {
            Exchange::Partials => &self.by_partials,
            Exchange::Rows => &self.by_rows,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.chooser
            .saw((&batch, plan), (exchange, cost), answer.time);
        let mut parameters = describe(plan, &batch, &answer, cost);
        parameters.insert("decode_us".to_owned(), micros(decode));
        parameters.extend(promise.into_iter().flat_map(|(_, said)| said));
        Ok(InferResponse {
            outputs: self.format.encode(&request.outputs, answer.outputs)?,
            parameters,
        })
    }

    fn offers_of(&self, request: &InferRequest) -> Result<Vec<Offer>, Error> {
        let (batch, _) = self.format.decode(request, self.node.part().ids())?;
        let choice = self.choice_of(request)?;
        let graph = self.node.part().distant_graph()?;
        let mut offers = self.outlook.offers(&graph, &batch, &request.cores)?;
        for offer in &mut offers {
            if let Ok(plan) = offer.plan.parse() {
                let (_, cost) = self.choose(&batch, plan, choice)?;
                offer.seconds =
                    offer.seconds / self.node.config().nodes.len() as f64 + cost.seconds;
            }
        }
        Ok(offers)
    }
}

fn micros(duration: Duration) -> Parameter {
    Parameter::Int(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}

fn count(value: u64) -> Parameter {
    Parameter::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

fn describe(plan: Plan, batch: &QueryBatch, answer: &BatchAnswer, cost: Cost) -> Parameters {
    Parameters::from([
        ("plan".to_owned(), plan.to_string().into()),
        ("candidates".to_owned(), batch.readers().len().into()),
        (
            "recomputed_nodes".to_owned(),
            answer.recomputed.len().into(),
        ),
        ("batch_edges".to_owned(), batch.edges().into()),
        ("edges".to_owned(), count(answer.edges)),
        ("rows".to_owned(), count(answer.rows)),
        ("exchange".to_owned(), answer.exchange.name().into()),
        ("exchange_bytes".to_owned(), count(answer.layer_bytes)),
        (
            "exchange_bytes_predicted".to_owned(),
            count(cost.bytes as u64),
        ),
        (
            "link_bytes_predicted".to_owned(),
            count(cost.link_bytes as u64),
        ),
        ("message_bytes".to_owned(), count(answer.bytes)),
        ("rows_moved".to_owned(), count(answer.rows_moved)),
        ("group_us".to_owned(), micros(answer.time)),
        ("waited_us".to_owned(), micros(answer.waited)),
    ])
}

impl Engine for ClusterEngine {
    fn metadata(&self) -> &ModelMetadata {
        self.format.metadata()
    }

    fn infer(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        while_whole(|| self.check_files(), || self.answer_request(request))
    }

    fn parameters(&self) -> &'static [ParameterSpec] {
        &CLUSTER
    }

    fn example(&self) -> Option<InferRequest> {
        self.format.example()
    }

    /// What the profile promises of each plan for the batch. A plan takes the time of one machine over the
    /// number of nodes, and that of its exchange.
    fn offers(&self, request: &InferRequest) -> Result<Vec<Offer>, Error> {
        if self.outlook.profile().is_none() {
            return Ok(Vec::new());
        }
        while_whole(|| self.check_files(), || self.offers_of(request))
    }

    fn readiness(&self) -> Readiness {
        match self.check_files() {
            Ok(()) => self.node.status().state.readiness(),
            Err(_) => Readiness::Failed,
        }
    }

    fn metrics(&self) -> Vec<EngineMetric> {
        let status = self.node.status();
        let readiness = self.readiness();
        let plain = |name, help, value| EngineMetric {
            name,
            help,
            label: None,
            value,
        };
        let mut metrics = vec![
            plain(
                "satisfice_cluster_ready",
                "Whether the node answers",
                u64::from(readiness.is_ready()),
            ),
            plain(
                "satisfice_cluster_degraded",
                "Whether the node answers, but something is missing or slow",
                u64::from(readiness == Readiness::Degraded),
            ),
            plain(
                "satisfice_cluster_whole",
                "Whether the node's own group is whole",
                u64::from(status.whole),
            ),
            plain(
                "satisfice_cluster_replicas_whole",
                "Other replicas whose groups are whole",
                status.replicas_whole as u64,
            ),
            plain(
                "satisfice_cluster_formed_total",
                "Times the group was formed",
                status.formed,
            ),
            plain(
                "satisfice_cluster_retries_total",
                "Batches begun anew because the group fell apart",
                self.node.retries(),
            ),
            plain(
                "satisfice_cluster_handed_on_total",
                "Batches that another replica answered",
                self.node.handed_on(),
            ),
            plain(
                "satisfice_cluster_batches_total",
                "Batches that the node's workers took part in",
                status.batches,
            ),
            plain(
                "satisfice_cluster_rows_sent_total",
                "Rows of features and embeddings sent to other workers",
                status.rows_sent,
            ),
            plain(
                "satisfice_cluster_link_sent_bytes_total",
                "Bytes sent to other nodes",
                status.link_bytes_sent,
            ),
            plain(
                "satisfice_cluster_link_received_bytes_total",
                "Bytes that came from other nodes",
                status.link_bytes_received,
            ),
        ];
        for (name, counter) in [("partials", &self.by_partials), ("rows", &self.by_rows)] {
            metrics.push(EngineMetric {
                name: "satisfice_cluster_exchanges_total",
                help: "Answers by what was exchanged",
                label: Some(("exchange", name.to_owned())),
                value: counter.load(Ordering::Relaxed),
            });
        }
        metrics.extend(waits(&status));
        metrics
    }
}

/// For whom the node's workers waited: a slow node stands out.
fn waits(status: &NodeStatus) -> impl Iterator<Item = EngineMetric> + '_ {
    status.waits.iter().flat_map(|(worker, waits)| {
        let labelled = |name, help, value| EngineMetric {
            name,
            help,
            label: Some(("worker", worker.to_string())),
            value,
        };
        [
            labelled(
                "satisfice_cluster_waited_for_rounds_total",
                "Rounds that the worker's message ended",
                waits.rounds,
            ),
            labelled(
                "satisfice_cluster_slow_rounds_total",
                "Rounds that the worker was slow in",
                waits.slow_rounds,
            ),
            labelled(
                "satisfice_cluster_waited_for_us_total",
                "Time waited for the worker's message, the last of its round",
                waits.waited_us,
            ),
        ]
    })
}
