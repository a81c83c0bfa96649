//! How much a stored neighbour deserves to be computed anew.

use super::{
    batch::QueryBatch,
    layer::{NodeScales, Target},
    scale::GraphView,
    scratch::NODES_MAX,
};
use crate::Policy;
use satisfice_core::{Cores, Stopped};
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

/// What `of` makes of each of [`QueryBatch::readers`]: of its place and the node.
pub(crate) fn each_reader<T: Send>(
    batch: &QueryBatch,
    cores: &Cores,
    of: impl Fn(usize, u32) -> T + Sync,
) -> Result<Vec<T>, Stopped> {
    let readers = batch.readers();
    cores.map(readers.len(), NODES_MAX, |place| {
        of(place, readers[place].0)
    })
}

/// For each of [`QueryBatch::readers`]: the weights with which the queries read it, summed.
pub(crate) fn reach(
    batch: &QueryBatch,
    weight: &ReadWeight<'_>,
    cores: &Cores,
) -> Result<Vec<f64>, Stopped> {
    each_reader(batch, cores, |place, node| {
        let queries = batch.queries_of_reader(place).iter();
        queries
            .map(|&query| weight.of(batch, query as usize, Target::Stored(node)))
            .sum()
    })
}

/// Scores of [`QueryBatch::readers`] by a policy. `share`, which is [`share_of_new_edges`] of a place, `reach` and
/// `changes` are asked for only where the policy looks at them.
pub(crate) fn scores(
    policy: Policy,
    (graph, batch, cores): (GraphView<'_>, &QueryBatch, &Cores),
    share: impl Fn(usize) -> f64 + Sync,
    reach: impl FnOnce() -> Result<Vec<f64>, Stopped>,
    changes: impl FnOnce() -> Vec<f64>,
) -> Result<Vec<f64>, Stopped> {
    let each =
        |score: &(dyn Fn(u32) -> f64 + Sync)| each_reader(batch, cores, |_, node| score(node));
    let shares = || each_reader(batch, cores, |place, _| share(place));
    let times = |a: Vec<f64>, b: Vec<f64>| a.into_iter().zip(b).map(|(a, b)| a * b).collect();
    match policy {
        Policy::Ratio => shares(),
        Policy::Reach => Ok(times(shares()?, reach()?)),
        Policy::Importance => reach(),
        Policy::Degree => each(&|node| f64::from(graph.in_degree(node))),
        Policy::Random => each(&|node| xxh3_64(&node.to_le_bytes()) as f64),
        Policy::Oracle => Ok(times(changes(), reach()?)),
    }
}

/// n / (n + d) of one of [`QueryBatch::readers`], by its place: n = edges from the batch, d = stored in-degree without
/// self-loops.
///
/// Source: OMEGA (arXiv 2501.08547); with mean aggregation it is the exact weight of the new
/// neighbours in the node's new mean.
pub(crate) fn share_of_new_edges(graph: GraphView<'_>, batch: &QueryBatch, place: usize) -> f64 {
    let (new, node) = (batch.new_in_edges(place) as f64, batch.readers()[place].0);
    let old = f64::from(graph.in_degree(node) - graph.self_loops(node));
    if new > 0.0 { new / (new + old) } else { 0.0 }
}
