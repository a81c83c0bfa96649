use super::{
    Convolution, OwnRows, Place, Reduce, Reduction, SourceSum, SummedLinear, aggregate,
    finish_reduce, message_reduction, reduced_sum,
};
use crate::{
    GraphError,
    model::{
        config::{Aggregator, SageConfig},
        linear::{Linear, add_bias},
        row_op::{RowOp, l2_normalize},
        weights::Weights,
    },
    run::{LayerInput, Sources},
};
use std::ops::Range;

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
    Reduced { message: Vec<RowOp>, linear: Linear },
}

impl Neighbors {
    fn new(reduce: Reduce, message: Vec<RowOp>, linear: Linear, place: Place) -> Self {
        match reduce == Reduce::Max || !message.is_empty() {
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
            true => relu_of(Linear::take(weights, &prefix("lin"), inputs, inputs, true)?),
            false => Vec::new(),
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
            Aggregator::Pool => relu_of(Linear::take(
                weights,
                &prefix("fc_pool"),
                inputs,
                inputs,
                true,
            )?),
            _ => Vec::new(),
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

    /// The mean over the sources and the target.
    fn mean_with_own(
        input: &LayerInput<'_>,
        range: Range<usize>,
        sources: &mut Sources,
    ) -> Vec<f32> {
        let own = input.own_messages(range.clone());
        let mut rows = aggregate(input, range.clone(), Reduce::Sum, sources);
        let in_degrees = range.map(|at| input.in_degree(input.targets.get(at), false) as u32);
        add_own(&mut rows, &own, in_degrees);
        rows
    }
}

/// Makes means over the sources and the target of sums over the sources.
fn add_own(sums: &mut [f32], own: &[f32], in_degrees: impl ExactSizeIterator<Item = u32>) {
    let width = (sums.len() / in_degrees.len().max(1)).max(1);
    for ((row, own), in_degree) in sums
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

fn relu_of(linear: Linear) -> Vec<RowOp> {
    vec![RowOp::Linear(linear), RowOp::Relu]
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

    fn message(&self) -> &[RowOp] {
        match &self.neighbors {
            Neighbors::Summed(linear) => &linear.message,
            Neighbors::Reduced { message, .. } => message,
        }
    }

    fn source_sum(&self) -> Option<SourceSum> {
        reduced_sum(self.reduce)
    }

    fn own(&self) -> Option<&Linear> {
        self.root.as_ref()
    }

    fn averages(&self) -> bool {
        self.includes_own || self.reduce != Reduce::Sum
    }

    fn compute(
        &self,
        input: &LayerInput<'_>,
        range: Range<usize>,
        sources: &mut Sources,
    ) -> Vec<f32> {
        let rows = match self.includes_own {
            true => Self::mean_with_own(input, range.clone(), sources),
            false => aggregate(input, range.clone(), self.reduce, sources),
        };
        self.finish(rows, |root, out| input.add_own(root, range, out))
    }

    fn reduction(&self) -> Reduction {
        message_reduction(self.reduce)
    }

    fn complete(&self, mut reduced: Vec<f32>, own: &OwnRows<'_>) -> Vec<f32> {
        match self.includes_own {
            true => add_own(&mut reduced, own.messages, own.in_degrees.iter().copied()),
            false => finish_reduce(self.reduce, &mut reduced, own),
        }
        self.finish(reduced, |root, out| root.add_to(own.values, out))
    }
}

impl Sage {
    /// Rows from what the neighbours' messages came to; `add_own` adds the root's map of the targets'
    /// own values.
    fn finish(&self, rows: Vec<f32>, add_own: impl FnOnce(&Linear, &mut [f32])) -> Vec<f32> {
        let mut out = match &self.neighbors {
            Neighbors::Summed(linear) => linear.finish(rows),
            Neighbors::Reduced { linear, .. } => linear.apply(&rows),
        };
        if let Some(root) = &self.root {
            add_own(root, &mut out);
        }
        if let Some(bias) = &self.bias {
            add_bias(bias, &mut out);
        }
        if self.normalize {
            out.chunks_exact_mut(self.width()).for_each(l2_normalize);
        }
        out
    }
}
