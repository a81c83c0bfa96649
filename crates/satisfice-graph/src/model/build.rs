//! Makes a model of its sidecar and weights.

use super::{
    GnnModel, Layer,
    config::{
        Aggregator, ConvConfig, Framework, GatConfig, LayerConfig, ModelConfig, Norm,
        PropagateConfig, Reads, ResidualConfig, RowOpConfig, StepConfig,
    },
    conv::{
        Attention, Convolution, Edge, Gcn, Gcn2, Gin, Message, Place, Propagate, Reduce, Sage,
        propagation,
    },
    program::{BELOW, Program, ProgramError},
    weights::Weights,
};
use crate::GraphError;
use std::path::Path;

/// Makes a model of its sidecar and weights.
pub(super) struct Builder<'a> {
    pub config: &'a ModelConfig,
    pub weights: &'a Weights,
    pub weights_path: &'a Path,
}

impl Builder<'_> {
    pub(super) fn build(&self) -> Result<GnnModel, GraphError> {
        let config = self.config;
        let linear = || config.input.iter().find_map(linear_inputs);
        let features = config.features.or_else(linear);
        let features = features.unwrap_or(config.layers[0].inputs);
        let given = [("features".to_owned(), features)];
        let input = self.program("input", &config.input, &given)?;
        let mut widths = vec![input.width()];
        let mut layers = Vec::with_capacity(config.layers.len());
        for (index, layer) in config.layers.iter().enumerate() {
            let layer = self.layer(index, layer, &widths)?;
            widths.push(layer.width());
            layers.push(layer);
        }
        let levels = widths.iter().enumerate();
        let levels = levels.map(|(level, &width)| (format!("level.{level}"), width));
        let last = widths[layers.len()];
        let given: Vec<_> = std::iter::once((String::new(), last))
            .chain(levels)
            .collect();
        let mut steps = Vec::new();
        if let Some(jumping) = &config.jumping_knowledge {
            let levels = (1..=layers.len()).map(|level| format!("level.{level}"));
            steps.push(StepConfig {
                op: jumping.op(),
                of: levels.collect(),
                name: None,
            });
        }
        steps.extend(config.head.iter().cloned());
        let head = self.program("head", &steps, &given)?;
        Ok(GnnModel {
            input,
            layers,
            head,
            features,
        })
    }

    fn wrong(&self, message: String) -> GraphError {
        GraphError::Config {
            path: self.weights_path.with_file_name("model.toml"),
            message,
        }
    }

    fn program(
        &self,
        place: &str,
        steps: &[StepConfig],
        given: &[(String, usize)],
    ) -> Result<Program, GraphError> {
        Program::take(self.weights, steps, given).map_err(|error| match error {
            ProgramError::Graph(error) => error,
            ProgramError::Config { index, message } => {
                self.wrong(format!("{place}[{index}]: {message}"))
            }
        })
    }

    fn layer(
        &self,
        index: usize,
        config: &LayerConfig,
        widths: &[usize],
    ) -> Result<Layer, GraphError> {
        let place = format!("layers[{index}]");
        let reads_initial = config.reads == Reads::Initial;
        let read = widths[if reads_initial { 0 } else { index }];
        let given = [("level".to_owned(), read)];
        let before = self.program(&format!("{place}.before"), &config.before, &given)?;
        if config.inputs != before.width() {
            return Err(self.wrong(format!(
                "{place} (`{}`) reads width {}, but what it is given has width {}",
                config.tensors,
                config.inputs,
                before.width()
            )));
        }
        let conv = self.conv(index, config, widths[0])?;
        let given = [
            ("made".to_owned(), conv.width()),
            (BELOW.to_owned(), widths[index]),
            ("initial".to_owned(), widths[0]),
        ];
        let after = self.program(&format!("{place}.after"), &config.after, &given)?;
        let message_width = conv.message().map_or(config.inputs, Program::width);
        Ok(Layer {
            conv,
            reads_initial,
            before,
            after,
            message_width,
        })
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
                let given = [("rows".to_owned(), layer.inputs)];
                let mlp = self.program(&mlp_place, &c.mlp, &given)?;
                let out = mlp.width();
                if out != layer.out {
                    return Err(self.wrong(format!(
                        "{mlp_place} leaves width {out}, but `out` is {}",
                        layer.out
                    )));
                }
                Box::new(Gin {
                    eps: weights.take(tensors, "eps", &[1])?[0],
                    reduce: reduce_of(c.aggregator),
                    mlp,
                })
            }
            (ConvConfig::Propagate(c), _) => Box::new(Propagate {
                reduce: reduce_of(c.aggregator),
                propagation: propagation(c.norm, c.self_loops, c.self_loop_weight),
                width: layer.out,
            }),
            (ConvConfig::Edge(c), _) => {
                let edge = Edge::new(c, layer.inputs, layer.out);
                Box::new(edge.map_err(|message| self.wrong(format!("{name}: {message}")))?)
            }
            (ConvConfig::Message(c), _) => {
                let wrong = |message: String| self.wrong(format!("{name}: {message}"));
                let given = Message::given(c, layer.inputs).map_err(wrong)?;
                let program = self.program(&format!("{name}.program"), &c.program, &given)?;
                let made = Message::new(c, program, layer.inputs, layer.out);
                Box::new(made.map_err(wrong)?)
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
            ConvConfig::Propagate(c) => propagate_problem(layer, c),
            ConvConfig::Edge(_) | ConvConfig::Message(_) => None,
        };
        match problem {
            Some(problem) => Err(self.wrong(format!("{place}: {problem}"))),
            None => Ok(()),
        }
    }
}

fn linear_inputs(step: &StepConfig) -> Option<usize> {
    match &step.op {
        RowOpConfig::Linear { inputs, .. } => Some(*inputs),
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

fn reduce_of(aggregator: Aggregator) -> Reduce {
    match aggregator {
        Aggregator::Mean => Reduce::Mean,
        Aggregator::Max => Reduce::Max,
        _ => Reduce::Sum,
    }
}

fn propagate_problem(layer: &LayerConfig, config: &PropagateConfig) -> Option<String> {
    match (config.aggregator, config.norm) {
        _ if layer.inputs != layer.out => Some(format!(
            "it leaves the width that it reads, but `in` is {} and `out` {}",
            layer.inputs, layer.out
        )),
        (Aggregator::Sum, _) | (Aggregator::Mean | Aggregator::Max, Norm::None) => None,
        (aggregator, norm) => Some(format!(
            "aggregator {aggregator:?} does not go with norm {norm:?}"
        )),
    }
}
