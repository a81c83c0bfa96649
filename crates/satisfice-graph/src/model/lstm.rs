//! Jumping knowledge by an LSTM: the last representation of a node from those of all its layers.
//!
//! Source: Xu et al., "Representation Learning on Graphs with Jumping Knowledge Networks" (2018),
//! as PyTorch Geometric's `JumpingKnowledge` does it.

use super::{
    linear::{Linear, add_bias},
    row_op::{concatenate, sigmoid},
    weights::Weights,
};
use crate::GraphError;
use satisfice_kernels::matmul_transposed;

/// A bidirectional LSTM over the layers, whose states are scored; the rows' sum is weighted by the
/// softmax of the scores.
#[derive(Debug)]
pub(crate) struct Lstm {
    forward: Cell,
    backward: Cell,
    score: Linear,
    hidden: usize,
}

#[derive(Debug)]
struct Cell {
    /// `[4 * hidden, inputs]`, gates in the order input, forget, cell, output.
    input: Vec<f32>,
    /// `[4 * hidden, hidden]`.
    state: Vec<f32>,
    /// `[4 * hidden]`: the sum of both biases.
    bias: Vec<f32>,
    hidden: usize,
}

impl Cell {
    fn take(
        weights: &Weights,
        prefix: &str,
        suffix: &str,
        inputs: usize,
        hidden: usize,
    ) -> Result<Self, GraphError> {
        let take = |name: &str, shape: &[usize]| {
            weights.take(prefix, &format!("lstm.{name}_l0{suffix}"), shape)
        };
        let mut bias = take("bias_ih", &[4 * hidden])?;
        for (b, other) in bias.iter_mut().zip(take("bias_hh", &[4 * hidden])?) {
            *b += other;
        }
        Ok(Self {
            input: take("weight_ih", &[4 * hidden, inputs])?,
            state: take("weight_hh", &[4 * hidden, hidden])?,
            bias,
            hidden,
        })
    }

    /// States after each step, each `[rows, hidden]`, in the order of `steps`.
    fn run<'a>(&self, steps: impl Iterator<Item = &'a &'a [f32]>, width: usize) -> Vec<Vec<f32>> {
        let n = self.hidden;
        let (mut state, mut memory) = (Vec::new(), Vec::new());
        let mut states = Vec::new();
        for x in steps {
            let rows = x.len() / width;
            state.resize(rows * n, 0.0);
            memory.resize(rows * n, 0.0);
            let mut gates = vec![0.0; rows * 4 * n];
            matmul_transposed(x, &self.input, width, &mut gates);
            matmul_transposed(&state, &self.state, n, &mut gates);
            add_bias(&self.bias, &mut gates);
            for ((gates, state), memory) in gates
                .chunks_exact(4 * n)
                .zip(state.chunks_exact_mut(n))
                .zip(memory.chunks_exact_mut(n))
            {
                for i in 0..n {
                    let kept = sigmoid(gates[n + i]) * memory[i];
                    memory[i] = kept + sigmoid(gates[i]) * gates[2 * n + i].tanh();
                    state[i] = sigmoid(gates[3 * n + i]) * memory[i].tanh();
                }
            }
            states.push(state.clone());
        }
        states
    }
}

impl Lstm {
    /// For `layers` layers, which all leave `width` values.
    pub(crate) fn take(
        weights: &Weights,
        prefix: &str,
        layers: usize,
        width: usize,
    ) -> Result<Self, GraphError> {
        let hidden = layers * width / 2;
        let attention = format!("{prefix}.att");
        Ok(Self {
            forward: Cell::take(weights, prefix, "", width, hidden)?,
            backward: Cell::take(weights, prefix, "_reverse", width, hidden)?,
            score: Linear::take(weights, &attention, 2 * hidden, 1, true)?,
            hidden,
        })
    }

    /// Joins the layers' rows, each `[rows, width]`.
    pub(crate) fn apply(&self, layers: &[&[f32]], width: usize) -> Vec<f32> {
        let forward = self.forward.run(layers.iter(), width);
        let mut backward = self.backward.run(layers.iter().rev(), width);
        backward.reverse();
        let scores: Vec<Vec<f32>> = forward
            .into_iter()
            .zip(backward)
            .map(|(f, b)| {
                self.score
                    .apply(&concatenate(&[(&f, self.hidden), (&b, self.hidden)]))
            })
            .collect();
        let rows = layers[0].len() / width;
        let mut joined = vec![0.0; rows * width];
        for (row, joined) in joined.chunks_exact_mut(width).enumerate() {
            let top = scores
                .iter()
                .map(|s| s[row])
                .fold(f32::NEG_INFINITY, f32::max);
            let total: f32 = scores.iter().map(|s| (s[row] - top).exp()).sum();
            for (score, layer) in scores.iter().zip(layers) {
                let weight = (score[row] - top).exp() / total;
                for (v, x) in joined.iter_mut().zip(&layer[row * width..][..width]) {
                    *v += weight * x;
                }
            }
        }
        joined
    }
}
