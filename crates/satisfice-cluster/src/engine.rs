//! A cluster's node as an engine: the existing server serves it like any other.

use crate::{
    BatchAnswer, Choice, ClusterError, ClusterNode, Exchange, GroupState, NodeStatus,
    choice::{Cost, predict},
};
use satisfice_core::{
    Engine, EngineMetric, Error, ErrorKind, InferRequest, InferResponse, ModelMetadata, Parameter,
    Parameters,
};
use satisfice_graph::{GraphFacts, Plan, QueryBatch, RequestFormat};
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
        Ok(Self {
            format,
            node,
            by_partials: AtomicU64::new(0),
            by_rows: AtomicU64::new(0),
        })
    }

    /// What to exchange for a batch, and what that is predicted to cost.
    fn choose(&self, batch: &QueryBatch, plan: Plan, choice: Choice) -> (Exchange, Cost) {
        let config = self.node.config();
        let links = (config.wire, config.link_costs());
        let cost = |exchange| predict(self.node.part(), (batch, plan), exchange, links);
        let (partials, rows) = (cost(Exchange::Partials), cost(Exchange::Rows));
        match choice {
            Choice::Rows => (Exchange::Rows, rows),
            Choice::Auto if rows.seconds < partials.seconds => (Exchange::Rows, rows),
            Choice::Auto | Choice::Partials => (Exchange::Partials, partials),
        }
    }

    /// The configuration's choice, unless the request may choose and does.
    fn choice_of(&self, request: &InferRequest) -> Result<Choice, Error> {
        let configured = self.node.config().exchange;
        let word = match request.parameters.get("exchange") {
            None => return Ok(configured),
            Some(Parameter::String(word)) => word.as_str(),
            Some(_) => "",
        };
        let wanted = match word {
            "auto" => Choice::Auto,
            "partials" => Choice::Partials,
            "rows" => Choice::Rows,
            _ => {
                let message = "parameter `exchange` is `auto`, `partials` or `rows`";
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "unknown_exchange",
                    message,
                ));
            }
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
        // Every source's row is read once an edge, by who holds it.
        ("rows".to_owned(), count(answer.edges)),
        ("exchange".to_owned(), answer.exchange.name().into()),
        ("exchange_bytes".to_owned(), count(answer.layer_bytes)),
        (
            "exchange_bytes_predicted".to_owned(),
            count(cost.bytes as u64),
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
        let start = Instant::now();
        let (batch, plan) = self.format.decode(request, self.node.part().ids())?;
        let plan = plan.unwrap_or(self.format.default_plan());
        let (exchange, cost) = self.choose(&batch, plan, self.choice_of(request)?);
        let decode = start.elapsed();
        let answer = self.node.answer(&batch, plan, exchange)?;
        let counter = match exchange {
            Exchange::Partials => &self.by_partials,
            Exchange::Rows => &self.by_rows,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut parameters = describe(plan, &batch, &answer, cost);
        parameters.insert("decode_us".to_owned(), micros(decode));
        Ok(InferResponse {
            outputs: self.format.encode(&request.outputs, answer.outputs)?,
            parameters,
        })
    }

    fn is_ready(&self) -> bool {
        matches!(self.node.status().state, GroupState::Ready { .. })
    }

    fn metrics(&self) -> Vec<EngineMetric> {
        let status = self.node.status();
        let plain = |name, help, value| EngineMetric {
            name,
            help,
            label: None,
            value,
        };
        let mut metrics = vec![
            plain(
                "satisfice_cluster_ready",
                "Whether the group is whole",
                u64::from(self.is_ready()),
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
                "satisfice_cluster_waited_for_us_total",
                "Time waited for the worker's message, the last of its round",
                waits.waited_us,
            ),
        ]
    })
}
