use super::{
    Convolution, Made, Needs, OwnRows, Place, Reduce, Reduction, SummedLinear, finish_reduce,
    message_reduction,
};
use crate::{
    GraphError,
    model::{
        config::{Aggregator, SageConfig},
        linear::{Linear, add_bias},
        program::Program,
        row_op::{RowOp, l2_normalize},
        weights::Weights,
    },
};

/// `W_n reduce_s(x_s) + W_r x_t + b`.
///
/// Source: Hamilton et al. (2017), as `SAGEConv` of PyTorch Geometric and DGL.
#[derive(Debug)]
pub(crate) struct Sage {
    reduce: Reduce,
    /// DGL's `gcn`: the target counts as one more source of a mean.
    includes_own: bool,
    neighbors: Neighbors,
    root: Option<Linear>,
    bias: Option<Vec<f32>>,
    normalize: bool,
}

/// What becomes of the neighbours' values.
#[derive(Debug)]
enum Neighbors {
    /// A linear map of their sum or mean.
    Summed(SummedLinear),
    /// A linear map of what their messages are reduced to.
    Reduced {
        message: Option<Program>,
        linear: Linear,
    },
}

impl Neighbors {
    fn new(reduce: Reduce, message: Option<Program>, linear: Linear, place: Place) -> Self {
        match reduce == Reduce::Max || message.is_some() {
            true => Self::Reduced { message, linear },
            false => Self::Summed(SummedLinear::new(linear, place)),
        }
    }
}

impl Sage {
    pub(crate) fn pyg(
        weights: &Weights,
        tensors: &str,
        config: &SageConfig,
        (inputs, out): (usize, usize),
        place: Place,
    ) -> Result<Self, GraphError> {
        let prefix = |name: &str| format!("{tensors}.{name}");
        let message = match config.project {
            true => Some(relu_of(Linear::take(
                weights,
                &prefix("lin"),
                inputs,
                inputs,
                true,
            )?)),
            false => None,
        };
        let root = match config.root_weight {
            true => Some(Linear::take(weights, &prefix("lin_r"), inputs, out, false)?),
            false => None,
        };
        let reduce = reduce(config.aggregator);
        let linear = Linear::take(weights, &prefix("lin_l"), inputs, out, false)?;
        let bias = weights.take_if(config.bias, tensors, "lin_l.bias", &[out])?;
        Ok(Self {
            reduce,
            includes_own: false,
            neighbors: Neighbors::new(reduce, message, linear, place),
            root,
            bias,
            normalize: config.normalize,
        })
    }

    pub(crate) fn dgl(
        weights: &Weights,
        tensors: &str,
        config: &SageConfig,
        (inputs, out): (usize, usize),
        place: Place,
    ) -> Result<Self, GraphError> {
        let prefix = |name: &str| format!("{tensors}.{name}");
        let message = match config.aggregator {
            Aggregator::Pool => Some(relu_of(Linear::take(
                weights,
                &prefix("fc_pool"),
                inputs,
                inputs,
                true,
            )?)),
            _ => None,
        };
        let gcn = config.aggregator == Aggregator::Gcn;
        // DGL 0.6 to 0.8 kept the bias beside the two weights.
        let bias_beside = config.bias && weights.has(tensors, "bias");
        let root_bias = config.bias && !bias_beside;
        let root = match gcn {
            true => None,
            false => Some(Linear::take(
                weights,
                &prefix("fc_self"),
                inputs,
                out,
                root_bias,
            )?),
        };
        let bias = weights.take_if(bias_beside || (gcn && config.bias), tensors, "bias", &[out])?;
        let reduce = reduce(config.aggregator);
        let linear = Linear::take(weights, &prefix("fc_neigh"), inputs, out, false)?;
        Ok(Self {
            reduce,
            includes_own: gcn,
            neighbors: Neighbors::new(reduce, message, linear, place),
            root,
            bias,
            normalize: config.normalize,
        })
    }
}

/// Makes means over the sources and the target of sums over the sources.
fn add_own(sums: &mut [f32], own: &[f32], in_degrees: &[u32]) {
    let width = (sums.len() / in_degrees.len().max(1)).max(1);
    for ((row, own), &in_degree) in sums
        .chunks_exact_mut(width)
        .zip(own.chunks_exact(width))
        .zip(in_degrees)
    {
        let scale = 1.0 / (in_degree + 1) as f32;
        row.iter_mut()
            .zip(own)
            .for_each(|(v, x)| *v = (*v + x) * scale);
    }
}

fn relu_of(linear: Linear) -> Program {
    let width = linear.inputs();
    let ops = vec![RowOp::Linear(linear), RowOp::Relu];
    Program::chain(width, ops)
}

fn reduce(aggregator: Aggregator) -> Reduce {
    match aggregator {
        Aggregator::Mean => Reduce::Mean,
        Aggregator::Max | Aggregator::Pool => Reduce::Max,
        Aggregator::Sum | Aggregator::Gcn => Reduce::Sum,
    }
}

impl Convolution for Sage {
    fn width(&self) -> usize {
        match &self.neighbors {
            Neighbors::Summed(linear) => linear.outputs,
            Neighbors::Reduced { linear, .. } => linear.outputs(),
        }
    }

    fn message(&self) -> Option<&Program> {
        match &self.neighbors {
            Neighbors::Summed(linear) => linear.message.as_ref(),
            Neighbors::Reduced { message, .. } => message.as_ref(),
        }
    }

    fn own(&self) -> Option<&Linear> {
        self.root.as_ref()
    }

    fn averages(&self) -> bool {
        self.includes_own || self.reduce != Reduce::Sum
    }

    fn reduction(&self) -> Reduction {
        message_reduction(self.reduce)
    }

    fn needs(&self) -> Needs {
        Needs {
            messages: self.includes_own,
            ..Needs::default()
        }
    }

    fn complete(&self, mut reduced: Vec<f32>, made: &Made, own: &OwnRows<'_>) -> Vec<f32> {
        match self.includes_own {
            true => add_own(&mut reduced, own.messages, own.in_degrees),
            false => finish_reduce(self.reduce, &mut reduced, own),
        }
        let mut out = match &self.neighbors {
            Neighbors::Summed(linear) => linear.finish(reduced),
            Neighbors::Reduced { linear, .. } => linear.apply(&reduced),
        };
        out.iter_mut().zip(&made.mapped).for_each(|(v, x)| *v += x);
        if let Some(bias) = &self.bias {
            add_bias(bias, &mut out);
        }
        if self.normalize {
            out.chunks_exact_mut(self.width()).for_each(l2_normalize);
        }
        out
    }
}
