use super::{Convolution, Made, Needs, OwnRows, Propagation, Reduction, gcn::propagation};
use crate::{
    GraphError,
    model::{config::Gcn2Config, linear::add_bias, weights::Weights},
};
use satisfice_kernels::matmul_transposed;

/// `(1 - β) z + β z W` with `z = (1 - α) P x + α x0`, or with a second weight for `x0`.
///
/// Source: Chen et al., "Simple and Deep Graph Convolutional Networks" (2020), as `GCN2Conv` of
/// PyTorch Geometric and DGL.
#[derive(Debug)]
pub(crate) struct Gcn2 {
    propagation: Propagation,
    alpha: f32,
    beta: f32,
    /// `[width, width]`, transposed.
    weight: Vec<f32>,
    /// Of the initial rows, where they have their own.
    initial_weight: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
    width: usize,
}

impl Gcn2 {
    pub(crate) fn take(
        weights: &Weights,
        tensors: &str,
        config: &Gcn2Config,
        width: usize,
    ) -> Result<Self, GraphError> {
        let take = |name: &str| weights.take_transposed(tensors, name, width, width);
        Ok(Self {
            propagation: propagation(config.norm, config.self_loops, 1.0),
            alpha: config.alpha,
            beta: config.beta,
            weight: take("weight1")?,
            initial_weight: match config.shared_weights {
                true => None,
                false => Some(take("weight2")?),
            },
            bias: weights.take_if(config.bias, tensors, "bias", &[width])?,
            width,
        })
    }

    /// `out += (1 - β) rows + β rows W`.
    fn add_mixed(&self, mut rows: Vec<f32>, weight: &[f32], out: &mut [f32]) {
        for (out, v) in out.iter_mut().zip(&mut rows) {
            *out += (1.0 - self.beta) * *v;
            *v *= self.beta;
        }
        matmul_transposed(&rows, weight, self.width, out);
    }
}

impl Convolution for Gcn2 {
    fn width(&self) -> usize {
        self.width
    }

    fn propagation(&self) -> Option<&Propagation> {
        Some(&self.propagation)
    }

    fn reduction(&self) -> Reduction {
        self.propagation.reduction()
    }

    fn needs(&self) -> Needs {
        Needs {
            initial: true,
            ..self.propagation.needs()
        }
    }

    fn complete(&self, mut reduced: Vec<f32>, _: &Made, own: &OwnRows<'_>) -> Vec<f32> {
        self.propagation.complete(&mut reduced, own);
        self.finish(reduced, own.initial.to_vec())
    }
}

impl Gcn2 {
    /// Rows from the weighted sums and the targets' initial rows.
    fn finish(&self, mut rows: Vec<f32>, mut initial: Vec<f32>) -> Vec<f32> {
        initial.iter_mut().for_each(|v| *v *= self.alpha);
        rows.iter_mut().for_each(|v| *v *= 1.0 - self.alpha);
        let mut out = vec![0.0; rows.len()];
        match &self.initial_weight {
            None => rows.iter_mut().zip(initial).for_each(|(v, x)| *v += x),
            Some(weight) => self.add_mixed(initial, weight, &mut out),
        }
        self.add_mixed(rows, &self.weight, &mut out);
        if let Some(bias) = &self.bias {
            add_bias(bias, &mut out);
        }
        out
    }
}
