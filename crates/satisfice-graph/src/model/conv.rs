//! The message-passing layers.

mod attention;
mod edge;
mod gcn;
mod gcn2;
mod gin;
mod message;
mod propagate;
mod sage;
mod softmax;

pub(crate) use attention::Attention;
pub(crate) use edge::Edge;
pub(crate) use gcn::{Gcn, propagation};
pub(crate) use gcn2::Gcn2;
pub(crate) use gin::Gin;
pub(crate) use message::Message;
pub(crate) use propagate::Propagate;
pub(crate) use sage::Sage;

use super::{linear::Linear, program::Program, row_op::RowOp};
use crate::run::DegreeScale;
use satisfice_kernels::{Rows, gather_max, gather_sum};

/// One kind of message passing: from the values of the level below to rows of
/// [`Convolution::width`] values.
pub(crate) trait Convolution: std::fmt::Debug + Send + Sync {
    /// Values per row that it leaves.
    fn width(&self) -> usize;

    /// What makes a source's message of what the layer reads of it; nothing where the message is that. Messages
    /// of stored nodes are kept like their values.
    fn message(&self) -> Option<&Program> {
        None
    }

    /// The weighted sum that it takes of its sources, where it takes one.
    fn propagation(&self) -> Option<&Propagation> {
        None
    }

    /// Whether more sources make each count for less.
    fn averages(&self) -> bool {
        self.propagation().is_none()
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

    /// How what its sources send is reduced, part by part in any order.
    fn reduction(&self) -> Reduction;

    /// What of a target it reads besides.
    fn needs(&self) -> Needs;

    /// What targets bring to the reduction over their sources, `[targets, term width]`, from their
    /// own values and messages.
    fn terms(&self, values: &[f32], messages: &[f32]) -> Vec<f32> {
        let _ = (values, messages);
        Vec::new()
    }

    /// Values per row of [`Convolution::terms`].
    fn term_width(&self) -> usize {
        0
    }

    /// Adds some sources to a target's partial result; only for reductions that read what the target brings.
    fn attend(&self, rows: Rows<'_>, ids: &[u32], term: &[f32], partial: &mut [f32]) {
        let _ = (rows, ids, term, partial);
    }

    /// Rows of some targets, `[targets, width]`, from what all their sources were reduced to,
    /// `[targets, reduction width]`.
    fn complete(&self, reduced: Vec<f32>, made: &Made, own: &OwnRows<'_>) -> Vec<f32>;
}

impl dyn Convolution + '_ {
    /// Adds the messages named, each times its factor where there are `scales`, to a target's partial
    /// result. `term` is the target's row of [`Convolution::terms`].
    pub(crate) fn add(
        &self,
        rows: Rows<'_>,
        ids: &[u32],
        scales: Option<&[f32]>,
        term: &[f32],
        partial: &mut [f32],
    ) {
        match self.reduction() {
            Reduction::Sum { .. } => gather_sum(rows, ids, scales, partial),
            Reduction::Max => gather_max(rows, ids, partial),
            Reduction::Softmax { .. } | Reduction::Joint { .. } => {
                self.attend(rows, ids, term, partial);
            }
        }
    }
}

/// Which rows of a target a layer reads besides what its sources were reduced to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are read one by one, none excludes another"
)]
pub(crate) struct Needs {
    /// What the convolution reads of it, but for [`Convolution::own`] of that.
    pub values: bool,
    /// Its value at the level below.
    pub below: bool,
    /// Its message.
    pub messages: bool,
    /// Its value before the first layer.
    pub initial: bool,
}

/// What a layer makes of the own rows of some targets before it completes them; empty where it makes
/// nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Made {
    /// [`Convolution::own`] of their values, `[targets, width]`.
    pub mapped: Vec<f32>,
    /// [`Convolution::terms`], `[targets, term width]`.
    pub terms: Vec<f32>,
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
        /// Values that are summed.
        values: usize,
        /// Whether edges from a node to itself are left out.
        without_self: bool,
    },
    /// Of what each is made with what the target brings: sums, 0 where there is no source, and then largest values,
    /// -inf where there is none.
    Joint {
        /// Values that are summed.
        sums: usize,
        /// Values of which the largest counts.
        maxima: usize,
        /// Whether edges from a node to itself are left out.
        without_self: bool,
    },
}

impl Reduction {
    /// Whether edges from a node to itself are left out.
    pub fn without_self(self) -> bool {
        match self {
            Self::Sum { without_self }
            | Self::Softmax { without_self, .. }
            | Self::Joint { without_self, .. } => without_self,
            Self::Max => false,
        }
    }

    /// Values of a partial result over messages of `message_width` values.
    pub(crate) fn width(self, message_width: usize) -> usize {
        match self {
            Self::Sum { .. } | Self::Max => message_width,
            Self::Softmax { heads, values, .. } => 2 * heads + values,
            Self::Joint { sums, maxima, .. } => sums + maxima,
        }
    }

    /// Makes it the partial result over no source.
    pub(crate) fn clear(self, partial: &mut [f32]) {
        match self {
            Self::Sum { .. } => partial.fill(0.0),
            Self::Max => partial.fill(f32::NEG_INFINITY),
            Self::Joint { sums, .. } => {
                partial[..sums].fill(0.0);
                partial[sums..].fill(f32::NEG_INFINITY);
            }
            Self::Softmax { heads, .. } => {
                partial[..heads].fill(f32::NEG_INFINITY);
                partial[heads..].fill(0.0);
            }
        }
    }
}

/// What the owner of some targets knows of them.
#[derive(Debug, Clone, Copy)]
pub struct OwnRows<'a> {
    /// Values of the level that the layer reads, `[targets, width]`.
    pub values: &'a [f32],
    /// Values of the level below, `[targets, width]`; empty where what follows the layer reads none.
    pub below: &'a [f32],
    /// Their own messages, `[targets, message width]`; `values` where messages are these.
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

/// A linear map of a sum over sources: of the sum, or of each message before it is summed. Which of
/// the two is the same in exact arithmetic; the narrower rows are summed. Of rows of one width, the
/// first layer sums mapped ones: its stored rows never change, so what is kept of them needs no
/// product any more.
#[derive(Debug)]
struct SummedLinear {
    /// The map, where it makes the messages.
    message: Option<Program>,
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
                message: Some(Program::chain(linear.inputs(), vec![RowOp::Linear(linear)])),
                after: None,
                outputs,
            },
            false => Self {
                message: None,
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
    /// How it is cut.
    fn reduction(&self) -> Reduction {
        Reduction::Sum {
            without_self: self.self_loop.is_some(),
        }
    }

    /// What it reads of a target.
    fn needs(&self) -> Needs {
        Needs {
            messages: self.self_loop.is_some(),
            ..Needs::default()
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
}
