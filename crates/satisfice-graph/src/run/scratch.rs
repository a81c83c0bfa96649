//! Space of the size of the graph, and of what requests compute of it, that a request uses and leaves for the next.

use super::{
    batch::QueryBatch,
    cores::NODES_MAX,
    scale::{DegreeScale, GraphView},
};
use std::sync::{Mutex, PoisonError};

/// No row: the node is read as stored.
pub(crate) const NONE: u32 = u32::MAX;

/// No row either, but the batch changes the node's factor as a source.
pub(crate) const RESCALED: u32 = u32::MAX - 1;

/// One request's space: reused by later ones, never shared by two at once.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// Stored node -> row among the rows computed anew at the level that is read; [`NONE`] = it is
    /// read as stored. All [`NONE`] between requests.
    pub slots: Vec<u32>,
    /// For each of the model's scales: the factor of every stored node with the batch attached; as
    /// without a batch between requests.
    pub scales: Vec<Vec<f32>>,
    /// Marks of the node sets' search; all 0 between requests.
    pub marks: Vec<Mark>,
    /// Space for the values that one layer reads and those that it leaves, by the layer's index. What they
    /// hold means nothing.
    pub values: [Vec<f32>; 2],
    /// Space for the messages made of such values.
    pub messages: Vec<f32>,
}

/// What a search knows of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// One more than a number of hops within which a change reaches the node; 0 = none known.
    pub reached: u8,
    /// One more than a number of hops within which no change reaches the node; 0 = none known.
    pub unreached: u8,
    /// Whether the node has been listed.
    pub listed: bool,
    /// Whether a query has an edge to the node.
    pub touched: bool,
    /// Whether the node has an edge to a query.
    pub read: bool,
}

/// Spaces that no request uses just now, and what a new one starts from.
#[derive(Debug)]
pub(crate) struct ScratchPool {
    free: Mutex<Vec<Scratch>>,
    kinds: Vec<DegreeScale>,
    /// For each kind: the factor of every stored node without a batch.
    scales: Vec<Vec<f32>>,
}

impl ScratchPool {
    /// For a model's `kinds` of degree scales on a graph.
    pub(crate) fn new(graph: GraphView<'_>, kinds: Vec<DegreeScale>) -> Self {
        Self {
            free: Mutex::new(Vec::new()),
            scales: kinds.iter().map(|&kind| graph.scales(kind)).collect(),
            kinds,
        }
    }

    /// For each kind of degree scale: the factor of every stored node without a batch.
    pub(crate) fn scales(&self) -> &[Vec<f32>] {
        &self.scales
    }

    /// Runs `work` with a space prepared for `batch`. A space whose work panicked is not used again.
    pub(crate) fn with<T>(
        &self,
        graph: GraphView<'_>,
        batch: &QueryBatch,
        work: impl FnOnce(&mut Scratch) -> T,
    ) -> T {
        let free = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut scratch = free.unwrap_or_else(|| Scratch {
            slots: vec![NONE; graph.topology.nodes()],
            scales: self.scales.clone(),
            marks: vec![Mark::default(); graph.topology.nodes()],
            values: Default::default(),
            messages: Vec::new(),
        });
        self.attach(graph, batch, &mut scratch, true);
        let result = work(&mut scratch);
        self.attach(graph, batch, &mut scratch, false);
        self.free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(scratch);
        result
    }

    /// Sets the factors of the nodes whose degree the batch changes, or sets them back.
    fn attach(
        &self,
        graph: GraphView<'_>,
        batch: &QueryBatch,
        scratch: &mut Scratch,
        attached: bool,
    ) {
        for ((kind, values), base) in self.kinds.iter().zip(&mut scratch.scales).zip(&self.scales) {
            let out = kind.follows_out_degree();
            let changed = match out {
                true => batch.readers(),
                false => batch.touched_degrees(),
            };
            set_factors((values, 0), changed, &|node, edges| {
                if !attached {
                    return base[node as usize];
                }
                let mut degrees = graph.degrees(node);
                match out {
                    true => degrees.outgoing += edges,
                    false => degrees.incoming += edges,
                }
                kind.of(degrees)
            });
        }
    }
}

/// Sets the factors of nodes, ascending, each with a number of edges, on all cores; `values` are those of the nodes from
/// `first`.
fn set_factors(
    (values, first): (&mut [f32], u32),
    nodes: &[(u32, u32)],
    factor: &(impl Fn(u32, u32) -> f32 + Sync),
) {
    if nodes.len() <= NODES_MAX {
        for &(node, edges) in nodes {
            values[(node - first) as usize] = factor(node, edges);
        }
        return;
    }
    let (below, above) = nodes.split_at(nodes.len() / 2);
    let middle = above[0].0;
    let (low, high) = values.split_at_mut((middle - first) as usize);
    rayon::join(
        || set_factors((low, first), below, factor),
        || set_factors((high, middle), above, factor),
    );
}
