use super::{
    Convolution, Made, Needs, OwnRows, Reduce, Reduction, finish_reduce, message_reduction,
};
use crate::model::program::Program;
use std::borrow::Cow;

/// `mlp((1 + ε) x_t + Σ_s x_s)`.
///
/// Source: Xu et al., "How Powerful are Graph Neural Networks?" (2019), as `GINConv` of PyTorch
/// Geometric and DGL.
#[derive(Debug)]
pub(crate) struct Gin {
    pub eps: f32,
    pub reduce: Reduce,
    pub mlp: Program,
}

impl Convolution for Gin {
    fn width(&self) -> usize {
        self.mlp.width()
    }

    fn averages(&self) -> bool {
        self.reduce != Reduce::Sum
    }

    fn reduction(&self) -> Reduction {
        message_reduction(self.reduce)
    }

    fn needs(&self) -> Needs {
        Needs {
            values: true,
            ..Needs::default()
        }
    }

    fn complete(&self, mut rows: Vec<f32>, _: &Made, own: &OwnRows<'_>) -> Vec<f32> {
        finish_reduce(self.reduce, &mut rows, own);
        for (v, x) in rows.iter_mut().zip(own.values) {
            *v += (1.0 + self.eps) * x;
        }
        self.mlp.run(Cow::Owned(rows), &[])
    }
}
