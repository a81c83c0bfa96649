//! Operations on a row that need no other row.

use super::{config::RowOpConfig, linear::Linear, weights::Weights};
use crate::GraphError;

/// Weight and bias of each channel.
type Affine = (Vec<f32>, Vec<f32>);

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
    /// Adds the layer's input row.
    Residual,
    /// Adds a linear map of the layer's input row.
    LinearResidual(Linear),
}

impl RowOp {
    /// Whether it reads the layer's input row.
    pub(crate) fn adds_input(&self) -> bool {
        matches!(self, Self::Residual | Self::LinearResidual(_))
    }
}

/// Takes a list of operations on rows of `width` values; returns them with the width that they
/// leave. `residual` is the width of the layer's input where the list may add it.
pub(crate) fn take_ops(
    weights: &Weights,
    configs: &[RowOpConfig],
    mut width: usize,
    residual: Option<usize>,
) -> Result<(Vec<RowOp>, usize), OpError> {
    let mut ops = Vec::with_capacity(configs.len());
    for (index, config) in configs.iter().enumerate() {
        let wrong = |message: String| OpError::Config { index, message };
        let op = match config {
            RowOpConfig::Residual => match residual {
                Some(input) if input == width => RowOp::Residual,
                Some(input) => {
                    return Err(wrong(format!(
                        "residual adds an input of width {input} to rows of width {width}"
                    )));
                }
                None => return Err(wrong("residual belongs in a layer's `after`".to_owned())),
            },
            RowOpConfig::LinearResidual { inputs, out, .. }
                if residual != Some(*inputs) || *out != width =>
            {
                return Err(wrong(match residual {
                    Some(input) => format!(
                        "linear_residual maps width {inputs} to {out}, but the input has width \
                         {input} and the rows {width}"
                    ),
                    None => "linear_residual belongs in a layer's `after`".to_owned(),
                }));
            }
            RowOpConfig::Linear { inputs, .. } if *inputs != width => {
                return Err(wrong(format!(
                    "linear reads width {inputs}, but the rows have width {width}"
                )));
            }
            other => take_op(weights, other, width)?,
        };
        if let RowOp::Linear(linear) = &op {
            width = linear.outputs();
        }
        ops.push(op);
    }
    Ok((ops, width))
}

/// A wrong list of operations: in the sidecar (which operation), or in the weights.
#[derive(Debug)]
pub(crate) enum OpError {
    Config { index: usize, message: String },
    Graph(GraphError),
}

impl From<GraphError> for OpError {
    fn from(error: GraphError) -> Self {
        Self::Graph(error)
    }
}

fn take_op(weights: &Weights, config: &RowOpConfig, width: usize) -> Result<RowOp, GraphError> {
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
        RowOpConfig::Relu => RowOp::Relu,
        RowOpConfig::Elu { alpha } => RowOp::Elu { alpha: *alpha },
        RowOpConfig::LeakyRelu { negative_slope } => RowOp::LeakyRelu {
            negative_slope: *negative_slope,
        },
        RowOpConfig::Prelu { tensors } => RowOp::Prelu {
            slopes: weights.take(tensors, "weight", &[width])?,
        },
        RowOpConfig::Gelu => RowOp::Gelu,
        RowOpConfig::Silu => RowOp::Silu,
        RowOpConfig::Tanh => RowOp::Tanh,
        RowOpConfig::Sigmoid => RowOp::Sigmoid,
        RowOpConfig::L2Normalize => RowOp::L2Normalize,
        RowOpConfig::Residual => RowOp::Residual,
        RowOpConfig::LinearResidual {
            tensors,
            inputs,
            out,
            bias,
        } => RowOp::LinearResidual(Linear::take(weights, tensors, *inputs, *out, *bias)?),
    })
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

/// Applies `ops` to `rows`, `[rows, width]`; `layer_input` are the rows that a residual adds.
pub(crate) fn apply_ops(
    ops: &[RowOp],
    mut rows: Vec<f32>,
    mut width: usize,
    layer_input: &[f32],
) -> Vec<f32> {
    for op in ops {
        match op {
            RowOp::Linear(linear) => {
                rows = linear.apply(&rows);
                width = linear.outputs();
            }
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
            RowOp::LinearResidual(linear) => linear.add_to(layer_input, &mut rows),
            RowOp::L2Normalize => rows.chunks_exact_mut(width).for_each(l2_normalize),
            RowOp::Residual => {
                for (v, x) in rows.iter_mut().zip(layer_input) {
                    *v += x;
                }
            }
            elementwise => apply_elementwise(elementwise, &mut rows),
        }
    }
    rows
}

fn apply_elementwise(op: &RowOp, values: &mut [f32]) {
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
        RowOp::Linear(_)
        | RowOp::Affine { .. }
        | RowOp::LayerNorm { .. }
        | RowOp::Prelu { .. }
        | RowOp::L2Normalize
        | RowOp::Residual
        | RowOp::LinearResidual(_) => {}
    }
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
