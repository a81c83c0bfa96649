//! What one layer reads, and how it is computed block by block.

use super::{
    batch::QueryBatch,
    scale::GraphView,
    scratch::{NONE, RESCALED},
    stored::Stored,
};
use crate::model::{Layer, Linear};
use satisfice_core::{Cores, Stopped};
use satisfice_kernels::Rows;
use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

/// A node whose value a layer computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A query, by its row in the batch.
    Query(u32),
    /// A stored node.
    Stored(u32),
}

/// The queries, then stored nodes, in the order in which their values are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Targets<'a> {
    pub queries: usize,
    pub stored: &'a [u32],
}

impl Targets<'_> {
    pub(crate) fn len(&self) -> usize {
        self.queries + self.stored.len()
    }

    pub(crate) fn get(&self, index: usize) -> Target {
        match index.checked_sub(self.queries) {
            None => Target::Query(index as u32),
            Some(stored) => Target::Stored(self.stored[stored]),
        }
    }
}

/// Where the value of a stored node is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slots<'a> {
    /// Every stored node as stored.
    AsStored,
    /// By slot among the rows at hand, as stored where there is none.
    Map(&'a [u32]),
    /// The rows at hand from `first` on are those of `nodes`, ascending. Only where no source is read.
    Listed { nodes: &'a [u32], first: usize },
}

/// Values of nodes at one level: stored rows, and rows at hand: of the queries, then of stored
/// nodes computed anew.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowSet<'a> {
    pub stored: Stored<'a>,
    pub at_hand: Rows<'a>,
    pub slots: Slots<'a>,
}

impl RowSet<'_> {
    /// The row at hand of a node, if its row is at hand.
    pub(crate) fn slot(&self, target: Target) -> Option<u32> {
        let slot = match (target, self.slots) {
            (Target::Query(query), _) => query,
            (Target::Stored(_), Slots::AsStored) => NONE,
            (Target::Stored(node), Slots::Map(slots)) => slots[node as usize],
            (Target::Stored(node), Slots::Listed { nodes, first }) => nodes
                .binary_search(&node)
                .map_or(NONE, |at| (first + at) as u32),
        };
        // A slot that is no row says something else of the node.
        ((slot as usize) < self.at_hand.len()).then_some(slot)
    }

    /// Writes the value of a node to `out`.
    pub(crate) fn read(&self, target: Target, out: &mut [f32]) {
        match (self.slot(target), target) {
            (Some(slot), _) => self.at_hand.read(slot as usize, out),
            (None, Target::Stored(node)) => self.stored.read(node, out),
            (None, Target::Query(_)) => unreachable!("invariant: queries are at hand"),
        }
    }
}

/// Factors of the nodes at one level with the batch attached.
#[derive(Debug, Clone)]
pub(crate) struct NodeScales<'a> {
    /// By stored node.
    pub stored: &'a [f32],
    /// By row at hand.
    pub at_hand: Vec<f32>,
    /// By query.
    pub queries: &'a [f32],
}

impl NodeScales<'_> {
    pub(crate) fn of(&self, target: Target) -> f32 {
        match target {
            Target::Query(query) => self.queries[query as usize],
            Target::Stored(node) => self.stored[node as usize],
        }
    }
}

/// The sources of one target: stored rows and rows at hand. And, where only changes are looked for,
/// the stored rows that are not to count any more.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub stored: Vec<u32>,
    pub at_hand: Vec<u32>,
    pub withdrawn: Vec<u32>,
    /// Space for a row.
    pub row: Vec<f32>,
}

impl Sources {
    pub(crate) fn len(&self) -> usize {
        self.stored.len() + self.at_hand.len()
    }

    pub(crate) fn clear(&mut self) {
        self.stored.clear();
        self.at_hand.clear();
        self.withdrawn.clear();
    }
}

/// What targets have cost.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Their in-edges.
    pub edges: AtomicU64,
    /// Rows read for them.
    pub rows: AtomicU64,
}

impl Counts {
    pub(crate) fn add(&self, edges: u64, rows: u64) {
        self.edges.fetch_add(edges, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }
}

/// Everything that one layer reads for one batch.
#[derive(Debug)]
pub(crate) struct LayerInput<'a> {
    pub graph: GraphView<'a>,
    pub batch: &'a QueryBatch,
    pub targets: Targets<'a>,
    /// Values of the level that the layer reads.
    pub h: RowSet<'a>,
    /// Values of the level below.
    pub below: RowSet<'a>,
    /// What sources send: `h`, or rows made of it.
    pub messages: RowSet<'a>,
    pub source_scales: Option<NodeScales<'a>>,
    pub target_scales: Option<NodeScales<'a>>,
    /// Stored targets take what their stored sources were reduced to without the batch, and the
    /// batch's edges; otherwise all sources as they are now.
    pub refresh: bool,
    /// Where it is kept: what the sources of every stored node are reduced to without the batch,
    /// `[nodes, reduction width]`.
    pub kept: Option<Stored<'a>>,
    /// Factors of stored nodes as sources without the batch.
    pub stored_scales: Option<&'a [f32]>,
    /// Where it is kept: what the layer adds of each stored node's own value, `[nodes, width]`. Only
    /// where no stored node's value is at hand.
    pub own: Option<Stored<'a>>,
    /// For layers that take sums: those over the stored sources of each query, `[queries, scatter_stride(message width)]`.
    pub query_sums: Option<Vec<f32>>,
    /// Of all targets so far.
    pub counts: &'a Counts,
    /// For the loops over its targets; what is done in them begins no other.
    pub cores: &'a Cores,
    /// Values before the first layer, for models that mix them into every layer.
    pub initial: RowSet<'a>,
}

impl LayerInput<'_> {
    /// Lists the sources of `target`, without itself where `without_self`.
    pub(crate) fn sources(&self, target: Target, without_self: bool, sources: &mut Sources) {
        sources.clear();
        let (stored, queries) = self.in_edges(target);
        let (own_stored, own_query) = own_ids(target, without_self);
        let stored = stored
            .iter()
            .copied()
            .filter(|&source| source != own_stored);
        match self.messages.slots {
            Slots::AsStored | Slots::Listed { .. } => sources.stored.extend(stored),
            Slots::Map(slots) => {
                let rows = self.messages.at_hand.len() as u32;
                for source in stored {
                    match slots[source as usize] {
                        slot if slot < rows => sources.at_hand.push(slot),
                        _ => sources.stored.push(source),
                    }
                }
            }
        }
        let queries = queries
            .iter()
            .copied()
            .filter(|&source| source != own_query);
        sources.at_hand.extend(queries);
    }

    /// Lists the queries among the sources of a query.
    pub(crate) fn query_sources(&self, query: u32, without_self: bool, sources: &mut Sources) {
        sources.clear();
        let (_, own) = own_ids(Target::Query(query), without_self);
        let queries = self.batch.query_into_query(query as usize).iter().copied();
        sources
            .at_hand
            .extend(queries.filter(|&source| source != own));
    }

    /// Lists the stored sources of a stored node, all as stored.
    pub(crate) fn stored_sources(&self, node: u32, without_self: bool, sources: &mut Sources) {
        sources.clear();
        let (own, _) = own_ids(Target::Stored(node), without_self);
        let stored = self.graph.in_neighbors(node).ids.iter().copied();
        sources
            .stored
            .extend(stored.filter(|&source| source != own));
    }

    /// Lists what of the sources of a stored node differs from what is kept of them: rows to withdraw, as
    /// they were counted, and rows to add. Reads the ids of the node's in-edges where a source may
    /// have changed; no row.
    pub(crate) fn changed_sources(&self, node: u32, without_self: bool, sources: &mut Sources) {
        sources.clear();
        if let Slots::Map(slots) = self.messages.slots {
            let (own, _) = own_ids(Target::Stored(node), without_self);
            for &source in self.graph.in_neighbors(node).ids {
                let slot = slots[source as usize];
                if slot == NONE || source == own {
                    continue;
                }
                sources.withdrawn.push(source);
                match slot {
                    RESCALED => sources.stored.push(source),
                    slot => sources.at_hand.push(slot),
                }
            }
        }
        sources.at_hand.extend(self.batch.query_into_stored(node));
    }

    /// In-edges of `target`, without those from itself where `without_self`.
    pub(crate) fn in_degree(&self, target: Target, without_self: bool) -> usize {
        let (stored, queries) = self.in_edges(target);
        let loops = match target {
            _ if !without_self => 0,
            Target::Stored(node) => self.graph.self_loops(node) as usize,
            Target::Query(query) => self.batch.query_self_loops(query as usize),
        };
        stored.len() + queries.len() - loops
    }

    /// In-edges of a stored node without the batch, without those from itself where `without_self`.
    pub(crate) fn stored_in_degree(&self, node: u32, without_self: bool) -> u32 {
        let loops = match without_self {
            true => self.graph.self_loops(node),
            false => 0,
        };
        self.graph.in_degree(node) - loops
    }

    /// Stored nodes and queries with an edge to `target`.
    fn in_edges(&self, target: Target) -> (&[u32], &[u32]) {
        match target {
            Target::Query(query) => {
                let query = query as usize;
                (
                    self.batch.stored_into_query(query),
                    self.batch.query_into_query(query),
                )
            }
            Target::Stored(node) => (
                self.graph.in_neighbors(node).ids,
                self.batch.query_into_stored(node),
            ),
        }
    }

    /// Values of the level below of some targets, `[targets, width]`.
    pub(crate) fn rows_below(&self, range: Range<usize>) -> Vec<f32> {
        read_rows(&self.below, self.targets, range)
    }

    /// Values of the level that the layer reads, of some targets, `[targets, width]`.
    pub(crate) fn own_rows(&self, range: Range<usize>) -> Vec<f32> {
        read_rows(&self.h, self.targets, range)
    }

    /// Messages of some targets themselves, `[targets, message width]`.
    pub(crate) fn own_messages(&self, range: Range<usize>) -> Vec<f32> {
        read_rows(&self.messages, self.targets, range)
    }

    /// A linear map of some targets' own values, `[targets, outputs]`: of stored nodes read where it is
    /// kept, of others computed.
    pub(crate) fn mapped_own(
        &self,
        layer: &Layer,
        linear: &Linear,
        range: Range<usize>,
    ) -> Vec<f32> {
        let map = |range| linear.apply(&layer.read(self.own_rows(range)));
        let Some(kept) = self.own else {
            return map(range);
        };
        let (width, queries) = (linear.outputs(), self.targets.queries);
        let first = queries.clamp(range.start, range.end);
        let mut mapped = map(range.start..first);
        mapped.resize(range.len() * width, 0.0);
        let of_stored = mapped[(first - range.start) * width..].chunks_exact_mut(width);
        let stored = |index: usize| self.targets.stored.get(index - queries).copied();
        for (row, index) in of_stored.zip(first..range.end) {
            if let Some(next) = stored(index + AHEAD) {
                kept.prefetch(next);
            }
            kept.read(self.targets.stored[index - queries], row);
        }
        mapped
    }

    /// Values before the first layer of some targets, `[targets, width]`.
    pub(crate) fn initial_rows(&self, range: Range<usize>) -> Vec<f32> {
        read_rows(&self.initial, self.targets, range)
    }
}

/// The ids of the target among stored nodes and among queries, where its own edges are left out.
fn own_ids(target: Target, without_self: bool) -> (u32, u32) {
    match target {
        Target::Stored(node) if without_self => (node, NONE),
        Target::Query(query) if without_self => (NONE, query),
        _ => (NONE, NONE),
    }
}

fn read_rows(set: &RowSet<'_>, targets: Targets<'_>, range: Range<usize>) -> Vec<f32> {
    let width = set.stored.width();
    let mut rows = vec![0.0; range.len() * width];
    for (row, index) in rows.chunks_exact_mut(width).zip(range) {
        if index + AHEAD < targets.len()
            && let Target::Stored(next) = targets.get(index + AHEAD)
        {
            set.stored.prefetch(next);
        }
        set.read(targets.get(index), row);
    }
    rows
}

/// Targets ahead of the one that is read whose rows are asked for: they are far apart, and little is done with each.
pub(super) const AHEAD: usize = 8;

/// Targets that one task computes together: enough for the dense products to run well, each of which
/// packs its whole weights first; few enough for every core to have some.
fn block_len(targets: usize) -> usize {
    (targets / 16).clamp(16, 64)
}

/// Rows, `[targets, width]`, which `compute` makes block by block on all cores granted.
pub(crate) fn fill_blocks(
    width: usize,
    rows: &mut [f32],
    cores: &Cores,
    compute: impl Fn(Range<usize>, &mut Sources) -> Vec<f32> + Sync,
) -> Result<(), Stopped> {
    let block = block_len(rows.len() / width);
    let blocks = rows.chunks_mut(block * width).enumerate();
    cores.each(blocks, Sources::default, |sources, (index, out)| {
        let start = index * block;
        let range = start..start + out.len() / width;
        out.copy_from_slice(&compute(range, sources));
        None
    })
}

/// The values of all targets after `layer`, `[targets, layer.width()]`, in `space`, whatever it holds.
pub(crate) fn run_layer(
    layer: &Layer,
    input: &LayerInput<'_>,
    space: Vec<f32>,
) -> Result<Vec<f32>, Stopped> {
    let width = layer.width();
    let mut rows = resized(space, input.targets.len() * width, input.cores)?;
    fill_blocks(width, &mut rows, input.cores, |range, sources| {
        layer.compute(input, range, sources)
    })?;
    Ok(rows)
}

/// `space` with `len` values, whatever they are.
pub(crate) fn resized(mut space: Vec<f32>, len: usize, cores: &Cores) -> Result<Vec<f32>, Stopped> {
    if space.capacity() < len {
        space = Vec::with_capacity(len);
    }
    space.truncate(len);
    // Memory that was never used takes as long as a block of targets.
    while space.len() < len {
        cores.pass()?;
        space.resize(len.min(space.len() + RESIZED_AT_ONCE), 0.0);
    }
    Ok(space)
}

/// Values that are made between two boundaries.
const RESIZED_AT_ONCE: usize = 1 << 18;

/// Factors of one kind for the rows at hand of a level: queries, then `fresh` stored nodes.
pub(crate) fn node_scales<'a>(
    stored: &'a [f32],
    queries: &'a [f32],
    fresh: &[u32],
) -> NodeScales<'a> {
    let at_hand = queries
        .iter()
        .copied()
        .chain(fresh.iter().map(|&node| stored[node as usize]))
        .collect();
    NodeScales {
        stored,
        at_hand,
        queries,
    }
}

/// Writes the slots of rows that follow the first `start`, one a node.
pub(crate) fn set_slots(slots: &mut [u32], start: usize, nodes: &[u32]) {
    for (row, &node) in nodes.iter().enumerate() {
        slots[node as usize] = (start + row) as u32;
    }
}

/// Takes the slots of `nodes` away.
pub(crate) fn clear_slots(slots: &mut [u32], nodes: &[u32]) {
    for &node in nodes {
        slots[node as usize] = NONE;
    }
}
