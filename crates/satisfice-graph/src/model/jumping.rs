//! Jumping knowledge: the last representation of a node from those of all its layers.
//!
//! Source: Xu et al., "Representation Learning on Graphs with Jumping Knowledge Networks" (2018),
//! as PyTorch Geometric's `JumpingKnowledge` does it.

use super::{
    config::{JumpingConfig, JumpingMode},
    linear::{Linear, add_bias},
    row_op::sigmoid,
    weights::Weights,
};
use crate::GraphError;
use satisfice_kernels::matmul_transposed;

#[derive(Debug)]
pub(crate) enum Jumping {
    Cat,
    Max,
    Lstm(Box<Lstm>),
}

impl Jumping {
    /// For `layers` layers, which all leave `width` values unless they are put side by side.
    pub(crate) fn take(
        weights: &Weights,
        config: &JumpingConfig,
        layers: usize,
        width: usize,
    ) -> Result<Self, GraphError> {
        Ok(match config.mode {
            JumpingMode::Cat => Self::Cat,
            JumpingMode::Max => Self::Max,
            JumpingMode::Lstm => Self::Lstm(Box::new(Lstm::take(
                weights,
                &config.tensors,
                layers,
                width,
            )?)),
        })
    }

    /// Values per row that [`Jumping::apply`] leaves, from the layers' widths.
    pub(crate) fn width(&self, widths: &[usize]) -> usize {
        match self {
            Self::Cat => widths.iter().sum(),
            Self::Max | Self::Lstm(_) => widths[0],
        }
    }

    /// Joins the layers' rows, each `[rows, width]`.
    pub(crate) fn apply(&self, layers: &[Vec<f32>], widths: &[usize]) -> Vec<f32> {
        match self {
            Self::Cat => concatenate(layers, widths),
            Self::Max => {
                let mut joined = layers[0].clone();
                for layer in &layers[1..] {
                    for (v, x) in joined.iter_mut().zip(layer) {
                        *v = v.max(*x);
                    }
                }
                joined
            }
            Self::Lstm(lstm) => lstm.apply(layers, widths[0]),
        }
    }
}

fn concatenate(layers: &[Vec<f32>], widths: &[usize]) -> Vec<f32> {
    let rows = layers[0].len() / widths[0];
    let mut joined = Vec::with_capacity(rows * widths.iter().sum::<usize>());
    for row in 0..rows {
        for (layer, width) in layers.iter().zip(widths) {
            joined.extend_from_slice(&layer[row * width..][..*width]);
        }
    }
    joined
}

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
    fn run<'a>(&self, steps: impl Iterator<Item = &'a Vec<f32>>, width: usize) -> Vec<Vec<f32>> {
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
    fn take(
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

    fn apply(&self, layers: &[Vec<f32>], width: usize) -> Vec<f32> {
        let forward = self.forward.run(layers.iter(), width);
        let mut backward = self.backward.run(layers.iter().rev(), width);
        backward.reverse();
        let scores: Vec<Vec<f32>> = forward
            .into_iter()
            .zip(backward)
            .map(|(f, b)| self.score.apply(&concatenate(&[f, b], &[self.hidden; 2])))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_unequal_widths_are_put_side_by_side() {
        let layers = [vec![1.0, 2.0], vec![3.0, 4.0, 5.0, 6.0, 7.0, 8.0]];
        let widths = [1, 3];
        assert_eq!(Jumping::Cat.width(&widths), 4);
        assert_eq!(
            Jumping::Cat.apply(&layers, &widths),
            [1.0, 3.0, 4.0, 5.0, 2.0, 6.0, 7.0, 8.0]
        );
    }
}
