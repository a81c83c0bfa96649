use super::{edge_list::EdgeList, edge_order};
use crate::{
    Progress, StoreError, Topology,
    parallel::{find_first, find_first_index},
};
use rayon::prelude::*;

/// What is done to the edges of a graph.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EdgeOptions {
    /// Add the reverse of every edge; goes with `merge`.
    pub reverses: bool,
    /// Keep one of the edges from the same source to the same target, with the sum of their weights.
    pub merge: bool,
    /// Leave out edges from a node to itself.
    pub remove_self_loops: bool,
}

/// In-edges of every node, sources ascending; edges from one source in the order in which they were given.
#[derive(Debug, PartialEq)]
pub(crate) struct Adjacency {
    /// `[nodes + 1]`
    pub indptr: Vec<u64>,
    /// `[edges]`
    pub indices: Vec<u32>,
    /// A weight an edge, where edges have them, `[edges]`.
    pub weights: Option<Vec<f32>>,
    /// Edges beyond the first from the same source to the same target, merged or not.
    pub duplicates: u64,
}

/// Nodes with edges to themselves, ascending, and how many each has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SelfLoops {
    pub nodes: Vec<u32>,
    pub counts: Vec<u32>,
}

impl Adjacency {
    /// Two passes over the edges: one counts, one puts each source in its target's row. What is held
    /// is the result and one cursor a node.
    pub(crate) fn build(
        edges: &EdgeList,
        nodes: usize,
        options: EdgeOptions,
        progress: &dyn Progress,
    ) -> Result<Self, StoreError> {
        let indptr = row_ends(edges, nodes, options, progress)?;
        let mut cursors = indptr.clone();
        let mut indices = vec![0_u32; indptr[nodes] as usize];
        let mut weights = edges.weighted().then(|| vec![0.0_f32; indices.len()]);
        let mut put = |source: u32, target: u32, weight: f32| {
            let cursor = &mut cursors[target as usize];
            indices[*cursor as usize] = source;
            if let Some(weights) = &mut weights {
                weights[*cursor as usize] = weight;
            }
            *cursor += 1;
        };
        edges.for_each("placing edges", progress, |source, target, weight| {
            if source != target {
                put(source, target, weight);
                if options.reverses {
                    put(target, source, weight);
                }
            } else if !options.remove_self_loops {
                // A loop is its own reverse.
                let times = if options.reverses { 2.0 } else { 1.0 };
                put(source, target, weight * times);
            }
        })?;
        drop(cursors);
        let mut adjacency = Self {
            indptr,
            indices,
            weights,
            duplicates: 0,
        };
        progress.start("sorting edges", None);
        edge_order::sort_rows(
            &adjacency.indptr,
            &mut adjacency.indices,
            adjacency.weights.as_deref_mut(),
        );
        adjacency.duplicates = adjacency.count_duplicates();
        if options.merge && adjacency.duplicates > 0 {
            adjacency.merge();
        }
        adjacency.check_weights(edges)?;
        progress.finish();
        Ok(adjacency)
    }

    /// From rows that are not in order and may hold a neighbour twice; one of each is kept.
    pub(crate) fn of_rows(indptr: Vec<u64>, mut indices: Vec<u32>) -> Self {
        edge_order::sort_rows(&indptr, &mut indices, None);
        let mut adjacency = Self {
            indptr,
            indices,
            weights: None,
            duplicates: 0,
        };
        adjacency.duplicates = adjacency.count_duplicates();
        adjacency.merge();
        adjacency
    }

    pub(crate) fn view(&self) -> Topology<'_> {
        Topology {
            indptr: &self.indptr,
            indices: &self.indices,
        }
    }

    /// Number of out-edges of each node.
    pub(crate) fn out_degree(&self, edges: &EdgeList) -> Result<Vec<u32>, StoreError> {
        let mut degrees = vec![0_u32; self.view().nodes()];
        for &source in &self.indices {
            let degree = &mut degrees[source as usize];
            *degree = degree.saturating_add(1);
        }
        match degrees.iter().position(|&degree| degree == u32::MAX) {
            Some(node) => Err(too_many(edges, node)),
            None => Ok(degrees),
        }
    }

    pub(crate) fn self_loops(&self) -> SelfLoops {
        let mut loops = SelfLoops::default();
        let topology = self.view();
        for node in 0..topology.nodes() as u32 {
            let sources = topology.in_neighbors(node);
            let sources = &sources[sources.partition_point(|&source| source < node)..];
            let count = sources.partition_point(|&source| source == node);
            if count > 0 {
                loops.nodes.push(node);
                loops.counts.push(count as u32);
            }
        }
        loops
    }

    /// An edge (source, target) without its reverse, if there is one.
    pub(crate) fn find_one_way(&self) -> Option<(u32, u32)> {
        let topology = self.view();
        let lone = |node: u32| {
            let sources = topology.in_neighbors(node).iter();
            sources
                .copied()
                .find(|&s| topology.in_neighbors(s).binary_search(&node).is_err())
        };
        let target = find_first_index(topology.nodes(), |node| lone(node as u32).is_some())? as u32;
        Some((lone(target)?, target))
    }

    /// An edge (source, target) that stands twice, if there is one.
    pub(crate) fn find_duplicate(&self) -> Option<(u32, u32)> {
        let topology = self.view();
        let twice = |node: u32| {
            let mut pairs = topology.in_neighbors(node).windows(2);
            pairs.find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
        };
        let target =
            find_first_index(topology.nodes(), |node| twice(node as u32).is_some())? as u32;
        Some((twice(target)?, target))
    }

    /// An edge (source, target) whose weight is not that of its reverse, if there is one.
    pub(crate) fn find_uneven(&self) -> Option<(u32, u32)> {
        self.view().find_uneven(self.weights.as_deref()?)
    }

    /// Sums of finite weights need not be finite.
    fn check_weights(&self, edges: &EdgeList) -> Result<(), StoreError> {
        let Some(weights) = self.weights.as_deref() else {
            return Ok(());
        };
        let Some(at) = find_first(weights, |weight| !weight.is_finite()) else {
            return Ok(());
        };
        let target = self.indptr.partition_point(|&start| start <= at as u64) - 1;
        Err(edges.malformed(format!(
            "the weights of the edges from node {} to node {target} add up to more than a 32-bit float holds",
            self.indices[at]
        )))
    }

    fn count_duplicates(&self) -> u64 {
        let topology = self.view();
        (0..topology.nodes() as u32)
            .into_par_iter()
            .map(|node| {
                let pairs = topology.in_neighbors(node).windows(2);
                pairs.filter(|pair| pair[0] == pair[1]).count() as u64
            })
            .sum()
    }

    /// Keeps one of equal neighbours in each row, in place, with the sum of their weights.
    fn merge(&mut self) {
        let mut end = 0;
        let mut start = 0;
        for row in 0..self.indptr.len() - 1 {
            let row_end = self.indptr[row + 1] as usize;
            while start < row_end {
                let source = self.indices[start];
                let rest = &self.indices[start..row_end];
                let equal = start..start + rest.partition_point(|&other| other == source);
                self.indices[end] = source;
                if let Some(weights) = &mut self.weights {
                    weights[end] = edge_order::sum(&mut weights[equal.clone()]);
                }
                start = equal.end;
                end += 1;
            }
            self.indptr[row + 1] = end as u64;
        }
        self.indices.truncate(end);
        self.indices.shrink_to_fit();
        if let Some(weights) = &mut self.weights {
            weights.truncate(end);
            weights.shrink_to_fit();
        }
    }
}

/// Where each node's row begins and ends, `[nodes + 1]`.
fn row_ends(
    edges: &EdgeList,
    nodes: usize,
    options: EdgeOptions,
    progress: &dyn Progress,
) -> Result<Vec<u64>, StoreError> {
    let mut indptr = vec![0_u64; nodes + 1];
    edges.for_each("counting edges", progress, |source, target, _| {
        if source != target {
            indptr[target as usize + 1] += 1;
            indptr[source as usize + 1] += u64::from(options.reverses);
        } else if !options.remove_self_loops {
            indptr[target as usize + 1] += 1;
        }
    })?;
    if let Some(after) = indptr
        .iter()
        .position(|&degree| degree > u64::from(u32::MAX))
    {
        return Err(too_many(edges, after - 1));
    }
    for node in 0..nodes {
        indptr[node + 1] += indptr[node];
    }
    Ok(indptr)
}

fn too_many(edges: &EdgeList, node: usize) -> StoreError {
    edges.malformed(format!(
        "node {node} (counted from 0) has more than {} edges",
        u32::MAX - 1
    ))
}
