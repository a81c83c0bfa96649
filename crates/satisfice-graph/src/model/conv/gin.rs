use super::{
    Convolution, OwnRows, Reduce, Reduction, SourceSum, aggregate, finish_reduce,
    message_reduction, reduced_sum,
};
use crate::{
    model::row_op::{RowOp, apply_ops},
    run::{LayerInput, Sources},
};
use std::ops::Range;

/// `mlp((1 + ε) x_t + Σ_s x_s)`.
///
/// Source: Xu et al., "How Powerful are Graph Neural Networks?" (2019), as `GINConv` of PyTorch
/// Geometric and DGL.
#[derive(Debug)]
pub(crate) struct Gin {
    pub eps: f32,
    pub reduce: Reduce,
    pub mlp: Vec<RowOp>,
    pub inputs: usize,
    pub out: usize,
}

impl Convolution for Gin {
    fn width(&self) -> usize {
        self.out
    }

    fn source_sum(&self) -> Option<SourceSum> {
        reduced_sum(self.reduce)
    }

    fn averages(&self) -> bool {
        self.reduce != Reduce::Sum
    }

    fn compute(
        &self,
        input: &LayerInput<'_>,
        range: Range<usize>,
        sources: &mut Sources,
    ) -> Vec<f32> {
        let own = input.own_rows(range.clone());
        self.finish(aggregate(input, range, self.reduce, sources), &own)
    }

    fn reduction(&self) -> Reduction {
        message_reduction(self.reduce)
    }

    fn complete(&self, mut reduced: Vec<f32>, own: &OwnRows<'_>) -> Vec<f32> {
        finish_reduce(self.reduce, &mut reduced, own);
        self.finish(reduced, own.values)
    }
}

impl Gin {
    /// Rows from the aggregates and the targets' own values.
    fn finish(&self, mut rows: Vec<f32>, own: &[f32]) -> Vec<f32> {
        for (v, x) in rows.iter_mut().zip(own) {
            *v += (1.0 + self.eps) * x;
        }
        apply_ops(&self.mlp, rows, self.inputs, &[])
    }
}
