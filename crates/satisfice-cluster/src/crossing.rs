//! How much crosses from worker to worker in a layer: counted for queries, expected for stored nodes, whose
//! sources only their owners know. Expected values hold for parts that nodes were spread over evenly.

use crate::{ClusterError, Exchange, Part, job::Head};
use satisfice_graph::{Plan, QueryBatch, Reduction};
use std::collections::BTreeMap;

/// What crosses in one layer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Crossings {
    /// Pairs of a target and another worker than its owner that reduces a source of it.
    pub partials: f64,
    /// Pairs of a source's row and another worker than its owner that reads it.
    pub rows: f64,
    /// Edges whose source another worker has than the target's owner.
    pub edges: f64,
}

impl Crossings {
    fn plus(self, other: Self) -> Self {
        Self {
            partials: self.partials + other.partials,
            rows: self.rows + other.rows,
            edges: self.edges + other.edges,
        }
    }
}

/// Nodes of about one out-degree: the degree, and how many.
pub(crate) type OutDegrees = Vec<(f64, f64)>;

/// Counts nodes by out-degree, in classes a quarter of an octave wide.
pub(crate) fn out_degrees(degrees: impl Iterator<Item = u32>) -> OutDegrees {
    let mut classes: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for degree in degrees.filter(|&degree| degree > 0) {
        let degree = f64::from(degree);
        let class = classes.entry((4.0 * degree.log2()) as i64).or_default();
        *class = (class.0 + degree, class.1 + 1.0);
    }
    let mean = |(sum, count): (f64, f64)| (sum / count, count);
    classes.into_values().map(mean).collect()
}

/// Stored nodes that a plan computes anew, as far as it is known before it runs.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    /// (node, in-degree in the graph, share of it that is expected to be computed), ascending.
    nodes: Vec<(u32, u32, f64)>,
}

impl Fresh {
    /// Number of nodes.
    pub(crate) fn len(&self) -> f64 {
        self.nodes.iter().map(|&(_, _, weight)| weight).sum()
    }

    /// Of a plan. Which neighbours `recompute` chooses follows from degrees for its default policy, and is
    /// taken to be the same for the others. Of `exact`, the nodes that the last layer reads.
    pub(crate) fn of(part: &Part, batch: &QueryBatch, plan: Plan) -> Result<Self, ClusterError> {
        let degrees = part.degrees()?;
        let in_degree = |node: u32| degrees.of(node).incoming;
        let readers = batch.readers().iter().map(|&(node, _)| node);
        let every = |node: u32| (node, in_degree(node), 1.0);
        let nodes = match plan {
            Plan::Precomputed => Vec::new(),
            Plan::Recompute { budget, .. } => {
                let count = (budget * batch.readers().len() as f64 + 0.5).floor() as usize;
                let score = |node: u32| {
                    let new = batch.query_into_stored(node).len() as f64;
                    let old = degrees.of(node);
                    let share = new / (new + f64::from(old.incoming - old.loops));
                    (if new > 0.0 { share } else { 0.0 }, node)
                };
                let mut scored: Vec<(f64, u32)> = readers.map(score).collect();
                if (1..scored.len()).contains(&count) {
                    scored.select_nth_unstable_by(count - 1, |a, b| {
                        b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
                    });
                }
                scored.truncate(count);
                let mut nodes: Vec<_> = scored.into_iter().map(|(_, node)| every(node)).collect();
                nodes.sort_unstable_by_key(|&(node, ..)| node);
                nodes
            }
            Plan::Refresh => readers.map(every).collect(),
            Plan::Exact => {
                let effects = part.model().degree_effects();
                let mut rescaled = 0.0;
                if effects.in_degree_at_source {
                    rescaled += out_edges(part, batch.touched().iter().copied())?;
                }
                if effects.out_degree_at_source {
                    rescaled += out_edges(part, readers.clone())?;
                }
                let share = (rescaled / part.manifest().graph_edges.max(1) as f64).min(1.0);
                readers
                    .map(|node| {
                        let in_degree = in_degree(node);
                        let weight = match batch.query_into_stored(node).is_empty() {
                            false => 1.0,
                            true => reached(share, f64::from(in_degree)),
                        };
                        (node, in_degree, weight)
                    })
                    .collect()
            }
        };
        Ok(Self { nodes })
    }
}

/// The chance that one of `draws` hits what is `share` of all.
fn reached(share: f64, draws: f64) -> f64 {
    1.0 - (1.0 - share).powf(draws)
}

fn out_edges(part: &Part, nodes: impl Iterator<Item = u32>) -> Result<f64, ClusterError> {
    let out_degree = part.degrees()?.out_degree;
    Ok(nodes.map(|node| f64::from(out_degree[node as usize])).sum())
}

/// A batch on its way over the workers.
pub(crate) struct Traffic<'a> {
    part: &'a Part,
    batch: &'a QueryBatch,
    head: Head,
    workers: usize,
    owner_of_query: Vec<usize>,
    owners: &'a [u8],
}

impl<'a> Traffic<'a> {
    pub(crate) fn new(
        part: &'a Part,
        (batch, plan): (&'a QueryBatch, Plan),
    ) -> Result<Self, ClusterError> {
        let workers = part.manifest().parts;
        let head = Head::new(batch, plan, Exchange::Partials, workers);
        let mut owner_of_query = vec![0; batch.queries()];
        for worker in 0..workers {
            owner_of_query[head.owned(worker, workers)].fill(worker);
        }
        Ok(Self {
            part,
            batch,
            head,
            workers,
            owner_of_query,
            owners: part.owners()?,
        })
    }

    /// What crosses for the queries, counted.
    pub(crate) fn of_queries(&self) -> Crossings {
        let mut found = Crossings::default();
        let mut holders = vec![usize::MAX; self.workers];
        let mut between: Vec<(usize, u32)> = Vec::new();
        for query in 0..self.batch.queries() {
            let reader = self.owner_of_query[query];
            let stored = self.batch.stored_into_query(query).iter();
            let stored = stored.map(|&node| self.owners[node as usize] as usize);
            let queries = self.batch.query_into_query(query).iter();
            let queries = queries.map(|&query| (self.owner_of_query[query as usize], query));
            let from_others = queries.filter(|source| source.0 != reader);
            between.extend(from_others.clone().map(|(_, query)| (reader, query)));
            let holders_of_sources = stored.chain(from_others.map(|(holder, _)| holder));
            for holder in holders_of_sources.filter(|&holder| holder != reader) {
                found.edges += 1.0;
                if std::mem::replace(&mut holders[holder], query) != query {
                    found.partials += 1.0;
                }
            }
        }
        between.sort_unstable();
        between.dedup();
        found.rows = between.len() as f64;
        let mut read_by = vec![u32::MAX; self.workers];
        for (node, queries) in self.batch.readers_of_stored() {
            let owner = self.owners[node as usize] as usize;
            let readers = queries.iter().map(|&q| self.owner_of_query[q as usize]);
            for reader in readers.filter(|&reader| reader != owner) {
                if std::mem::replace(&mut read_by[reader], node) != node {
                    found.rows += 1.0;
                }
            }
        }
        found
    }

    /// What crosses for a layer's fresh nodes; `below` were fresh in the layer below.
    pub(crate) fn of_fresh(
        &self,
        layer: usize,
        fresh: &Fresh,
        below: &Fresh,
    ) -> Result<Crossings, ClusterError> {
        let edges_of_graph = self.part.manifest().graph_edges.max(1) as f64;
        // Which of their stored sources are read: all, or those that changed, as they were and as they are.
        let (share, times, sources) = match self.changed(layer, below)? {
            None => (1.0, 1.0, self.part.out_degrees()?.clone()),
            Some(changed) => {
                let edges: f64 = changed.iter().map(|(degree, count)| degree * count).sum();
                ((edges / edges_of_graph).min(1.0), 2.0, changed)
            }
        };
        let (workers, others) = (self.workers as f64, self.workers as f64 - 1.0);
        let mut found = Crossings::default();
        let mut of_owner = vec![0.0; self.workers];
        let mut is_read = vec![false; self.workers * self.batch.queries()];
        let mut holders = vec![u32::MAX; self.workers];
        for &(node, in_degree, weight) in &fresh.nodes {
            let owner = self.owners[node as usize] as usize;
            let queries = self.batch.query_into_stored(node).iter();
            let queries = queries.map(|&query| (self.owner_of_query[query as usize], query));
            let mut sure = 0.0;
            for (holder, query) in queries.filter(|query| query.0 != owner) {
                found.edges += 1.0;
                is_read[owner * self.batch.queries() + query as usize] = true;
                if std::mem::replace(&mut holders[holder], node) != node {
                    sure += 1.0;
                }
            }
            let in_degree = f64::from(in_degree);
            found.partials += sure + weight * (others - sure) * reached(share / workers, in_degree);
            found.edges += weight * in_degree * share * times * others / workers;
            of_owner[owner] += weight * in_degree;
        }
        found.rows += is_read.iter().filter(|&&read| read).count() as f64;
        for edges in of_owner {
            let read =
                |&(degree, count): &(f64, f64)| count * reached(edges / edges_of_graph, degree);
            found.rows += times * others / workers * sources.iter().map(read).sum::<f64>();
        }
        Ok(found)
    }

    /// The sources that changed, where fresh nodes bring kept sums up to date; nothing where they read all.
    fn changed(&self, layer: usize, below: &Fresh) -> Result<Option<OutDegrees>, ClusterError> {
        let (part, batch) = (self.part, self.batch);
        if !keeps_sums(part, layer, self.head, below.len())? {
            return Ok(None);
        }
        if self.head.plan == Plan::Refresh {
            return Ok(Some(Vec::new()));
        }
        let out_degree = part.degrees()?.out_degree;
        let degree = |node: u32| out_degree[node as usize];
        let mut nodes: Vec<u32> = below.nodes.iter().map(|&(node, ..)| node).collect();
        match part.model().split_layer(layer).scales().0 {
            None => {}
            Some(scale) if scale.follows_out_degree() => {
                nodes.extend(batch.readers().iter().map(|&(node, _)| node));
            }
            Some(_) => nodes.extend(batch.touched()),
        }
        nodes.sort_unstable();
        nodes.dedup();
        Ok(Some(out_degrees(nodes.into_iter().map(degree))))
    }

    /// What crosses in a layer.
    pub(crate) fn of_layer(
        &self,
        layer: usize,
        queries: Crossings,
        (fresh, below): (&Fresh, &Fresh),
    ) -> Result<Crossings, ClusterError> {
        // What is read at level 0 never changes.
        let unchanged = Fresh::default();
        let below = match self.part.model().level_read(layer) {
            0 => &unchanged,
            _ => below,
        };
        match fresh.nodes.is_empty() {
            true => Ok(queries),
            false => Ok(queries.plus(self.of_fresh(layer, fresh, below)?)),
        }
    }
}

/// Of how many nodes one at most may have changed for kept sums to be brought up to date: what a changed
/// source costs is twice what it costs to read it alone.
const CHANGED_OF: f64 = 4.0;

/// Whether the fresh nodes of a layer start from what is kept of their sources, instead of reading all
/// sources: `refresh` does, and sums are brought up to date where little changed. `below` nodes were fresh in the layer below. All workers say the same: it follows
/// from what all know.
pub(crate) fn keeps_sums(
    part: &Part,
    layer: usize,
    head: Head,
    below: f64,
) -> Result<bool, ClusterError> {
    let split = part.model().split_layer(layer);
    if part.kept_rows(layer)?.is_none() {
        return Ok(false);
    }
    if head.plan == Plan::Refresh {
        return Ok(true);
    }
    // From other reductions nothing can be taken.
    if !matches!(split.reduction(), Reduction::Sum { .. }) {
        return Ok(false);
    }
    let rescaled = match split.scales().0 {
        None => 0,
        Some(scale) if scale.follows_out_degree() => head.candidates,
        Some(_) => head.touched,
    };
    let changed = rescaled as f64 + below;
    Ok(CHANGED_OF * changed <= part.manifest().graph_nodes as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_out_degrees_keep_nodes_and_edges() {
        let degrees = [0, 1, 1, 2, 3, 500, 501, 502, 40_000];
        let classes = out_degrees(degrees.into_iter());
        let nodes: f64 = classes.iter().map(|class| class.1).sum();
        let edges: f64 = classes.iter().map(|class| class.0 * class.1).sum();
        assert!(
            (nodes - 8.0).abs() < 1e-6,
            "a node without an edge is nobody's source"
        );
        let total: u32 = degrees.iter().sum();
        assert!((edges - f64::from(total)).abs() < 1e-6);
        assert!(classes.len() < 8);
    }
}
