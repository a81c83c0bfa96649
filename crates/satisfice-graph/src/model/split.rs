//! A layer cut at its reduction over sources, for who holds the sources of a target in several places.

use super::{
    Convolution, GnnModel, Layer,
    conv::{Made, OwnRows, Reduction},
    linear::Linear,
};
use crate::run::{DegreeEffects, DegreeScale, degree_effects};
use satisfice_kernels::Rows;
use std::borrow::Cow;

/// A layer in three steps: each holder of sources reduces those it has ([`SplitLayer::add`]), the
/// partial results are joined ([`SplitLayer::join`]), and the owner of the target completes its row
/// ([`SplitLayer::complete`]). The parts may be joined in any order; the result is the layer's value
/// up to rounding.
#[derive(Debug, Clone, Copy)]
pub struct SplitLayer<'a> {
    layer: &'a Layer,
}

impl GnnModel {
    /// Layer `index`, 0 .. K-1, cut at its reduction.
    ///
    /// # Panics
    /// When there is no such layer.
    pub fn split_layer(&self, index: usize) -> SplitLayer<'_> {
        SplitLayer {
            layer: &self.layers[index],
        }
    }

    /// What of the graph a change of degree reaches.
    pub fn degree_effects(&self) -> DegreeEffects {
        degree_effects(self)
    }
}

impl SplitLayer<'_> {
    fn conv(&self) -> &dyn Convolution {
        &*self.layer.conv
    }

    /// How messages are reduced.
    pub fn reduction(&self) -> Reduction {
        self.conv().reduction()
    }

    /// Whether the edges from a node to itself are left out of the reduction.
    pub fn without_self(&self) -> bool {
        self.reduction().without_self()
    }

    /// Values per row of a partial result.
    pub fn partial_width(&self) -> usize {
        self.reduction().width(self.message_width())
    }

    /// Values per row of a message.
    pub fn message_width(&self) -> usize {
        self.layer.message_width()
    }

    /// Values per row that the layer leaves.
    pub fn width(&self) -> usize {
        self.layer.width()
    }

    /// Values per row that a target brings to its reduction; 0 where it brings none.
    pub fn term_width(&self) -> usize {
        self.conv().term_width()
    }

    /// The factors of a node as a source and as a target.
    pub fn scales(&self) -> (Option<DegreeScale>, Option<DegreeScale>) {
        self.conv().scales()
    }

    /// Whether more sources make each count for less.
    pub fn averages(&self) -> bool {
        self.conv().averages()
    }

    /// Whether what a source sends is not its value at the level that the layer reads.
    pub fn makes_messages(&self) -> bool {
        self.layer.makes_messages()
    }

    /// Whether sources send what they are at level 0, not at the level below.
    pub fn reads_initial(&self) -> bool {
        self.layer.reads_initial()
    }

    /// Whether a target's value at level 0 is read besides.
    pub fn needs_initial(&self) -> bool {
        self.layer.needs().initial
    }

    /// Whether a target's value at the level below is read besides.
    pub fn needs_below(&self) -> bool {
        self.layer.needs().below
    }

    /// What nodes send, `[rows, message width]`, from their values at the level that the layer reads.
    pub fn messages(&self, values: &[f32]) -> Vec<f32> {
        self.layer.messages(values)
    }

    /// What targets bring to their reductions, `[targets, term width]`, from their own values at the level that
    /// the layer reads, and messages.
    pub fn terms(&self, values: &[f32], messages: &[f32]) -> Vec<f32> {
        self.conv().terms(&self.read(values), messages)
    }

    /// What the convolution reads of targets themselves.
    fn read(self, values: &[f32]) -> Cow<'_, [f32]> {
        match self.layer.reads_below() || !self.conv().needs().values {
            true => Cow::Borrowed(values),
            false => Cow::Owned(self.layer.read(values)),
        }
    }

    /// The partial result over no source, to `partial`, `[partial width]`.
    pub fn clear(&self, partial: &mut [f32]) {
        self.reduction().clear(partial);
    }

    /// Adds the messages named, each times its factor where there are `scales`, to a target's partial
    /// result. `term` is the target's row of [`SplitLayer::terms`].
    ///
    /// # Panics
    /// When a width does not fit, or an id has no row or factor.
    pub fn add(
        &self,
        rows: Rows<'_>,
        ids: &[u32],
        scales: Option<&[f32]>,
        term: &[f32],
        partial: &mut [f32],
    ) {
        self.conv().add(rows, ids, scales, term, partial);
    }

    /// Joins a partial result into another one of the same target.
    pub fn join(&self, from: &[f32], into: &mut [f32]) {
        match self.reduction() {
            Reduction::Sum { .. } => join_sums(from, into),
            Reduction::Max => join_maxima(from, into),
            Reduction::Joint { sums, .. } => {
                join_sums(&from[..sums], &mut into[..sums]);
                join_maxima(&from[sums..], &mut into[sums..]);
            }
            Reduction::Softmax { heads, .. } => join_softmax(heads, from, into),
        }
    }

    /// Values per row of what the layer adds of a target's own value; 0 where it adds no linear map of it.
    pub fn own_width(&self) -> usize {
        self.conv().own().map_or(0, Linear::outputs)
    }

    /// What the layer adds of targets' own values, `[targets, own width]`.
    pub fn own(&self, values: &[f32]) -> Vec<f32> {
        let map = |linear: &Linear| match self.layer.reads_below() {
            true => linear.apply(values),
            false => linear.apply(&self.layer.read(values)),
        };
        let mapped = self.conv().own().map(map);
        mapped.unwrap_or_default()
    }

    /// Values of some targets after the layer, `[targets, width]`, from what all their sources were
    /// reduced to, `[targets, partial width]`, and [`SplitLayer::own`] of their values.
    ///
    /// # Panics
    /// When a shape does not fit.
    pub fn complete(&self, reduced: Vec<f32>, mapped: Vec<f32>, own: &OwnRows<'_>) -> Vec<f32> {
        let values = self.read(own.values);
        let own = OwnRows {
            values: &values,
            ..*own
        };
        let made = Made {
            mapped,
            terms: self.conv().terms(own.values, own.messages),
        };
        self.layer.complete(reduced, &made, &own)
    }
}

fn join_sums(from: &[f32], into: &mut [f32]) {
    into.iter_mut().zip(from).for_each(|(v, x)| *v += x);
}

fn join_maxima(from: &[f32], into: &mut [f32]) {
    into.iter_mut().zip(from).for_each(|(v, x)| *v = v.max(*x));
}

/// Joins `[largest logit, sum of exponentials, weighted sum]` of one target, a head at a time.
fn join_softmax(heads: usize, from: &[f32], into: &mut [f32]) {
    let channels = (from.len() - 2 * heads) / heads;
    for head in 0..heads {
        let top = from[head].max(into[head]);
        if top == f32::NEG_INFINITY {
            continue;
        }
        let (theirs, ours) = ((from[head] - top).exp(), (into[head] - top).exp());
        into[head] = top;
        into[heads + head] = ours * into[heads + head] + theirs * from[heads + head];
        let range = 2 * heads + head * channels..2 * heads + (head + 1) * channels;
        into[range.clone()]
            .iter_mut()
            .zip(&from[range])
            .for_each(|(v, x)| *v = ours * *v + theirs * x);
    }
}
