use super::{Convolution, Reduce, SourceSum, aggregate, reduced_sum};
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
        let mut rows = aggregate(input, range, self.reduce, sources);
        for (v, x) in rows.iter_mut().zip(own) {
            *v += (1.0 + self.eps) * x;
        }
        apply_ops(&self.mlp, rows, self.inputs, &[])
    }
}
