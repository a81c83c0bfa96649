//! How much a stored neighbour deserves to be computed anew.

use super::{
    batch::QueryBatch,
    layer::{NodeScales, Target, clear_slots, set_slots},
    scale::GraphView,
};
use crate::Policy;
use xxhash_rust::xxh3::xxh3_64;

/// The weight with which the last layer's sum for a query counts one source.
#[derive(Debug)]
pub(crate) enum ReadWeight<'a> {
    /// One share among the query's sources: means, maxima, and attention for want of better.
    Share,
    /// A factor of the source times a factor of the query, each 1 where there is none: sums.
    Scales(Option<NodeScales<'a>>, Option<NodeScales<'a>>),
}

impl ReadWeight<'_> {
    /// The weight of one source of a query.
    pub(crate) fn of(&self, batch: &QueryBatch, query: usize, source: Target) -> f64 {
        let scale = |scales: &Option<NodeScales<'_>>, target| match scales {
            Some(scales) => f64::from(scales.of(target)),
            None => 1.0,
        };
        match self {
            Self::Share => 1.0 / batch.query_in_degree(query) as f64,
            Self::Scales(of_source, of_target) => {
                scale(of_source, source) * scale(of_target, Target::Query(query as u32))
            }
        }
    }
}

/// For each of [`QueryBatch::readers`]: the weights with which the queries read it, summed. `slots`
/// are left as they were found.
pub(crate) fn reach(batch: &QueryBatch, weight: &ReadWeight<'_>, slots: &mut [u32]) -> Vec<f64> {
    let nodes: Vec<u32> = batch.reader_nodes().collect();
    set_slots(slots, 0, &nodes);
    let mut reach = vec![0.0; nodes.len()];
    for query in 0..batch.queries() {
        for &node in batch.stored_into_query(query) {
            reach[slots[node as usize] as usize] += weight.of(batch, query, Target::Stored(node));
        }
    }
    clear_slots(slots, &nodes);
    reach
}

/// Scores of [`QueryBatch::readers`] by a policy. `reach` and `changes` are asked for only where the
/// policy looks at them.
pub(crate) fn scores(
    policy: Policy,
    graph: GraphView<'_>,
    batch: &QueryBatch,
    reach: impl FnOnce() -> Vec<f64>,
    changes: impl FnOnce() -> Vec<f64>,
) -> Vec<f64> {
    let each =
        |score: &dyn Fn(u32) -> f64| -> Vec<f64> { batch.reader_nodes().map(score).collect() };
    let times = |a: Vec<f64>, b: Vec<f64>| a.into_iter().zip(b).map(|(a, b)| a * b).collect();
    let ratio = |node: u32| share_of_new_edges(graph, batch, node);
    match policy {
        Policy::Ratio => each(&ratio),
        Policy::Reach => times(each(&ratio), reach()),
        Policy::Importance => reach(),
        Policy::Degree => each(&|node| f64::from(graph.topology.in_degree(node))),
        Policy::Random => each(&|node| xxh3_64(&node.to_le_bytes()) as f64),
        Policy::Oracle => times(changes(), reach()),
    }
}

/// n / (n + d): n = edges from the batch, d = stored in-degree without self-loops.
///
/// Source: OMEGA (arXiv 2501.08547); with mean aggregation it is the exact weight of the new
/// neighbours in the node's new mean.
pub(crate) fn share_of_new_edges(graph: GraphView<'_>, batch: &QueryBatch, node: u32) -> f64 {
    let new = batch.query_into_stored(node).len() as f64;
    let degrees = graph.degrees(node);
    let old = f64::from(degrees.incoming - degrees.loops);
    if new > 0.0 { new / (new + old) } else { 0.0 }
}
