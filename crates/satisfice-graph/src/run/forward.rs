//! A model's answer for a batch, layer by layer, and the same layers over the stored graph alone.

use super::{
    batch::QueryBatch,
    layer::{
        Counts, LayerInput, NodeScales, RowSet, Slots, Targets, clear_slots, fill_blocks,
        node_scales, resized, run_layer, set_slots,
    },
    policy::{self, ReadWeight},
    query_sums::query_sums,
    reduce::{TargetRows, reduce},
    scale::{DegreeScale, GraphView},
    scratch::{RESCALED, Scratch},
    select::{DegreeEffects, ExactSelector, highest},
    stored::Stored,
};
use crate::{
    Plan, Policy,
    model::{GnnModel, Layer},
};
use satisfice_core::{Cores, Stopped};
use satisfice_kernels::Rows;
use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

/// Time spent on the stages of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Choosing the stored nodes to compute anew.
    pub select: Duration,
    /// Running the layers.
    pub layers: Duration,
    /// Joining the layers and the head.
    pub head: Duration,
}

/// A model's answer for a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// `[queries, outputs]`; then those of the stored nodes asked for, by position.
    pub outputs: Vec<f32>,
    /// Stored neighbours of the batch: those with an edge to a query.
    pub candidates: usize,
    /// Stored nodes computed anew, at one layer or more; ascending.
    pub recomputed: Vec<u32>,
    /// In-edges of everything computed, over all layers.
    pub edges: u64,
    /// Rows of sources read for them: fewer than edges where kept sums are brought up to date.
    pub rows: u64,
    /// Where the time went.
    pub times: StageTimes,
}

/// The scales of a model and, for each, the factors of the batch's queries.
pub(super) struct BatchScales {
    kinds: Vec<DegreeScale>,
    queries: Vec<Vec<f32>>,
}

impl BatchScales {
    pub(super) fn new(kinds: Vec<DegreeScale>, batch: &QueryBatch) -> Self {
        let degrees = batch.query_degrees();
        let scales = |kind: &DegreeScale| degrees.iter().map(|&d| kind.of(d)).collect();
        Self {
            queries: kinds.iter().map(scales).collect(),
            kinds,
        }
    }

    fn at<'a>(
        &'a self,
        scale: Option<DegreeScale>,
        stored: &'a [Vec<f32>],
        fresh: &[u32],
    ) -> Option<NodeScales<'a>> {
        let at = self.kinds.iter().position(|&kind| Some(kind) == scale)?;
        Some(node_scales(&stored[at], &self.queries[at], fresh))
    }
}

/// What of the graph a change of degree reaches in `model`.
pub(crate) fn degree_effects(model: &GnnModel) -> DegreeEffects {
    let scales = || model.layers.iter().map(|layer| layer.conv.scales());
    let sources = || scales().filter_map(|scales| scales.0);
    DegreeEffects {
        in_degree_at_source: sources().any(|scale| !scale.follows_out_degree()),
        out_degree_at_source: sources().any(DegreeScale::follows_out_degree),
        out_degree_at_target: scales()
            .filter_map(|scales| scales.1)
            .any(DegreeScale::follows_out_degree),
    }
}

/// A model with the stored graph and its values, as every request finds them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Serving<'a> {
    pub model: &'a GnnModel,
    pub graph: GraphView<'a>,
    /// Stored values of the levels 0 .. K-1, each `[nodes, width]`.
    pub levels: &'a [Stored<'a>],
    /// For each layer: the kept messages of every stored node, `[nodes, message width]`; none where
    /// the messages are the values.
    pub messages: &'a [Option<Stored<'a>>],
    /// For each layer: what the sources of every stored node are reduced to, where it is kept,
    /// `[nodes, reduction width]`.
    pub reduced: &'a [Option<Stored<'a>>],
    /// What the first layer adds of every stored node's own value, where it is kept, `[nodes, width]`.
    pub own: Option<Stored<'a>>,
    /// For each of [`GnnModel::scales`]: the factor of every stored node without a batch.
    pub scales: &'a [Vec<f32>],
}

impl Serving<'_> {
    /// Answers a batch by a plan, unless nobody waits for the answer any more. `scratch` is prepared for the
    /// batch, and is left as it was found.
    pub(crate) fn answer(
        &self,
        batch: &QueryBatch,
        plan: Plan,
        cores: &Cores,
        scratch: &mut Scratch,
    ) -> Result<Answer, Stopped> {
        let start = Instant::now();
        let model = self.model;
        let scales = BatchScales::new(model.scales(), batch);
        let initial = self.initial(batch);
        let mut run = self.begin(batch, plan, (&scales, &initial), cores);
        let mut fresh = run.chosen(plan, scratch)?;
        let recomputed = union(&fresh);
        // What is asked for of stored nodes is computed at the last layer, like what is asked of queries.
        fresh.push(batch.stored().to_vec());
        let selected = start.elapsed();
        let (last, joined) = run.layers(model.layers(), &fresh, scratch)?;
        let ran = start.elapsed();
        let outputs = model.finish(match joined.is_empty() {
            true => vec![last.clone()],
            false => joined,
        });
        scratch.values[(model.layers() - 1) % 2] = last;
        Ok(Answer {
            outputs,
            candidates: batch.readers().len(),
            recomputed,
            edges: run.counts.edges.into_inner(),
            rows: run.counts.rows.into_inner(),
            times: StageTimes {
                select: selected,
                layers: ran.saturating_sub(selected),
                head: start.elapsed().saturating_sub(ran),
            },
        })
    }

    /// Values of the queries before the first layer.
    pub(super) fn initial<'b>(&self, batch: &'b QueryBatch) -> Cow<'b, [f32]> {
        if self.model.has_input() && batch.queries() > 0 {
            self.model.apply_input(batch.x().to_vec()).into()
        } else {
            batch.x().into()
        }
    }

    /// A batch on its way through the layers by a plan, with the factors of its queries and their values before the first
    /// layer.
    pub(super) fn begin<'a>(
        &'a self,
        batch: &'a QueryBatch,
        plan: Plan,
        (scales, initial): (&'a BatchScales, &'a [f32]),
        cores: &'a Cores,
    ) -> Run<'a> {
        Run {
            serving: self,
            batch,
            scales,
            initial,
            refresh: plan == Plan::Refresh,
            counts: Counts::default(),
            cores,
        }
    }

    /// The weight with which the last layer counts a source of a query; `stored` are the factors of
    /// the stored nodes with the batch attached.
    pub(super) fn read_weight<'a>(
        &self,
        scales: &'a BatchScales,
        stored: &'a [Vec<f32>],
    ) -> ReadWeight<'a> {
        let last = &self.model.layers[self.model.layers() - 1].conv;
        match last.scales() {
            (None, None) if last.averages() => ReadWeight::Share,
            (source, target) => ReadWeight::Scales(
                scales.at(source, stored, &[]),
                scales.at(target, stored, &[]),
            ),
        }
    }

    /// The factors of stored nodes as sources of a layer, without a batch.
    fn stored_scales(&self, layer: usize) -> Option<&[f32]> {
        let source = self.model.layers[layer].conv.scales().0?;
        let kinds = self.model.scales();
        let kind = kinds.iter().position(|&kind| kind == source)?;
        Some(&self.scales[kind])
    }
}

/// What was computed anew at one level.
struct AtHand<'a> {
    /// Values of the queries, then of `nodes` unless only their messages will be read, `[rows, width]`.
    values: Cow<'a, [f32]>,
    /// What the queries and then `nodes` send to the layer above, `[rows, message width]`, where it was made of their
    /// values while those were in cache.
    messages: Option<Vec<f32>>,
    /// Stored nodes, ascending.
    nodes: &'a [u32],
}

impl AtHand<'_> {
    fn bytes(&self) -> usize {
        let messages = self.messages.as_ref().map_or(0, Vec::len);
        (self.values.len() + messages) * size_of::<f32>()
    }
}

/// The different nodes of ascending lists, ascending.
fn union(lists: &[Vec<u32>]) -> Vec<u32> {
    match lists {
        [] => Vec::new(),
        [first, rest @ ..] if rest.iter().all(|list| list == first) => first.clone(),
        _ => {
            let mut nodes = lists.concat();
            nodes.sort_unstable();
            nodes.dedup();
            nodes
        }
    }
}

/// One batch on its way through the layers.
pub(super) struct Run<'a> {
    serving: &'a Serving<'a>,
    batch: &'a QueryBatch,
    scales: &'a BatchScales,
    /// Values of the queries before the first layer.
    initial: &'a [f32],
    /// Stored nodes take the batch's edges only.
    refresh: bool,
    /// Of the last pass through the layers.
    counts: Counts,
    cores: &'a Cores,
}

impl Run<'_> {
    /// Values after the first `count` layers, of the queries and then of the layer's fresh nodes; and
    /// those of the queries after each layer, where the model joins them; nothing where nobody waits for them
    /// any more. Counts edges and rows anew.
    fn layers(
        &mut self,
        count: usize,
        fresh: &[Vec<u32>],
        scratch: &mut Scratch,
    ) -> Result<(Vec<f32>, Vec<Vec<f32>>), Stopped> {
        self.counts = Counts::default();
        let model = self.serving.model;
        let idle = scratch.bytes();
        let nothing = Vec::new();
        let mut below = AtHand {
            values: self.initial.into(),
            messages: None,
            nodes: &nothing,
        };
        let mut joined = match model.joins_levels() {
            true => vec![self.asked(0, self.initial, &[])],
            false => Vec::new(),
        };
        for index in 0..count {
            self.cores.pass()?;
            let nodes = fresh.get(index).unwrap_or(&nothing);
            let above = &model.layers[index + 1..count];
            // The layer above reads values of what it computes itself, and messages of all else.
            let sends = above.first().filter(|above| {
                let computed_above = fresh.get(index + 1).unwrap_or(&nothing);
                !above.reads_initial()
                    && computed_above.is_empty()
                    && (self.batch.stored().is_empty() || !model.joins_levels())
                    && self.serving.messages[index + 1].is_some()
            });
            let made = self.layer((index, sends), &below, nodes, scratch)?;
            self.cores.hold(idle + below.bytes() + made.bytes());
            if model.joins_levels() {
                joined.push(self.asked(index + 1, &made.values, made.nodes));
            }
            let read = std::mem::replace(&mut below, made);
            if index > 0 {
                let space = read.messages.unwrap_or(read.values.into_owned());
                scratch.values[(index - 1) % 2] = space;
            }
        }
        Ok((below.values.into_owned(), joined))
    }

    /// The values at a level of the queries and of the stored nodes asked for; `values` are those of the queries, then of
    /// `nodes`, computed anew.
    fn asked(&self, level: usize, values: &[f32], nodes: &[u32]) -> Vec<f32> {
        let width = self.serving.model.level_width(level);
        let of_queries = self.batch.queries() * width;
        let mut asked = values[..of_queries].to_vec();
        for node in self.batch.stored() {
            let start = asked.len();
            if let Ok(at) = nodes.binary_search(node) {
                asked.extend_from_slice(&values[of_queries + at * width..][..width]);
            } else {
                asked.resize(start + width, 0.0);
                self.serving.levels[level].read(*node, &mut asked[start..]);
            }
        }
        asked
    }

    /// For each layer but the last: the stored nodes that a plan computes anew, ascending.
    pub(super) fn chosen(
        &mut self,
        plan: Plan,
        scratch: &mut Scratch,
    ) -> Result<Vec<Vec<u32>>, Stopped> {
        let (model, batch) = (self.serving.model, self.batch);
        let inner = model.layers() - 1;
        Ok(match plan {
            Plan::Precomputed => vec![Vec::new(); inner],
            Plan::Refresh => vec![batch.reader_nodes().collect(); inner],
            Plan::Recompute { budget, policy } => {
                vec![highest(batch, &self.scores(policy, scratch)?, budget); inner]
            }
            Plan::Exact => ExactSelector {
                graph: self.serving.graph,
                batch,
                effects: degree_effects(model),
                cores: self.cores,
            }
            .select(inner, &mut scratch.marks)?,
        })
    }

    /// Scores of the batch's stored neighbours by a policy.
    fn scores(&mut self, policy: Policy, scratch: &mut Scratch) -> Result<Vec<f64>, Stopped> {
        let changes = match policy {
            Policy::Oracle => self.changes(scratch)?,
            _ => Vec::new(),
        };
        let weight = self.serving.read_weight(self.scales, &scratch.scales);
        let reach = || policy::reach(self.batch, &weight, self.cores);
        let (graph, batch) = (self.serving.graph, self.batch);
        let share = |place| policy::share_of_new_edges(graph, batch, place);
        let from = (graph, batch, self.cores);
        policy::scores(policy, from, share, reach, || changes)
    }

    /// By how much the last stored value of each of the batch's neighbours changes when all of them
    /// are computed anew.
    fn changes(&mut self, scratch: &mut Scratch) -> Result<Vec<f64>, Stopped> {
        let inner = self.serving.model.layers() - 1;
        let nodes: Vec<u32> = self.batch.reader_nodes().collect();
        let (values, _) = self.layers(inner, &vec![nodes.clone(); inner], scratch)?;
        let stored = self.serving.levels[inner];
        let mut old = vec![0.0; stored.width()];
        let new = values
            .chunks_exact(stored.width())
            .skip(self.batch.queries());
        let change = |(&node, new): (&u32, &[f32])| {
            stored.read(node, &mut old);
            let squares = new.iter().zip(&old).map(|(a, b)| f64::from(a - b).powi(2));
            squares.sum::<f64>().sqrt()
        };
        // A model of one layer reads features only, which do not change.
        Ok(match inner {
            0 => vec![0.0; nodes.len()],
            _ => nodes.iter().zip(new).map(change).collect(),
        })
    }

    /// The queries and `fresh` after a layer, from what is at hand at the level below; of `fresh` only what they send to
    /// `above`, where it is given.
    fn layer<'f>(
        &mut self,
        (index, above): (usize, Option<&Layer>),
        below: &AtHand<'_>,
        fresh: &'f [u32],
        scratch: &mut Scratch,
    ) -> Result<AtHand<'f>, Stopped> {
        let serving = self.serving;
        let layer = &serving.model.layers[index];
        let queries = self.batch.queries();
        let (source, _) = layer.conv.scales();
        let kept = serving.reduced.get(index).copied().flatten();
        let rescaled = match (kept, source) {
            (Some(_), Some(source)) if !self.refresh && !fresh.is_empty() => {
                mark_rescaled(self.batch, source, &mut scratch.slots)
            }
            _ => Vec::new(),
        };
        if !layer.reads_initial() {
            set_slots(&mut scratch.slots, queries, below.nodes);
        }
        let made = self.with_slots(
            (index, above),
            below,
            fresh,
            (scratch, !rescaled.is_empty()),
        );
        clear_slots(&mut scratch.slots, below.nodes);
        clear_slots(&mut scratch.slots, &rescaled);
        made
    }

    /// As [`Run::layer`], with the slots of what is at hand set.
    fn with_slots<'f>(
        &mut self,
        (index, above): (usize, Option<&Layer>),
        below: &AtHand<'_>,
        fresh: &'f [u32],
        (scratch, rescaled): (&mut Scratch, bool),
    ) -> Result<AtHand<'f>, Stopped> {
        let (serving, scales) = (self.serving, self.scales);
        let layer = &serving.model.layers[index];
        let queries = self.batch.queries();
        let space = std::mem::take(&mut scratch.values[index % 2]);
        let (source, target) = layer.conv.scales();
        let kept = serving.reduced.get(index).copied().flatten();
        let initial = RowSet {
            stored: serving.levels[0],
            at_hand: Rows::f32(self.initial, serving.levels[0].width()),
            slots: Slots::AsStored,
        };
        // What sources send is made of the level read; of the level below, rows follow the queries'.
        let (values, nodes) = match layer.reads_initial() {
            true => (self.initial, &[][..]),
            false => (&below.values[..], below.nodes),
        };
        let slots = match nodes.is_empty() && !rescaled {
            true => Slots::AsStored,
            false => Slots::Map(&scratch.slots),
        };
        let stored = serving.levels[serving.model.level_read(index)];
        let h = RowSet {
            stored,
            at_hand: Rows::f32(values, stored.width()),
            slots,
        };
        let rows_below = match layer.reads_initial() {
            false => h,
            true => RowSet {
                stored: serving.levels[index],
                at_hand: Rows::f32(&below.values, serving.levels[index].width()),
                slots: Slots::Listed {
                    nodes: below.nodes,
                    first: queries,
                },
            },
        };
        let mut made = std::mem::take(&mut scratch.messages);
        let messages = match (serving.messages[index], &below.messages) {
            (None, _) => h,
            (Some(stored), Some(sent)) => RowSet {
                stored,
                at_hand: Rows::f32(sent, stored.width()),
                slots,
            },
            (Some(stored), None) => {
                let rows = values.len() / h.stored.width();
                made = resized(made, rows * stored.width(), self.cores)?;
                make_messages(
                    layer,
                    (values, h.stored.width()),
                    (&mut made, stored.width()),
                    self.cores,
                )?;
                RowSet {
                    stored,
                    at_hand: Rows::f32(&made, stored.width()),
                    slots,
                }
            }
        };
        let input = LayerInput {
            graph: self.serving.graph,
            batch: self.batch,
            targets: Targets {
                queries,
                stored: fresh,
            },
            h,
            below: rows_below,
            messages,
            source_scales: scales.at(source, &scratch.scales, nodes),
            // Targets are looked up by node, never among the rows at hand.
            target_scales: scales.at(target, &scratch.scales, &[]),
            initial,
            refresh: self.refresh,
            kept,
            stored_scales: serving.stored_scales(index),
            own: serving.own.filter(|_| index == 0),
            query_sums: None,
            counts: &self.counts,
            cores: self.cores,
        };
        let query_sums = query_sums(layer.conv.reduction(), &input)?;
        let input = LayerInput {
            query_sums,
            ..input
        };
        let (values, messages) = match above.filter(|_| !fresh.is_empty()) {
            None => (run_layer(layer, &input, space)?, None),
            Some(above) => {
                let (values, sent) = run_layer_and_send((layer, above), input, space)?;
                (values, Some(sent))
            }
        };
        scratch.messages = made;
        Ok(AtHand {
            values: values.into(),
            messages,
            nodes: fresh,
        })
    }
}

/// Values of the queries after `layer`, and what they and then the stored targets send to the layer `above`, in `space`:
/// a block of targets is mapped while its values are in cache, and they are kept nowhere.
fn run_layer_and_send(
    (layer, above): (&Layer, &Layer),
    input: LayerInput<'_>,
    space: Vec<f32>,
) -> Result<(Vec<f32>, Vec<f32>), Stopped> {
    let Targets { queries, stored } = input.targets;
    let of = |queries: usize, stored| Targets { queries, stored };
    let (width, message_width) = (layer.width(), above.message_width());
    let input = LayerInput {
        targets: of(queries, &[]),
        ..input
    };
    let cores = input.cores;
    let values = run_layer(layer, &input, Vec::new())?;
    let mut sent = resized(space, (queries + stored.len()) * message_width, cores)?;
    let (of_queries, of_stored) = sent.split_at_mut(queries * message_width);
    let of_queries = (of_queries, message_width);
    make_messages(above, (&values, width), of_queries, cores)?;
    let input = LayerInput {
        targets: of(0, stored),
        ..input
    };
    fill_blocks(message_width, of_stored, cores, |range, sources| {
        above.messages(layer.compute(&input, range, sources))
    })?;
    Ok((values, sent))
}

/// The stored nodes whose factor as a source the batch changes.
pub(super) fn rescaled(batch: &QueryBatch, source: DegreeScale) -> Vec<u32> {
    match source.follows_out_degree() {
        true => batch.reader_nodes().collect(),
        false => batch.touched().to_vec(),
    }
}

/// Marks them.
fn mark_rescaled(batch: &QueryBatch, source: DegreeScale, slots: &mut [u32]) -> Vec<u32> {
    let nodes = rescaled(batch, source);
    for &node in &nodes {
        slots[node as usize] = RESCALED;
    }
    nodes
}

/// Writes the messages of values, `[rows, width]`, to `made`, `[rows, message width]`.
fn make_messages(
    layer: &Layer,
    (values, width): (&[f32], usize),
    (made, message_width): (&mut [f32], usize),
    cores: &Cores,
) -> Result<(), Stopped> {
    let blocks = made
        .chunks_mut(MESSAGE_ROWS * message_width)
        .zip(values.chunks(MESSAGE_ROWS * width));
    let make = |(): &mut (), (made, values): (&mut [f32], &[f32])| {
        made.copy_from_slice(&layer.messages(values));
        None
    };
    cores.each(blocks, || (), make)
}

/// Rows that one task turns into messages together.
const MESSAGE_ROWS: usize = 128;

/// One layer over the stored graph alone, without a batch.
#[derive(Debug)]
pub(crate) struct LayerPass<'a> {
    layer: &'a Layer,
    graph: GraphView<'a>,
    initial: Stored<'a>,
    below: Stored<'a>,
    source_scales: Cow<'a, [f32]>,
    target_scales: Cow<'a, [f32]>,
    batch: QueryBatch,
    cores: Cores,
}

impl<'a> LayerPass<'a> {
    /// A pass of a layer above the values `below`, on all cores; `initial` are those of level 0.
    pub(crate) fn new(
        layer: &'a Layer,
        graph: GraphView<'a>,
        initial: impl Into<Stored<'a>>,
        below: impl Into<Stored<'a>>,
    ) -> Self {
        let scales = |scale| Cow::Owned(graph.scales(scale));
        Self::with_scales(layer, graph, (initial.into(), below.into()), scales)
    }

    /// As [`new`](Self::new), with the factors of every stored node from where they are known.
    pub(crate) fn with_scales(
        layer: &'a Layer,
        graph: GraphView<'a>,
        (initial, below): (Stored<'a>, Stored<'a>),
        scales: impl Fn(DegreeScale) -> Cow<'a, [f32]>,
    ) -> Self {
        let (source, target) = layer.conv.scales();
        Self {
            layer,
            graph,
            initial,
            below,
            source_scales: source.map(&scales).unwrap_or_default(),
            target_scales: target.map(&scales).unwrap_or_default(),
            batch: QueryBatch::empty(),
            cores: Cores::default(),
        }
    }

    /// The same pass on the cores granted.
    pub(crate) fn on(self, cores: Cores) -> Self {
        Self { cores, ..self }
    }

    /// The values that the layer reads.
    fn level(&self) -> Stored<'a> {
        match self.layer.reads_initial() {
            true => self.initial,
            false => self.below,
        }
    }

    /// Those of some nodes, and their width.
    fn read(&self, nodes: &[u32]) -> (Vec<f32>, usize) {
        let (level, width) = (self.level(), self.level().width());
        let mut values = vec![0.0; nodes.len() * width];
        for (row, &node) in values.chunks_exact_mut(width).zip(nodes) {
            level.read(node, row);
        }
        (values, width)
    }

    /// Messages of some stored nodes, `[nodes, message width]`.
    pub(crate) fn messages(&self, nodes: &[u32]) -> Result<Vec<f32>, Stopped> {
        let (values, width) = self.read(nodes);
        let message_width = self.layer.message_width();
        let mut made = vec![0.0; nodes.len() * message_width];
        let of_layer = (&mut made[..], message_width);
        make_messages(self.layer, (&values, width), of_layer, &self.cores)?;
        Ok(made)
    }

    /// What the sources of some stored nodes are reduced to, `[nodes, reduction width]`; 0 where there
    /// is no source.
    pub(crate) fn reduced(&self, nodes: &[u32], kept: Kept<'_>) -> Result<Vec<f32>, Stopped> {
        let counts = Counts::default();
        let input = self.input(nodes, kept, &counts);
        let conv = &*self.layer.conv;
        let reduction = conv.reduction();
        let width = reduction.width(input.messages.stored.width());
        let mut reduced = vec![0.0; nodes.len() * width];
        fill_blocks(width, &mut reduced, &self.cores, |range, sources| {
            let own = TargetRows::read(self.layer, &input, range.clone());
            let own = own.view();
            let terms = conv.terms(own.values, own.messages);
            reduce(self.layer, &input, range, &terms, sources)
        })?;
        for (row, &node) in reduced.chunks_exact_mut(width).zip(nodes) {
            if input.stored_in_degree(node, reduction.without_self()) == 0 {
                row.fill(0.0);
            }
        }
        Ok(reduced)
    }

    /// What the layer adds of the own values of some stored nodes, `[nodes, width]`; nothing for a
    /// layer that adds no linear map of them.
    pub(crate) fn own(&self, nodes: &[u32]) -> Result<Option<Vec<f32>>, Stopped> {
        let Some(linear) = self.layer.conv.own() else {
            return Ok(None);
        };
        let (values, width) = self.read(nodes);
        let mut own = vec![0.0; nodes.len() * linear.outputs()];
        let blocks = own
            .chunks_mut(MESSAGE_ROWS * linear.outputs())
            .zip(values.chunks(MESSAGE_ROWS * width));
        let map = |(): &mut (), (own, values): (&mut [f32], &[f32])| {
            linear.add_to(&self.layer.read(values), own);
            None
        };
        self.cores.each(blocks, || (), map)?;
        Ok(Some(own))
    }

    /// Values of some stored nodes after the layer, `[nodes, width]`.
    pub(crate) fn values(&self, nodes: &[u32], kept: Kept<'_>) -> Result<Vec<f32>, Stopped> {
        let counts = Counts::default();
        run_layer(self.layer, &self.input(nodes, kept, &counts), Vec::new())
    }

    fn input<'b>(&'b self, nodes: &'b [u32], kept: Kept<'b>, counts: &'b Counts) -> LayerInput<'b> {
        let stored_only = |stored: Stored<'b>| RowSet {
            stored,
            at_hand: Rows::f32(&[], stored.width()),
            slots: Slots::AsStored,
        };
        let (source, target) = self.layer.conv.scales();
        LayerInput {
            graph: self.graph,
            batch: &self.batch,
            targets: Targets {
                queries: 0,
                stored: nodes,
            },
            h: stored_only(self.level()),
            below: stored_only(self.below),
            messages: stored_only(kept.messages.unwrap_or(self.level())),
            source_scales: source.map(|_| node_scales(&self.source_scales, &[], &[])),
            target_scales: target.map(|_| node_scales(&self.target_scales, &[], &[])),
            initial: stored_only(self.initial),
            refresh: false,
            kept: kept.reduced,
            stored_scales: source.map(|_| &self.source_scales[..]),
            own: kept.own,
            query_sums: None,
            counts,
            cores: &self.cores,
        }
    }
}

/// What is kept of a layer already, of every stored node.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kept<'a> {
    /// Needed for a layer whose messages are not the values.
    pub messages: Option<Stored<'a>>,
    /// Read instead of reducing, where it is there.
    pub reduced: Option<Stored<'a>>,
    /// Read instead of mapping the nodes' own values, where they are there.
    pub own: Option<Stored<'a>>,
}
