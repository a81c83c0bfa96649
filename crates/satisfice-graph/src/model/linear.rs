use super::weights::Weights;
use crate::GraphError;
use satisfice_kernels::matmul_transposed;

/// `x Wᵀ + b`, row by row.
#[derive(Debug)]
pub(crate) struct Linear {
    /// `[outputs, inputs]`.
    weight: Vec<f32>,
    /// `[outputs]`.
    bias: Option<Vec<f32>>,
    inputs: usize,
    outputs: usize,
}

impl Linear {
    /// Takes `prefix.weight`, `[outputs, inputs]`, and, if wanted, `prefix.bias`.
    pub(crate) fn take(
        weights: &Weights,
        prefix: &str,
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<Self, GraphError> {
        let weight = weights.take(prefix, "weight", &[outputs, inputs])?;
        let bias = weights.take_if(bias, prefix, "bias", &[outputs])?;
        Ok(Self::new(weight, bias, inputs, outputs))
    }

    /// A linear map of `weight`, `[outputs, inputs]`, and `bias`, `[outputs]`.
    pub(crate) fn new(
        weight: Vec<f32>,
        bias: Option<Vec<f32>>,
        inputs: usize,
        outputs: usize,
    ) -> Self {
        debug_assert_eq!(weight.len(), inputs * outputs);
        Self {
            weight,
            bias,
            inputs,
            outputs,
        }
    }

    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// `out += x Wᵀ + b`; `x` `[rows, inputs]`, `out` `[rows, outputs]`.
    pub(crate) fn add_to(&self, x: &[f32], out: &mut [f32]) {
        matmul_transposed(x, &self.weight, self.inputs, out);
        if let Some(bias) = &self.bias {
            add_bias(bias, out);
        }
    }

    /// `x Wᵀ + b`, `[rows, outputs]`.
    pub(crate) fn apply(&self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; x.len() / self.inputs * self.outputs];
        self.add_to(x, &mut out);
        out
    }
}

/// Adds `bias` to every row of `out`.
pub(crate) fn add_bias(bias: &[f32], out: &mut [f32]) {
    for row in out.chunks_exact_mut(bias.len()) {
        for (value, bias) in row.iter_mut().zip(bias) {
            *value += bias;
        }
    }
}
