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

use super::row_op::RowOp;
use crate::run::{DegreeScale, LayerInput, Sources, Target};
use satisfice_kernels::{gather_max, gather_sum};
use std::ops::Range;

/// One kind of message passing: from the values of the level below to rows of
/// [`Convolution::width`] values.
pub(crate) trait Convolution: std::fmt::Debug + Send + Sync {
    /// Values per row that it leaves.
    fn width(&self) -> usize;

    /// What makes a source's message of its value; nothing where the message is the value.
    fn message(&self) -> &[RowOp] {
        &[]
    }

    /// Whether a target reads its own message whatever its edges are.
    fn reads_own_message(&self) -> bool {
        false
    }

    /// Scores of `messages`, `[rows, heads]`; empty where none are needed.
    fn scores(&self, messages: &[f32]) -> Vec<f32> {
        let _ = messages;
        Vec::new()
    }

    /// Whether more sources make each count for less.
    fn averages(&self) -> bool {
        true
    }

    /// The factor of a node as a source and as a target.
    fn scales(&self) -> (Option<DegreeScale>, Option<DegreeScale>) {
        (None, None)
    }

    /// Rows of some targets, `[targets, width]`. `sources` is space to work in.
    fn compute(
        &self,
        input: &LayerInput<'_>,
        range: Range<usize>,
        sources: &mut Sources,
    ) -> Vec<f32>;
}

/// How the messages of a target's sources become one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduce {
    Sum,
    Mean,
    /// 0 where there is no source.
    Max,
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
        input.sources(input.targets.get(index), false, sources);
        if sources.len() == 0 {
            continue;
        }
        if reduce == Reduce::Max {
            row.fill(f32::NEG_INFINITY);
            gather_max(messages.stored, &sources.stored, row);
            gather_max(messages.at_hand, &sources.at_hand, row);
        } else {
            gather_sum(messages.stored, &sources.stored, None, row);
            gather_sum(messages.at_hand, &sources.at_hand, None, row);
        }
        if reduce == Reduce::Mean {
            let scale = 1.0 / sources.len() as f32;
            row.iter_mut().for_each(|v| *v *= scale);
        }
    }
    rows
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
    /// The weighted sums of some targets' sources, `[targets, width]`.
    fn compute(
        &self,
        input: &LayerInput<'_>,
        range: Range<usize>,
        sources: &mut Sources,
    ) -> Vec<f32> {
        let messages = &input.messages;
        let width = messages.at_hand.width();
        let scales = input.source_scales.as_ref();
        let mut rows = vec![0.0; range.len() * width];
        let mut own = vec![0.0; width];
        for (row, index) in rows.chunks_exact_mut(width).zip(range) {
            let target = input.targets.get(index);
            input.sources(target, self.self_loop.is_some(), sources);
            gather_sum(
                messages.stored,
                &sources.stored,
                scales.map(|s| s.stored),
                row,
            );
            let at_hand = scales.map(|s| &s.at_hand[..]);
            gather_sum(messages.at_hand, &sources.at_hand, at_hand, row);
            if let Some(weight) = self.self_loop {
                messages.read(target, &mut own);
                let weight = weight * scale_of(scales, target);
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

fn scale_of(scales: Option<&crate::run::NodeScales<'_>>, target: Target) -> f32 {
    scales.map_or(1.0, |scales| scales.of(target))
}
