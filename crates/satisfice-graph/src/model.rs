//! Trained models: the sidecar, the weights and the layers made of them.

mod config;
mod conv;
mod jumping;
mod linear;
mod row_op;
mod split;
mod weights;

pub use config::{Framework, ModelConfig, RequestLimits};
pub(crate) use conv::Convolution;
pub use conv::{OwnRows, Reduction};
pub(crate) use linear::Linear;
pub use split::SplitLayer;

use crate::{
    GraphError,
    run::{DegreeScale, LayerInput, Sources, TargetRows, reduce},
};
use config::{Aggregator, ConvConfig, GatConfig, JumpingMode, LayerConfig, Norm, ResidualConfig};
use conv::{Attention, Gcn, Gcn2, Gin, Made, Needs, Place, Reduce, Sage};
use jumping::Jumping;
use row_op::{OpError, RowOp, apply_ops, take_ops};
use std::{ops::Range, path::Path};
use weights::Weights;

/// One message-passing layer with the row operations after it.
#[derive(Debug)]
pub(crate) struct Layer {
    pub conv: Box<dyn Convolution>,
    after: Vec<RowOp>,
    width: usize,
}

impl Layer {
    /// Values per row that the layer leaves.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// What it reads of a target besides what the sources were reduced to.
    pub(crate) fn needs(&self) -> Needs {
        let needs = self.conv.needs();
        let adds_input = self.after.iter().any(RowOp::adds_input);
        Needs {
            values: needs.values || adds_input,
            ..needs
        }
    }

    /// Values per row of what its sources send, where the values below have `width`.
    pub(crate) fn message_width(&self, width: usize) -> usize {
        let linear = |op: &RowOp| match op {
            RowOp::Linear(linear) => Some(linear.outputs()),
            _ => None,
        };
        let ops = self.conv.message().iter();
        ops.filter_map(linear).next_back().unwrap_or(width)
    }

    /// Rows of some targets, `[targets, width]`. `sources` is space to work in.
    pub(crate) fn compute(
        &self,
        input: &LayerInput<'_>,
        range: Range<usize>,
        sources: &mut Sources,
    ) -> Vec<f32> {
        let rows = TargetRows::read(self, input, range.clone());
        let own = rows.view();
        let made = Made {
            mapped: match self.conv.own() {
                Some(linear) => input.mapped_own(linear, range.clone()),
                None => Vec::new(),
            },
            terms: self.conv.terms(own.values, own.messages),
        };
        let reduced = reduce(&*self.conv, input, range, &made.terms, sources);
        self.complete(reduced, &made, &own)
    }

    /// Rows of some targets, `[targets, width]`, from what all their sources were reduced to.
    fn complete(&self, reduced: Vec<f32>, made: &Made, own: &OwnRows<'_>) -> Vec<f32> {
        let rows = self.conv.complete(reduced, made, own);
        apply_ops(&self.after, rows, self.conv.width(), own.values)
    }
}
/// A trained graph neural network.
#[derive(Debug)]
pub struct GnnModel {
    input: Vec<RowOp>,
    pub(crate) layers: Vec<Layer>,
    jumping: Option<Jumping>,
    head: Vec<RowOp>,
    features: usize,
    /// Values per row after `input`.
    input_width: usize,
    outputs: usize,
}

impl GnnModel {
    /// Reads the weights of a model that `config` describes.
    ///
    /// # Errors
    /// [`GraphError::Weights`] names the tensor that is missing, left over or misshapen;
    /// [`GraphError::Config`] the layers that do not fit together.
    pub fn load(config: &ModelConfig, weights_path: &Path) -> Result<Self, GraphError> {
        let weights = Weights::open(weights_path)?;
        let builder = Builder {
            config,
            weights: &weights,
            weights_path,
        };
        let model = builder.build()?;
        weights.finish()?;
        Ok(model)
    }

    /// Width of the features that the model reads.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Width of the model's answer.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Number of message-passing layers, K.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Whether the values of level 0 are not the features themselves.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Width of the values of a level, 0 .. K.
    pub fn level_width(&self, level: usize) -> usize {
        match level.checked_sub(1) {
            None => self.input_width,
            Some(layer) => self.layers[layer].width,
        }
    }

    /// Width of the messages of a layer, 1 .. K.
    pub fn message_width(&self, layer: usize) -> usize {
        self.layers[layer - 1].message_width(self.level_width(layer - 1))
    }

    /// Width of what the sources of a layer, 1 .. K, are reduced to.
    pub fn reduction_width(&self, layer: usize) -> usize {
        let reduction = self.layers[layer - 1].conv.reduction();
        reduction.width(self.message_width(layer))
    }

    /// The linear map of each stored node's own value that the first layer adds, where keeping it
    /// mapped is no wider than the value.
    pub(crate) fn kept_own(&self) -> Option<&Linear> {
        let conv = &self.layers[0].conv;
        let narrow = |linear: &&Linear| linear.outputs() <= linear.inputs();
        conv.own().filter(narrow)
    }

    /// Values of level 0, `[rows, width]`, from features.
    pub fn apply_input(&self, x: Vec<f32>) -> Vec<f32> {
        apply_ops(&self.input, x, self.features, &[])
    }

    /// Whether all layers' values are needed for the answer.
    pub fn joins_layers(&self) -> bool {
        self.jumping.is_some()
    }

    /// The answer from the values of all layers, or of the last one where the model does not join
    /// them; each `[rows, width]`.
    pub fn finish(&self, mut values: Vec<Vec<f32>>) -> Vec<f32> {
        let widths: Vec<usize> = self.layers.iter().map(Layer::width).collect();
        let (rows, width) = match &self.jumping {
            Some(jumping) => (jumping.apply(&values, &widths), jumping.width(&widths)),
            None => (
                values.pop().unwrap_or_default(),
                self.level_width(self.layers.len()),
            ),
        };
        apply_ops(&self.head, rows, width, &[])
    }

    /// The different degree scales that its layers use.
    pub fn scales(&self) -> Vec<DegreeScale> {
        let mut scales: Vec<DegreeScale> = Vec::new();
        for layer in &self.layers {
            let (source, target) = layer.conv.scales();
            for scale in [source, target].into_iter().flatten() {
                if !scales.contains(&scale) {
                    scales.push(scale);
                }
            }
        }
        scales
    }
}

/// Turns values, `[rows, width]`, into the messages of a layer.
pub(crate) fn apply_message(ops: &[RowOp], rows: Vec<f32>, width: usize) -> Vec<f32> {
    apply_ops(ops, rows, width, &[])
}

/// Makes a model of its sidecar and weights.
struct Builder<'a> {
    config: &'a ModelConfig,
    weights: &'a Weights,
    weights_path: &'a Path,
}

impl Builder<'_> {
    fn build(&self) -> Result<GnnModel, GraphError> {
        let config = self.config;
        let features = match config.input.iter().find_map(linear_inputs) {
            Some(inputs) => inputs,
            None => config.layers[0].inputs,
        };
        let (input, input_width) = self.ops("input", &config.input, features, None)?;
        let mut width = input_width;
        let mut layers = Vec::with_capacity(config.layers.len());
        for (index, layer) in config.layers.iter().enumerate() {
            let layer = self.layer(index, layer, width, input_width)?;
            width = layer.width;
            layers.push(layer);
        }
        let jumping = self.jumping(&layers)?;
        if let Some(jumping) = &jumping {
            let widths: Vec<usize> = layers.iter().map(Layer::width).collect();
            width = jumping.width(&widths);
        }
        let (head, outputs) = self.ops("head", &config.head, width, None)?;
        Ok(GnnModel {
            input,
            layers,
            jumping,
            head,
            features,
            input_width,
            outputs,
        })
    }

    fn wrong(&self, message: String) -> GraphError {
        GraphError::Config {
            path: self.weights_path.with_file_name("model.toml"),
            message,
        }
    }

    fn ops(
        &self,
        place: &str,
        configs: &[config::RowOpConfig],
        width: usize,
        residual: Option<usize>,
    ) -> Result<(Vec<RowOp>, usize), GraphError> {
        take_ops(self.weights, configs, width, residual).map_err(|error| match error {
            OpError::Graph(error) => error,
            OpError::Config { index, message } => {
                self.wrong(format!("{place}[{index}]: {message}"))
            }
        })
    }

    fn layer(
        &self,
        index: usize,
        config: &LayerConfig,
        width: usize,
        initial_width: usize,
    ) -> Result<Layer, GraphError> {
        let place = format!("layers[{index}]");
        if config.inputs != width {
            return Err(self.wrong(format!(
                "{place} (`{}`) reads width {}, but the level below has width {width}",
                config.tensors, config.inputs
            )));
        }
        let conv = self.conv(index, config, initial_width)?;
        let after_place = format!("{place}.after");
        let (after, width) = self.ops(&after_place, &config.after, conv.width(), Some(width))?;
        Ok(Layer { conv, after, width })
    }

    fn conv(
        &self,
        index: usize,
        layer: &LayerConfig,
        initial_width: usize,
    ) -> Result<Box<dyn Convolution>, GraphError> {
        let name = format!("layers[{index}]");
        let place = match index {
            0 => Place::First,
            _ => Place::Later,
        };
        let (weights, tensors) = (self.weights, layer.tensors.as_str());
        let widths = (layer.inputs, layer.out);
        let framework = self.config.framework;
        self.check_conv(&name, layer, initial_width)?;
        Ok(match (&layer.conv, framework) {
            (ConvConfig::Gcn(c), Framework::Pyg) => {
                Box::new(Gcn::pyg(weights, tensors, c, widths, place)?)
            }
            (ConvConfig::Gcn(c), Framework::Dgl) => {
                Box::new(Gcn::dgl(weights, tensors, c, widths, place)?)
            }
            (ConvConfig::Sage(c), Framework::Pyg) => {
                Box::new(Sage::pyg(weights, tensors, c, widths, place)?)
            }
            (ConvConfig::Sage(c), Framework::Dgl) => {
                Box::new(Sage::dgl(weights, tensors, c, widths, place)?)
            }
            (ConvConfig::Gat(c), Framework::Pyg) => {
                Box::new(Attention::gat_pyg(weights, tensors, c, widths)?)
            }
            (ConvConfig::Gat(c), Framework::Dgl) => {
                Box::new(Attention::gat_dgl(weights, tensors, c, widths)?)
            }
            (ConvConfig::Gatv2(c), Framework::Pyg) => {
                Box::new(Attention::gatv2_pyg(weights, tensors, c, widths)?)
            }
            (ConvConfig::Gatv2(c), Framework::Dgl) => {
                Box::new(Attention::gatv2_dgl(weights, tensors, c, widths)?)
            }
            (ConvConfig::Gcn2(c), _) => Box::new(Gcn2::take(weights, tensors, c, layer.out)?),
            (ConvConfig::Gin(c), _) => {
                let mlp_place = format!("{name}.mlp");
                let (mlp, out) = self.ops(&mlp_place, &c.mlp, layer.inputs, None)?;
                if out != layer.out {
                    return Err(self.wrong(format!(
                        "{mlp_place} leaves width {out}, but `out` is {}",
                        layer.out
                    )));
                }
                Box::new(Gin {
                    eps: weights.take(tensors, "eps", &[1])?[0],
                    reduce: match c.aggregator {
                        Aggregator::Mean => Reduce::Mean,
                        Aggregator::Max => Reduce::Max,
                        _ => Reduce::Sum,
                    },
                    mlp,
                    inputs: layer.inputs,
                    out,
                })
            }
        })
    }

    /// Options that do not belong to the layer's type or framework.
    fn check_conv(
        &self,
        place: &str,
        layer: &LayerConfig,
        initial_width: usize,
    ) -> Result<(), GraphError> {
        let framework = self.config.framework;
        let problem = match &layer.conv {
            ConvConfig::Gcn(c) => match (framework, c.norm) {
                (Framework::Pyg, Norm::Symmetric | Norm::None)
                | (
                    Framework::Dgl,
                    Norm::Both | Norm::Right | Norm::Left | Norm::InDegree | Norm::None,
                ) => None,
                (_, norm) => Some(format!("norm {norm:?} is not {framework:?}'s")),
            },
            ConvConfig::Sage(c) => match (framework, c.aggregator) {
                (_, Aggregator::Mean)
                | (Framework::Pyg, Aggregator::Max | Aggregator::Sum)
                | (Framework::Dgl, Aggregator::Pool | Aggregator::Gcn) => None,
                (_, other) => Some(format!("aggregator {other:?} is not {framework:?}'s")),
            },
            ConvConfig::Gin(c) => match (framework, c.aggregator) {
                (_, Aggregator::Sum) | (Framework::Dgl, Aggregator::Mean | Aggregator::Max) => None,
                (_, other) => Some(format!("aggregator {other:?} is not {framework:?}'s")),
            },
            ConvConfig::Gcn2(c) => match (framework, c.norm) {
                _ if layer.inputs != layer.out || layer.out != initial_width => Some(format!(
                    "`in` ({}), `out` ({}) and the width before the first layer ({initial_width}) \
                     must be the same",
                    layer.inputs, layer.out
                )),
                (Framework::Pyg, Norm::Symmetric | Norm::None)
                | (Framework::Dgl, Norm::InDegree | Norm::Both | Norm::None) => None,
                (_, norm) => Some(format!("norm {norm:?} is not {framework:?}'s")),
            },
            ConvConfig::Gat(c) | ConvConfig::Gatv2(c) => attention_problem(layer, c, framework),
        };
        match problem {
            Some(problem) => Err(self.wrong(format!("{place}: {problem}"))),
            None => Ok(()),
        }
    }

    fn jumping(&self, layers: &[Layer]) -> Result<Option<Jumping>, GraphError> {
        let Some(config) = &self.config.jumping_knowledge else {
            return Ok(None);
        };
        let width = layers[0].width;
        let other = layers.iter().find(|layer| layer.width != width);
        if let Some(other) = other.filter(|_| config.mode != JumpingMode::Cat) {
            return Err(self.wrong(format!(
                "jumping_knowledge of mode {:?} joins layers of one width, but there are {width} and {}",
                config.mode, other.width
            )));
        }
        Jumping::take(self.weights, config, layers.len(), width).map(Some)
    }
}

fn linear_inputs(op: &config::RowOpConfig) -> Option<usize> {
    match op {
        config::RowOpConfig::Linear { inputs, .. } => Some(*inputs),
        _ => None,
    }
}

fn attention_problem(
    layer: &LayerConfig,
    config: &GatConfig,
    framework: Framework,
) -> Option<String> {
    let width = config.heads * layer.out;
    match (&config.residual, framework) {
        (ResidualConfig::Named(_), Framework::Pyg) => {
            Some("residual \"identity\" is DGL's".to_owned())
        }
        (ResidualConfig::Named(_), Framework::Dgl) if width != layer.inputs => Some(format!(
            "residual \"identity\" needs `in` ({}) to be heads x out ({width})",
            layer.inputs
        )),
        _ => None,
    }
}
