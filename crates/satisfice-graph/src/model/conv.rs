//! The message-passing layers.

mod attention;
mod gcn;
mod gcn2;
mod gin;
mod sage;

pub(crate) use attention::Attention;
pub(crate) use gcn::Gcn;
pub(crate) use gcn2::Gcn2;
pub(crate) use gin::Gin;
pub(crate) use sage::Sage;

use super::{linear::Linear, row_op::RowOp};
use crate::run::{DegreeScale, LayerInput, Sources, Target};
use satisfice_kernels::{Rows, gather_max, gather_sum};
use std::ops::Range;

/// One kind of message passing: from the values of the level below to rows of
/// [`Convolution::width`] values.
pub(crate) trait Convolution: std::fmt::Debug + Send + Sync {
    /// Values per row that it leaves.
    fn width(&self) -> usize;

    /// What makes a source's message of its value; nothing where the message is the value. Messages
    /// of stored nodes are kept like their values.
    fn message(&self) -> &[RowOp] {
        &[]
    }

    /// The weighted sum that it takes of its sources, where it takes one.
    fn propagation(&self) -> Option<&Propagation> {
        None
    }

    /// Whether more sources make each count for less.
    fn averages(&self) -> bool {
        self.propagation().is_none()
    }

    /// The plain sum over its sources' messages that it takes, where it takes one.
    fn source_sum(&self) -> Option<SourceSum> {
        self.propagation().map(Propagation::source_sum)
    }

    /// The linear map of the target's own value that it adds to the rest, where it adds one.
    fn own(&self) -> Option<&Linear> {
        None
    }

    /// The factor of a node as a source and as a target.
    fn scales(&self) -> (Option<DegreeScale>, Option<DegreeScale>) {
        self.propagation().map_or((None, None), |propagation| {
            (propagation.source, propagation.target)
        })
    }

    /// Rows of some targets, `[targets, width]`. `sources` is space to work in.
    fn compute(
        &self,
        input: &LayerInput<'_>,
        range: Range<usize>,
        sources: &mut Sources,
    ) -> Vec<f32>;

    /// How what its sources send is reduced, where it can be reduced in parts.
    fn reduction(&self) -> Reduction;

    /// What targets bring to the reduction over their sources, `[targets, term width]`, from their
    /// own values and messages.
    fn terms(&self, values: &[f32], messages: &[f32]) -> Vec<f32> {
        let _ = (values, messages);
        Vec::new()
    }

    /// Whether it mixes the values before the first layer into its rows.
    fn reads_initial(&self) -> bool {
        false
    }

    /// Values per row of [`Convolution::terms`].
    fn term_width(&self) -> usize {
        0
    }

    /// Adds some sources to a target's partial softmax; only for [`Reduction::Softmax`].
    fn attend(&self, rows: Rows<'_>, ids: &[u32], term: &[f32], partial: &mut [f32]) {
        let _ = (rows, ids, term, partial);
    }

    /// Rows of some targets, `[targets, width]`, from what all their sources were reduced to,
    /// `[targets, reduction width]`: the same as [`Convolution::compute`] up to rounding.
    fn complete(&self, reduced: Vec<f32>, own: &OwnRows<'_>) -> Vec<f32>;
}

/// How the messages of a target's sources are reduced, part by part in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// Their sum, each times its factor as a source.
    Sum {
        /// Whether edges from a node to itself are left out.
        without_self: bool,
    },
    /// Their largest value in each channel; -inf where there is no source.
    Max,
    /// Their sum by the softmax of a logit an edge, one a head: `[largest logit, sum of exponentials, weighted
    /// sum]`, the exponentials of the logits less the largest; -inf, 0 and 0 where there is no source.
    Softmax {
        /// Softmaxes side by side.
        heads: usize,
        /// Whether edges from a node to itself are left out.
        without_self: bool,
    },
}

/// What the owner of some targets knows of them.
#[derive(Debug, Clone, Copy)]
pub struct OwnRows<'a> {
    /// Values of the level below, `[targets, width]`.
    pub values: &'a [f32],
    /// Their own messages, `[targets, message width]`; `values` where messages are the values.
    pub messages: &'a [f32],
    /// Values before the first layer, `[targets, width]`; empty where the layer reads none.
    pub initial: &'a [f32],
    /// In-edges with the batch attached, self-loops among them, `[targets]`.
    pub in_degrees: &'a [u32],
    /// Factors as a source, `[targets]`; empty where the layer has none.
    pub source_scales: &'a [f32],
    /// Factors as a target, `[targets]`; empty where the layer has none.
    pub target_scales: &'a [f32],
}

/// Finishes a reduction of messages over all sources, `[targets, message width]`.
fn finish_reduce(reduce: Reduce, rows: &mut [f32], own: &OwnRows<'_>) {
    let targets = own.in_degrees.len().max(1);
    let width = (rows.len() / targets).max(1);
    for (row, &in_degree) in rows.chunks_exact_mut(width).zip(own.in_degrees) {
        match reduce {
            _ if in_degree == 0 => row.fill(0.0),
            Reduce::Sum | Reduce::Max => {}
            Reduce::Mean => {
                let scale = 1.0 / in_degree as f32;
                row.iter_mut().for_each(|v| *v *= scale);
            }
        }
    }
}

/// How a layer that reduces messages so is cut.
fn message_reduction(reduce: Reduce) -> Reduction {
    match reduce {
        Reduce::Max => Reduction::Max,
        Reduce::Sum | Reduce::Mean => Reduction::Sum {
            without_self: false,
        },
    }
}

/// Where a layer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It reads stored rows that no batch changes.
    First,
    Later,
}

/// How the messages of a target's sources become one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduce {
    Sum,
    Mean,
    /// 0 where there is no source.
    Max,
}

/// How a layer's plain sum over sources leaves out self-loops; only layers that have such a sum can
/// have it kept and brought up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SourceSum {
    /// The graph's self-loops do not count.
    pub without_self: bool,
}

impl SourceSum {
    /// Adds the messages of a target's sources, each times its factor as a source, to `sum`.
    ///
    /// Where the sum of the stored sources is kept, and what changed of it is less than the whole,
    /// only that is read: the rows that are not to count any more are subtracted as they were
    /// counted, and the rows that count now are added. Source: the identity
    /// `Σ c' x' = Σ c x + Σ over what changed of (c' x' - c x)`.
    pub(crate) fn add(
        self,
        input: &LayerInput<'_>,
        target: Target,
        sources: &mut Sources,
        sum: &mut [f32],
    ) {
        if let (Target::Stored(node), Some(kept)) = (target, input.sums) {
            input.changed_sources(node, self.without_self, sources);
            let rows = 1 + sources.len() + sources.withdrawn.len();
            if rows <= input.in_degree(target, self.without_self) {
                input.count_rows(rows);
                kept.sums.read(node as usize, sum);
                withdraw(input, kept.scales, sources, sum);
                add_sources(input, sources, sum);
                return;
            }
        }
        input.sources(target, self.without_self, sources);
        input.count_rows(sources.len());
        add_sources(input, sources, sum);
    }

    /// The sums of some stored nodes without a batch, `[nodes, width]`.
    pub(crate) fn of(
        self,
        input: &LayerInput<'_>,
        range: Range<usize>,
        sources: &mut Sources,
    ) -> Vec<f32> {
        let width = input.messages.stored.width();
        let mut sums = vec![0.0; range.len() * width];
        for (sum, index) in sums.chunks_exact_mut(width).zip(range) {
            self.add(input, input.targets.get(index), sources, sum);
        }
        sums
    }
}

/// Subtracts the rows that do not count any more, each times the factor with which it counted.
fn withdraw(
    input: &LayerInput<'_>,
    scales: Option<&[f32]>,
    sources: &mut Sources,
    sum: &mut [f32],
) {
    if sources.withdrawn.is_empty() {
        return;
    }
    sources.row.clear();
    sources.row.resize(sum.len(), 0.0);
    let stored = input.messages.stored;
    gather_sum(stored, &sources.withdrawn, scales, &mut sources.row);
    sum.iter_mut().zip(&sources.row).for_each(|(v, x)| *v -= x);
}

/// Adds the rows listed, each times its factor.
fn add_sources(input: &LayerInput<'_>, sources: &Sources, sum: &mut [f32]) {
    let (messages, scales) = (&input.messages, input.source_scales.as_ref());
    let stored_scales = scales.map(|s| s.stored);
    gather_sum(messages.stored, &sources.stored, stored_scales, sum);
    let scales_at_hand = scales.map(|s| &s.at_hand[..]);
    gather_sum(messages.at_hand, &sources.at_hand, scales_at_hand, sum);
}

/// Reduces the messages of some targets' sources, `[targets, message width]`.
fn aggregate(
    input: &LayerInput<'_>,
    range: Range<usize>,
    reduce: Reduce,
    sources: &mut Sources,
) -> Vec<f32> {
    let messages = &input.messages;
    let width = messages.at_hand.width();
    let mut rows = vec![0.0; range.len() * width];
    for (row, index) in rows.chunks_exact_mut(width).zip(range) {
        let target = input.targets.get(index);
        let in_degree = input.in_degree(target, false);
        match reduce {
            _ if in_degree == 0 => {}
            Reduce::Max => {
                input.sources(target, false, sources);
                input.count_rows(in_degree);
                row.fill(f32::NEG_INFINITY);
                gather_max(messages.stored, &sources.stored, row);
                gather_max(messages.at_hand, &sources.at_hand, row);
            }
            Reduce::Sum => EVERY_SOURCE.add(input, target, sources, row),
            Reduce::Mean => {
                EVERY_SOURCE.add(input, target, sources, row);
                let scale = 1.0 / in_degree as f32;
                row.iter_mut().for_each(|v| *v *= scale);
            }
        }
    }
    rows
}

/// Self-loops count as any other edge.
pub(crate) const EVERY_SOURCE: SourceSum = SourceSum {
    without_self: false,
};

/// The plain sum of a layer that reduces messages so.
fn reduced_sum(reduce: Reduce) -> Option<SourceSum> {
    (reduce != Reduce::Max).then_some(EVERY_SOURCE)
}

/// A linear map of a sum over sources: of the sum, or of each message before it is summed. Which of
/// the two is the same in exact arithmetic; the narrower rows are summed. Of rows of one width, the
/// first layer sums mapped ones: its stored rows never change, so what is kept of them needs no
/// product any more.
#[derive(Debug)]
struct SummedLinear {
    /// The map, where it makes the messages.
    message: Vec<RowOp>,
    /// The map, where it is applied to the sum.
    after: Option<Linear>,
    outputs: usize,
}

impl SummedLinear {
    /// For a map without a bias.
    fn new(linear: Linear, place: Place) -> Self {
        let outputs = linear.outputs();
        let maps_messages = match place {
            Place::First => outputs <= linear.inputs(),
            Place::Later => outputs < linear.inputs(),
        };
        match maps_messages {
            true => Self {
                message: vec![RowOp::Linear(linear)],
                after: None,
                outputs,
            },
            false => Self {
                message: Vec::new(),
                after: Some(linear),
                outputs,
            },
        }
    }

    /// The mapped sums, `[rows, outputs]`, from the sums of the messages.
    fn finish(&self, sums: Vec<f32>) -> Vec<f32> {
        match &self.after {
            Some(linear) => linear.apply(&sums),
            None => sums,
        }
    }
}

/// The weights of a sum over sources: a factor of the source times a factor of the target, and a
/// self-loop where the layer adds one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Propagation {
    pub source: Option<DegreeScale>,
    pub target: Option<DegreeScale>,
    /// Weight of the one self-loop that replaces those of the graph; without it they stay.
    pub self_loop: Option<f32>,
}

impl Propagation {
    /// Its plain sum.
    fn source_sum(&self) -> SourceSum {
        SourceSum {
            without_self: self.self_loop.is_some(),
        }
    }

    /// How it is cut.
    fn reduction(&self) -> Reduction {
        Reduction::Sum {
            without_self: self.self_loop.is_some(),
        }
    }

    /// The weighted sums from the sums over the sources, `[targets, width]`.
    fn complete(&self, rows: &mut [f32], own: &OwnRows<'_>) {
        let targets = own.in_degrees.len().max(1);
        let width = (rows.len() / targets).max(1);
        let scale = |scales: &[f32], at: usize| scales.get(at).copied().unwrap_or(1.0);
        for (at, row) in rows.chunks_exact_mut(width).enumerate() {
            if let Some(weight) = self.self_loop {
                let weight = weight * scale(own.source_scales, at);
                let message = &own.messages[at * width..][..width];
                row.iter_mut()
                    .zip(message)
                    .for_each(|(v, x)| *v += weight * x);
            }
            if self.target.is_some() {
                let scale = scale(own.target_scales, at);
                row.iter_mut().for_each(|v| *v *= scale);
            }
        }
    }

    /// The weighted sums of some targets' sources, `[targets, width]`.
    fn compute(
        &self,
        input: &LayerInput<'_>,
        range: Range<usize>,
        sources: &mut Sources,
    ) -> Vec<f32> {
        let messages = &input.messages;
        let width = messages.at_hand.width();
        let mut rows = vec![0.0; range.len() * width];
        let mut own = vec![0.0; width];
        for (row, index) in rows.chunks_exact_mut(width).zip(range) {
            let target = input.targets.get(index);
            self.source_sum().add(input, target, sources, row);
            if let Some(weight) = self.self_loop {
                messages.read(target, &mut own);
                let scales = input.source_scales.as_ref();
                let weight = weight * scales.map_or(1.0, |scales| scales.of(target));
                row.iter_mut().zip(&own).for_each(|(v, x)| *v += weight * x);
            }
            if let Some(scales) = &input.target_scales {
                let scale = scales.of(target);
                row.iter_mut().for_each(|v| *v *= scale);
            }
        }
        rows
    }
}
