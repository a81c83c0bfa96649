//! Space of the size of the graph, and of what requests compute of it, that a request uses and leaves for the next.

use super::{
    batch::QueryBatch,
    scale::{DegreeScale, GraphView},
};
use satisfice_core::{Cores, Stopped};
use std::sync::{Mutex, PoisonError};

/// No row: the node is read as stored.
pub(crate) const NONE: u32 = u32::MAX;

/// No row either, but the batch changes the node's factor as a source.
pub(crate) const RESCALED: u32 = u32::MAX - 1;

/// Nodes that one core deals with at a time: so few are done before another has woken.
pub(super) const NODES_MAX: usize = 1 << 13;

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

    /// For the same graph after changes, with the spaces that are free; `changed` are the nodes whose factors may be others.
    pub(crate) fn after(&self, graph: GraphView<'_>, changed: &[u32]) -> Self {
        let (nodes, kinds) = (graph.nodes(), self.kinds.clone());
        let renew = |scales: &mut [Vec<f32>], factor: &dyn Fn(usize, u32) -> f32| {
            for (kind, values) in scales.iter_mut().enumerate() {
                values.resize(nodes, 0.0);
                for &node in changed {
                    values[node as usize] = factor(kind, node);
                }
            }
        };
        let mut scales = self.scales.clone();
        renew(&mut scales, &|kind, node| {
            kinds[kind].of(graph.degrees(node))
        });
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut spaces = std::mem::take(&mut *free);
        drop(free);
        for space in &mut spaces {
            space.slots.resize(nodes, NONE);
            space.marks.resize(nodes, Mark::default());
            renew(&mut space.scales, &|kind, node| scales[kind][node as usize]);
        }
        Self {
            free: Mutex::new(spaces),
            kinds,
            scales,
        }
    }

    /// For each kind of degree scale: the factor of every stored node without a batch.
    pub(crate) fn scales(&self) -> &[Vec<f32>] {
        &self.scales
    }

    /// Runs `work` with a space prepared for `batch`, which is left as it was found also where the work is told to
    /// stop. A space whose work panicked is not used again.
    pub(crate) fn with<T>(
        &self,
        graph: GraphView<'_>,
        batch: &QueryBatch,
        cores: &Cores,
        work: impl FnOnce(&mut Scratch) -> Result<T, Stopped>,
    ) -> Result<T, Stopped> {
        let free = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut scratch = free.unwrap_or_else(|| Scratch {
            slots: vec![NONE; graph.nodes()],
            scales: self.scales.clone(),
            marks: vec![Mark::default(); graph.nodes()],
            values: Default::default(),
            messages: Vec::new(),
        });
        cores.hold(scratch.bytes());
        let attached = self.attach(graph, batch, &mut scratch, cores);
        let result = attached.and_then(|()| work(&mut scratch));
        self.detach(batch, &mut scratch);
        cores.hold(0);
        self.free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(scratch);
        result
    }

    /// Sets the factors of the nodes whose degree the batch changes.
    fn attach(
        &self,
        graph: GraphView<'_>,
        batch: &QueryBatch,
        scratch: &mut Scratch,
        cores: &Cores,
    ) -> Result<(), Stopped> {
        for (kind, values) in self.kinds.iter().zip(&mut scratch.scales) {
            let out = kind.follows_out_degree();
            set_factors(values, rescaled(*kind, batch), cores, &|node, edges| {
                let mut degrees = graph.degrees(node);
                match out {
                    true => degrees.outgoing += edges,
                    false => degrees.incoming += edges,
                }
                kind.of(degrees)
            })?;
        }
        Ok(())
    }

    /// Sets them back.
    fn detach(&self, batch: &QueryBatch, scratch: &mut Scratch) {
        for ((kind, values), base) in self.kinds.iter().zip(&mut scratch.scales).zip(&self.scales) {
            for &(node, _) in rescaled(*kind, batch) {
                values[node as usize] = base[node as usize];
            }
        }
    }
}

impl Scratch {
    /// What it keeps from others.
    pub(crate) fn bytes(&self) -> usize {
        let scales: usize = self.scales.iter().map(Vec::len).sum();
        let values: usize = self.values.iter().map(Vec::len).sum();
        let words = self.slots.len() + scales + values + self.messages.len();
        words * size_of::<f32>() + size_of_val(&self.marks[..])
    }
}

/// The nodes whose degree the batch changes, as far as a kind of scale follows it, ascending, each with its new edges.
fn rescaled(kind: DegreeScale, batch: &QueryBatch) -> &[(u32, u32)] {
    match kind.follows_out_degree() {
        true => batch.readers(),
        false => batch.touched_degrees(),
    }
}

/// Sets the factors of nodes, ascending, each with a number of edges, on all cores where they are many.
fn set_factors(
    values: &mut [f32],
    nodes: &[(u32, u32)],
    cores: &Cores,
    factor: &(impl Fn(u32, u32) -> f32 + Sync),
) -> Result<(), Stopped> {
    let mut pieces = Vec::new();
    let (mut rest, mut first) = (values, 0);
    for nodes in nodes.chunks(NODES_MAX) {
        let end = nodes[nodes.len() - 1].0 + 1;
        let (mine, others) = rest.split_at_mut((end - first) as usize);
        pieces.push((mine, first, nodes));
        (rest, first) = (others, end);
    }
    let set = |(): &mut (), (values, first, nodes): (&mut [f32], u32, &[(u32, u32)])| {
        for &(node, edges) in nodes {
            values[(node - first) as usize] = factor(node, edges);
        }
        None
    };
    cores.each(pieces.into_iter(), || (), set)
}
