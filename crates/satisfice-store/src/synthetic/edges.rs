//! Edges, drawn twice from the same random numbers: to count them, and to put them in place.

use super::{Stream, SyntheticSpec, nodes::Nodes};
use crate::{Progress, StoreError, import::Adjacency};
use rand::{RngExt, distr::Distribution};
use rand_distr::weighted::WeightedAliasIndex;
use rayon::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Pairs that share one stream of random numbers.
const PART: u64 = 1 << 16;

/// The edges of a graph.
#[derive(Debug)]
pub(crate) struct Drawn {
    /// Between stored nodes, both directions.
    pub adjacency: Adjacency,
    pub queries: QueryEdges,
}

/// The edges of those held-out nodes that are written as queries, each pair once, ascending.
#[derive(Debug, Default)]
pub(crate) struct QueryEdges {
    /// (query, stored node)
    pub to_stored: Vec<(u32, u32)>,
    /// (query, query), the smaller first.
    pub between: Vec<(u32, u32)>,
}

/// Draws all edges.
pub(crate) fn draw(
    spec: &SyntheticSpec,
    nodes: &Nodes,
    progress: &dyn Progress,
) -> Result<Drawn, StoreError> {
    let drawer = Drawer::new(spec, nodes)?;
    let stored = spec.stored() as u32;
    let degrees = zeros(stored as usize);
    let count = |node: u32| degrees[node as usize].fetch_add(1, Relaxed);
    let queries = drawer.each("counting edges", progress, |(a, b)| {
        if a < stored && b < stored {
            count(a);
            count(b);
        }
    });
    let mut indptr = vec![0; stored as usize + 1];
    for (node, degree) in degrees.iter().enumerate() {
        indptr[node + 1] = indptr[node] + u64::from(degree.load(Relaxed));
        // From here on it counts the places that are taken in the node's row.
        degree.store(0, Relaxed);
    }
    let indices = zeros(indptr[stored as usize] as usize);
    let put = |node: u32, neighbor: u32| {
        let taken = degrees[node as usize].fetch_add(1, Relaxed);
        indices[indptr[node as usize] as usize + taken as usize].store(neighbor, Relaxed);
    };
    drawer.each("placing edges", progress, |(a, b)| {
        if a < stored && b < stored {
            put(a, b);
            put(b, a);
        }
    });
    progress.start("sorting edges", None);
    // Rows are filled in any order; sorted, they are the same on any number of cores.
    let indices = indices.into_iter().map(AtomicU32::into_inner).collect();
    let adjacency = Adjacency::of_rows(indptr, indices);
    progress.finish();
    Ok(Drawn { adjacency, queries })
}

fn zeros(len: usize) -> Vec<AtomicU32> {
    (0..len)
        .into_par_iter()
        .map(|_| AtomicU32::new(0))
        .collect()
}

/// Draws pairs of nodes.
struct Drawer<'a> {
    spec: &'a SyntheticSpec,
    /// Classes by the weight of their members.
    classes: WeightedAliasIndex<f32>,
    members: Vec<Members>,
}

/// The nodes of one class.
struct Members {
    nodes: Vec<u32>,
    /// Positions in `nodes`, by weight.
    by_weight: WeightedAliasIndex<f32>,
}

impl<'a> Drawer<'a> {
    fn new(spec: &'a SyntheticSpec, nodes: &Nodes) -> Result<Self, StoreError> {
        let mut by_class = vec![(Vec::new(), Vec::new()); spec.classes];
        for (node, (&class, &weight)) in nodes.classes.iter().zip(&nodes.weights).enumerate() {
            let (members, weights) = &mut by_class[class as usize];
            members.push(node as u32);
            weights.push(weight);
        }
        let empty = |class: usize| StoreError::Synthetic {
            message: format!(
                "class {class} of {} came out without nodes: ask for fewer classes or more nodes",
                spec.classes
            ),
        };
        let total = |weights: &Vec<f32>| weights.iter().map(|&w| f64::from(w)).sum::<f64>() as f32;
        let totals = by_class.iter().map(|(_, weights)| total(weights)).collect();
        let members = by_class
            .into_iter()
            .enumerate()
            .map(|(class, (nodes, weights))| {
                let by_weight = WeightedAliasIndex::new(weights).map_err(|_| empty(class))?;
                Ok(Members { nodes, by_weight })
            });
        Ok(Self {
            spec,
            members: members.collect::<Result<_, StoreError>>()?,
            classes: WeightedAliasIndex::new(totals).map_err(|_| empty(0))?,
        })
    }

    /// Calls `edge` with every pair of different nodes, on all cores, in no order, and returns the
    /// edges of queries.
    fn each(
        &self,
        task: &str,
        progress: &dyn Progress,
        edge: impl Fn((u32, u32)) + Sync,
    ) -> QueryEdges {
        let pairs = self.spec.edges / 2;
        progress.start(task, Some(pairs));
        let parts = (0..pairs.div_ceil(PART)).into_par_iter();
        let queries = parts.fold(QueryEdges::default, |mut queries, part| {
            let mut rng = self.spec.rng(Stream::Edges, part);
            let count = PART.min(pairs - part * PART);
            for _ in 0..count {
                let class = self.classes.sample(&mut rng);
                let other = match rng.random_bool(self.spec.homophily) {
                    true => class,
                    false => self.classes.sample(&mut rng),
                };
                let mut of = |class: usize| {
                    let members = &self.members[class];
                    members.nodes[members.by_weight.sample(&mut rng)]
                };
                let pair = (of(class), of(other));
                if pair.0 != pair.1 {
                    edge(pair);
                    self.keep(pair, &mut queries);
                }
            }
            progress.advance(count);
            queries
        });
        let queries = parts_joined(queries);
        progress.finish();
        queries
    }

    /// Keeps an edge of a query that is written.
    fn keep(&self, (a, b): (u32, u32), queries: &mut QueryEdges) {
        let stored = self.spec.stored() as u32;
        let (low, high) = (a.min(b), a.max(b));
        let written =
            |node: u32| node >= stored && ((node - stored) as usize) < self.spec.queries_max;
        if low < stored && written(high) {
            queries.to_stored.push((high - stored, low));
        } else if written(low) && written(high) {
            queries.between.push((low - stored, high - stored));
        }
    }
}

fn parts_joined(parts: impl ParallelIterator<Item = QueryEdges>) -> QueryEdges {
    let mut all = parts.reduce(QueryEdges::default, |mut all, part| {
        all.to_stored.extend(part.to_stored);
        all.between.extend(part.between);
        all
    });
    for pairs in [&mut all.to_stored, &mut all.between] {
        pairs.par_sort_unstable();
        pairs.dedup();
    }
    all
}
