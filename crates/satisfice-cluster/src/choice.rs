//! What to exchange for a batch: partial results, or the rows of sources, by what either is going to cost.

use crate::{Exchange, Part, Wire, job::Head};
use satisfice_graph::{Plan, QueryBatch};
use serde::{Deserialize, Serialize};

/// Who chooses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// Whatever is predicted to take less time.
    #[default]
    Auto,
    /// Always partial results: rows of features and embeddings never leave their machine.
    Partials,
    /// Always rows.
    Rows,
}

/// What the links between nodes do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkCosts {
    /// What a node sends, in bytes a second.
    pub bytes_per_second: f64,
    /// One exchange of small messages, in seconds.
    pub round_seconds: f64,
}

/// What an exchange is predicted to cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Bytes between different workers over all layers, of partial results or rows and what goes with
    /// them.
    pub bytes: f64,
    /// Exchanges.
    pub rounds: usize,
    /// Time for both.
    pub seconds: f64,
}

/// Bytes before the numbers of a section.
const SECTION_BYTES: f64 = 16.0;

/// Predicts the cost of answering a batch by `exchange`. Exact for the queries; for stored nodes that are
/// computed anew, whose sources are known to their owners only, by the graph's mean in-degree.
pub fn predict(
    part: &Part,
    (batch, plan): (&QueryBatch, Plan),
    exchange: Exchange,
    (wire, costs): (Wire, LinkCosts),
) -> Cost {
    let manifest = part.manifest();
    let (model, workers) = (part.model(), manifest.parts);
    let value = match wire {
        Wire::F32 => 4.0,
        Wire::F16 => 2.0,
    };
    let owners = part.owners().unwrap_or_default();
    let seen = Crossings::count(batch, owners, workers);
    let fresh = fresh_nodes(batch, plan);
    let in_degree = manifest.graph_edges as f64 / manifest.graph_nodes.max(1) as f64;
    let others = workers as f64 - 1.0;
    // A node's sources lie with every worker alike.
    let parts_of_fresh = others * (1.0 - (1.0 - 1.0 / workers as f64).powf(in_degree));
    let rows_of_fresh = in_degree * others / workers as f64;
    let (mut bytes, mut rounds) = (0.0, 0);
    for layer in 0..model.layers() {
        let split = model.split_layer(layer);
        let fresh = if layer + 1 < model.layers() {
            fresh
        } else {
            0.0
        };
        let targets = batch.queries() as f64 + fresh;
        let links = others * workers as f64;
        rounds += 1;
        match exchange {
            Exchange::Partials => {
                let partials = seen.partials as f64 + fresh * parts_of_fresh;
                bytes += partials * split.partial_width() as f64 * value;
                bytes += others * targets.div_euclid(32.0).max(1.0) * 4.0;
                bytes += links * 2.0 * SECTION_BYTES;
                if split.term_width() > 0 {
                    rounds += 1;
                    bytes += others * targets * split.term_width() as f64 * value;
                    bytes += links * SECTION_BYTES;
                }
            }
            Exchange::Rows => {
                let rows = seen.rows as f64 + fresh * rows_of_fresh;
                let edges = seen.edges as f64 + fresh * rows_of_fresh;
                let scale = if split.scales().0.is_some() { 4.0 } else { 0.0 };
                bytes += rows * (split.message_width() as f64 * value + scale);
                bytes += edges * 4.0 + others * targets * 4.0;
                bytes += links * 4.0 * SECTION_BYTES;
            }
        }
    }
    // Nodes send at once, each its share.
    let seconds =
        bytes / workers as f64 / costs.bytes_per_second + rounds as f64 * costs.round_seconds;
    Cost {
        bytes,
        rounds,
        seconds,
    }
}

/// Stored nodes that a plan computes anew at each layer but the last: all candidates where only the
/// workers can tell.
fn fresh_nodes(batch: &QueryBatch, plan: Plan) -> f64 {
    let candidates = batch.readers().len() as f64;
    match plan {
        Plan::Precomputed => 0.0,
        Plan::Recompute { budget, .. } => (budget * candidates + 0.5).floor(),
        Plan::Refresh | Plan::Exact => candidates,
    }
}

/// What crosses from worker to worker for the queries of a batch, in one layer.
#[derive(Debug, Default)]
struct Crossings {
    /// Pairs of a query and another worker than its owner that holds a source of it.
    partials: usize,
    /// Pairs of a source and another worker than its owner that reads it.
    rows: usize,
    /// Edges to a query from another worker than its owner.
    edges: usize,
}

impl Crossings {
    fn count(batch: &QueryBatch, owners: &[u8], workers: usize) -> Self {
        let head = Head::new(batch, Plan::Precomputed, Exchange::Partials, workers);
        let mut owner_of = vec![0_usize; batch.queries()];
        for worker in 0..workers {
            owner_of[head.owned(worker, workers)].fill(worker);
        }
        let mut found = Self::default();
        let mut pairs: Vec<(usize, bool, u32)> = Vec::new();
        let mut holders = vec![usize::MAX; workers];
        for query in 0..batch.queries() {
            let reader = owner_of[query];
            let stored = batch.stored_into_query(query).iter();
            let queries = batch.query_into_query(query).iter();
            let sources = stored
                .map(|&node| (owners[node as usize] as usize, true, node))
                .chain(queries.map(|&q| (owner_of[q as usize], false, q)));
            for (holder, is_stored, source) in sources.filter(|source| source.0 != reader) {
                found.edges += 1;
                pairs.push((reader, is_stored, source));
                if std::mem::replace(&mut holders[holder], query) != query {
                    found.partials += 1;
                }
            }
        }
        pairs.sort_unstable();
        pairs.dedup();
        found.rows = pairs.len();
        found
    }
}
