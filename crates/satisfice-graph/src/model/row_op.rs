//! Operations on rows that need no other node's row.

use super::{config::RowOpConfig, linear::Linear, lstm::Lstm, weights::Weights};
use crate::GraphError;
use std::borrow::Cow;

/// Weight and bias of each channel.
type Affine = (Vec<f32>, Vec<f32>);

/// Rows, `[rows, width]`, and their width.
pub(crate) type Operand<'a> = (&'a [f32], usize);

#[derive(Debug)]
pub(crate) enum RowOp {
    Linear(Linear),
    /// `x * scale + shift`: a batch norm in evaluation mode.
    Affine {
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
    LayerNorm {
        affine: Option<Affine>,
        eps: f32,
    },
    Relu,
    Elu {
        alpha: f32,
    },
    LeakyRelu {
        negative_slope: f32,
    },
    /// A slope of its own for each channel below 0.
    Prelu {
        slopes: Vec<f32>,
    },
    Gelu,
    Silu,
    Tanh,
    Sigmoid,
    L2Normalize,
    Scale {
        by: f32,
        plus: f32,
    },
    Clamp {
        min: f32,
        max: f32,
    },
    Power {
        exponent: f32,
    },
    /// 0 instead of what is not above.
    Threshold {
        min: f32,
    },
    Exp,
    Log,
    /// Over a row's channels.
    Softmax,
    Slice {
        start: usize,
        width: usize,
    },
    /// A sum of rows; one value a row is added to all channels.
    Add,
    /// Adds a linear map of other rows.
    AddLinear(Linear),
    /// A product of rows; one value a row multiplies all channels.
    Mul,
    Max,
    /// Rows side by side.
    Cat,
    /// Jumping knowledge.
    Lstm(Box<Lstm>),
}

impl RowOp {
    /// Values per row that it leaves, from those of what it reads.
    pub(crate) fn width(&self, widths: &[usize]) -> usize {
        match self {
            Self::Linear(linear) => linear.outputs(),
            Self::Slice { width, .. } => *width,
            Self::Cat => widths.iter().sum(),
            Self::Add | Self::Mul => widths.iter().copied().max().unwrap_or(0),
            _ => widths[0],
        }
    }

    /// What it makes of `rows`, `[rows, width]`, and of the others that it reads.
    pub(crate) fn apply(
        &self,
        rows: Cow<'_, [f32]>,
        width: usize,
        others: &[Operand<'_>],
    ) -> Vec<f32> {
        match self {
            Self::Linear(linear) => linear.apply(&rows),
            Self::Slice { start, width: of } => slice(&rows, width, *start, *of),
            Self::Cat => {
                let all: Vec<Operand<'_>> = [&[(&*rows, width)], others].concat();
                concatenate(&all)
            }
            Self::Add => combine(rows, width, others, |v, x| v + x),
            Self::Mul => combine(rows, width, others, |v, x| v * x),
            Self::Max => combine(rows, width, others, f32::max),
            Self::Lstm(lstm) => {
                let mut all = vec![&*rows];
                all.extend(others.iter().map(|other| other.0));
                lstm.apply(&all, width)
            }
            in_place => {
                let mut rows = rows.into_owned();
                apply_in_place(in_place, &mut rows, width, others);
                rows
            }
        }
    }
}

/// Takes an operation on rows of these widths, which fit it.
pub(crate) fn take_op(
    weights: &Weights,
    config: &RowOpConfig,
    widths: &[usize],
) -> Result<RowOp, GraphError> {
    let width = widths[0];
    Ok(match config {
        RowOpConfig::Linear {
            tensors,
            inputs,
            out,
            bias,
        } => RowOp::Linear(Linear::take(weights, tensors, *inputs, *out, *bias)?),
        RowOpConfig::BatchNorm {
            tensors,
            eps,
            affine,
        } => take_batch_norm(weights, tensors, *eps, *affine, width)?,
        RowOpConfig::LayerNorm {
            tensors,
            eps,
            affine,
        } => RowOp::LayerNorm {
            affine: take_affine(weights, tensors, *affine, width)?,
            eps: *eps,
        },
        RowOpConfig::Prelu { tensors } => RowOp::Prelu {
            slopes: weights.take(tensors, "weight", &[width])?,
        },
        RowOpConfig::LinearResidual {
            tensors,
            inputs,
            out,
            bias,
        } => RowOp::AddLinear(Linear::take(weights, tensors, *inputs, *out, *bias)?),
        RowOpConfig::Lstm { tensors } => {
            RowOp::Lstm(Box::new(Lstm::take(weights, tensors, widths.len(), width)?))
        }
        plain => without_tensors(plain),
    })
}

/// An operation that has no tensors.
pub(crate) fn without_tensors(config: &RowOpConfig) -> RowOp {
    match *config {
        RowOpConfig::Relu {} => RowOp::Relu,
        RowOpConfig::Elu { alpha } => RowOp::Elu { alpha },
        RowOpConfig::LeakyRelu { negative_slope } => RowOp::LeakyRelu { negative_slope },
        RowOpConfig::Gelu {} => RowOp::Gelu,
        RowOpConfig::Silu {} => RowOp::Silu,
        RowOpConfig::Tanh {} => RowOp::Tanh,
        RowOpConfig::Sigmoid {} => RowOp::Sigmoid,
        RowOpConfig::L2Normalize {} => RowOp::L2Normalize,
        RowOpConfig::Scale { by, plus } => RowOp::Scale { by, plus },
        RowOpConfig::Clamp { min, max } => RowOp::Clamp { min, max },
        RowOpConfig::Power { exponent } => RowOp::Power { exponent },
        RowOpConfig::Threshold { min } => RowOp::Threshold { min },
        RowOpConfig::Exp {} => RowOp::Exp,
        RowOpConfig::Log {} => RowOp::Log,
        RowOpConfig::Softmax {} => RowOp::Softmax,
        RowOpConfig::Slice { start, width } => RowOp::Slice { start, width },
        RowOpConfig::Residual {} | RowOpConfig::Add {} => RowOp::Add,
        RowOpConfig::Mul {} => RowOp::Mul,
        RowOpConfig::Max {} => RowOp::Max,
        RowOpConfig::Cat {} => RowOp::Cat,
        RowOpConfig::Linear { .. }
        | RowOpConfig::BatchNorm { .. }
        | RowOpConfig::LayerNorm { .. }
        | RowOpConfig::Prelu { .. }
        | RowOpConfig::LinearResidual { .. }
        | RowOpConfig::Lstm { .. } => unreachable!("invariant: it has tensors"),
    }
}

fn take_affine(
    weights: &Weights,
    tensors: &str,
    affine: bool,
    width: usize,
) -> Result<Option<Affine>, GraphError> {
    if !affine {
        return Ok(None);
    }
    let weight = weights.take(tensors, "weight", &[width])?;
    let bias = weights.take(tensors, "bias", &[width])?;
    Ok(Some((weight, bias)))
}

fn take_batch_norm(
    weights: &Weights,
    tensors: &str,
    eps: f32,
    affine: bool,
    width: usize,
) -> Result<RowOp, GraphError> {
    let affine = take_affine(weights, tensors, affine, width)?;
    let mean = weights.take(tensors, "running_mean", &[width])?;
    let variance = weights.take(tensors, "running_var", &[width])?;
    let (weight, bias) = affine.unwrap_or_else(|| (vec![1.0; width], vec![0.0; width]));
    let scale: Vec<f32> = weight
        .iter()
        .zip(&variance)
        .map(|(w, v)| w / (v + eps).sqrt())
        .collect();
    let shift = bias
        .iter()
        .zip(mean.iter().zip(&scale))
        .map(|(b, (m, s))| b - m * s)
        .collect();
    Ok(RowOp::Affine { scale, shift })
}

/// Applies an operation that leaves rows of the same width.
fn apply_in_place(op: &RowOp, rows: &mut [f32], width: usize, others: &[Operand<'_>]) {
    match op {
        RowOp::Affine { scale, shift } => {
            for row in rows.chunks_exact_mut(width) {
                for ((v, s), b) in row.iter_mut().zip(scale).zip(shift) {
                    *v = *v * s + b;
                }
            }
        }
        RowOp::LayerNorm { affine, eps } => {
            for row in rows.chunks_exact_mut(width) {
                layer_norm(row, affine.as_ref(), *eps);
            }
        }
        RowOp::Prelu { slopes } => {
            for row in rows.chunks_exact_mut(width) {
                for (v, slope) in row.iter_mut().zip(slopes) {
                    *v = leaky_relu(*v, *slope);
                }
            }
        }
        RowOp::AddLinear(linear) => linear.add_to(others[0].0, rows),
        RowOp::L2Normalize => rows.chunks_exact_mut(width).for_each(l2_normalize),
        RowOp::Softmax => rows.chunks_exact_mut(width).for_each(softmax),
        elementwise => apply_elementwise(elementwise, rows),
    }
}

pub(crate) fn apply_elementwise(op: &RowOp, values: &mut [f32]) {
    match *op {
        RowOp::Relu => each(values, |v| v.max(0.0)),
        RowOp::Elu { alpha } => each(values, |v| if v > 0.0 { v } else { alpha * v.exp_m1() }),
        RowOp::LeakyRelu { negative_slope } => each(values, |v| leaky_relu(v, negative_slope)),
        RowOp::Gelu => each(values, |v| {
            0.5 * v * (1.0 + libm::erff(v * std::f32::consts::FRAC_1_SQRT_2))
        }),
        RowOp::Silu => each(values, |v| v * sigmoid(v)),
        RowOp::Tanh => each(values, f32::tanh),
        RowOp::Sigmoid => each(values, sigmoid),
        RowOp::Scale { by, plus } => each(values, |v| v * by + plus),
        RowOp::Clamp { min, max } => each(values, |v| v.max(min).min(max)),
        RowOp::Power { exponent } => each(values, |v| v.powf(exponent)),
        RowOp::Threshold { min } => each(values, |v| if v > min { v } else { 0.0 }),
        RowOp::Exp => each(values, f32::exp),
        RowOp::Log => each(values, f32::ln),
        _ => {}
    }
}

/// `width` values of each row from `start` on.
fn slice(rows: &[f32], from: usize, start: usize, width: usize) -> Vec<f32> {
    let mut taken = Vec::with_capacity(rows.len() / from * width);
    for row in rows.chunks_exact(from) {
        taken.extend_from_slice(&row[start..start + width]);
    }
    taken
}

/// Rows side by side.
pub(crate) fn concatenate(parts: &[Operand<'_>]) -> Vec<f32> {
    let rows = parts.first().map_or(0, |(rows, width)| rows.len() / width);
    let width: usize = parts.iter().map(|part| part.1).sum();
    let mut joined = Vec::with_capacity(rows * width);
    for row in 0..rows {
        for (part, width) in parts {
            joined.extend_from_slice(&part[row * width..][..*width]);
        }
    }
    joined
}

/// Rows combined value by value; rows of one value with every value of the others.
fn combine(
    rows: Cow<'_, [f32]>,
    width: usize,
    others: &[Operand<'_>],
    with: impl Fn(f32, f32) -> f32,
) -> Vec<f32> {
    let widest = others.iter().map(|other| other.1).max().unwrap_or(0);
    let mut made = match width < widest {
        true => rows
            .iter()
            .flat_map(|&v| std::iter::repeat_n(v, widest))
            .collect(),
        false => rows.into_owned(),
    };
    let width = width.max(widest);
    for &(other, of) in others {
        match of == width {
            true => made
                .iter_mut()
                .zip(other)
                .for_each(|(v, x)| *v = with(*v, *x)),
            false => {
                for (row, x) in made.chunks_exact_mut(width).zip(other) {
                    row.iter_mut().for_each(|v| *v = with(*v, *x));
                }
            }
        }
    }
    made
}

fn each(values: &mut [f32], f: impl Fn(f32) -> f32) {
    for v in values {
        *v = f(*v);
    }
}

pub(crate) fn leaky_relu(v: f32, negative_slope: f32) -> f32 {
    if v > 0.0 { v } else { v * negative_slope }
}

pub(crate) fn sigmoid(v: f32) -> f32 {
    1.0 / (1.0 + (-v).exp())
}

/// The softmax of a row.
fn softmax(row: &mut [f32]) {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    each(row, |v| (v - top).exp());
    let total: f32 = row.iter().sum();
    each(row, |v| v / total);
}

fn layer_norm(row: &mut [f32], affine: Option<&Affine>, eps: f32) {
    let n = row.len() as f32;
    let mean = row.iter().sum::<f32>() / n;
    let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n;
    let scale = 1.0 / (variance + eps).sqrt();
    for v in row.iter_mut() {
        *v = (*v - mean) * scale;
    }
    if let Some((weight, bias)) = affine {
        for ((v, w), b) in row.iter_mut().zip(weight).zip(bias) {
            *v = *v * w + b;
        }
    }
}

/// Divides a row by its Euclidean norm, which counts as 1e-12 at least.
pub(crate) fn l2_normalize(row: &mut [f32]) {
    let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
    for v in row {
        *v /= norm;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_unequal_widths_are_put_side_by_side() {
        let (narrow, wide) = ([1.0, 2.0], [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(
            RowOp::Cat.apply(Cow::Borrowed(&narrow), 1, &[(&wide, 3)]),
            [1.0, 3.0, 4.0, 5.0, 2.0, 6.0, 7.0, 8.0]
        );
    }

    #[test]
    fn one_value_a_row_goes_with_every_channel() {
        let (narrow, wide) = ([2.0, 3.0], [1.0, 2.0, 3.0, 4.0]);
        let wanted = [2.0, 4.0, 9.0, 12.0];
        assert_eq!(
            RowOp::Mul.apply(Cow::Borrowed(&narrow), 1, &[(&wide, 2)]),
            wanted
        );
        assert_eq!(
            RowOp::Mul.apply(Cow::Borrowed(&wide), 2, &[(&narrow, 1)]),
            wanted
        );
    }
}
