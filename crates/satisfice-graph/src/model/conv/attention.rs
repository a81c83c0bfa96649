use super::Convolution;
use crate::{
    GraphError,
    model::{
        config::{GatConfig, ResidualConfig},
        linear::{Linear, add_bias},
        row_op::{RowOp, leaky_relu},
        weights::Weights,
    },
    run::{LayerInput, Sources, Target},
};
use satisfice_kernels::{Rows, gather_weighted};
use std::ops::Range;

/// `Σ_s softmax_s(e_st) W x_s`, one softmax a head.
///
/// Source: Veličković et al. (2018) and Brody et al. (2022), as `GATConv` and `GATv2Conv` of
/// PyTorch Geometric and DGL.
#[derive(Debug)]
pub(crate) struct Attention {
    heads: usize,
    /// Per head.
    channels: usize,
    message: Vec<RowOp>,
    logits: Logits,
    negative_slope: f32,
    /// One self-loop replaces those of the graph; without it they stay.
    self_loops: bool,
    /// Added to the softmax's denominator.
    epsilon: f32,
    finish: Finish,
}

/// The logit of an edge before its softmax.
#[derive(Debug)]
enum Logits {
    /// `leaky(a_s · W x_s + a_t · W x_t)`.
    Separate {
        /// `[heads * channels]`.
        source: Vec<f32>,
        target: Vec<f32>,
    },
    /// `a · leaky(W_s x_s + W_t x_t)`.
    Joint {
        /// `[heads * channels]`.
        attention: Vec<f32>,
        /// `W_t`; `W_s` where there is none.
        target: Option<Linear>,
    },
}

/// What becomes of the heads' sums.
#[derive(Debug)]
struct Finish {
    concat: bool,
    residual: Residual,
    bias: Option<Vec<f32>>,
    /// DGL: residual and bias are added before the heads' mean is taken, not after it.
    mean_last: bool,
}

#[derive(Debug)]
enum Residual {
    None,
    Identity,
    Linear(Linear),
}

impl Attention {
    pub(crate) fn gat_pyg(
        weights: &Weights,
        tensors: &str,
        config: &GatConfig,
        (inputs, channels): (usize, usize),
    ) -> Result<Self, GraphError> {
        let width = config.heads * channels;
        // A copy of `lin.weight` under another name (PyG before 2.5).
        if weights.has(tensors, "lin_dst.weight") {
            weights.take(tensors, "lin_dst.weight", &[width, inputs])?;
        }
        let lin = Linear::take(weights, &format!("{tensors}.lin"), inputs, width, false)?;
        let shape = [config.heads, channels];
        let logits = Logits::Separate {
            source: weights.take(tensors, "att_src", &shape)?,
            target: weights.take(tensors, "att_dst", &shape)?,
        };
        let finish = Finish::pyg(weights, tensors, config, (inputs, channels))?;
        Ok(Self::new(config, channels, lin, logits, finish))
    }

    pub(crate) fn gatv2_pyg(
        weights: &Weights,
        tensors: &str,
        config: &GatConfig,
        (inputs, channels): (usize, usize),
    ) -> Result<Self, GraphError> {
        let width = config.heads * channels;
        let take = |name: &str| {
            Linear::take(
                weights,
                &format!("{tensors}.{name}"),
                inputs,
                width,
                config.bias,
            )
        };
        let source = take("lin_l")?;
        let target = match config.share_weights {
            true => None,
            false => Some(take("lin_r")?),
        };
        let attention = weights.take(tensors, "att", &[config.heads, channels])?;
        let logits = Logits::Joint { attention, target };
        let finish = Finish::pyg(weights, tensors, config, (inputs, channels))?;
        Ok(Self::new(config, channels, source, logits, finish))
    }

    pub(crate) fn gat_dgl(
        weights: &Weights,
        tensors: &str,
        config: &GatConfig,
        (inputs, channels): (usize, usize),
    ) -> Result<Self, GraphError> {
        let width = config.heads * channels;
        let fc = Linear::take(weights, &format!("{tensors}.fc"), inputs, width, false)?;
        let shape = [config.heads, channels];
        let logits = Logits::Separate {
            source: weights.take(tensors, "attn_l", &shape)?,
            target: weights.take(tensors, "attn_r", &shape)?,
        };
        let bias = match config.bias {
            true => Some(weights.take(tensors, "bias", &[width])?),
            false => None,
        };
        let finish = Finish::dgl(weights, tensors, config, bias, false, (inputs, width))?;
        Ok(Self::new(config, channels, fc, logits, finish))
    }

    pub(crate) fn gatv2_dgl(
        weights: &Weights,
        tensors: &str,
        config: &GatConfig,
        (inputs, channels): (usize, usize),
    ) -> Result<Self, GraphError> {
        let width = config.heads * channels;
        let take = |name: &str| {
            Linear::take(
                weights,
                &format!("{tensors}.{name}"),
                inputs,
                width,
                config.bias,
            )
        };
        let source = take("fc_src")?;
        let target = match config.share_weights {
            true => None,
            false => Some(take("fc_dst")?),
        };
        let attention = weights.take(tensors, "attn", &[config.heads, channels])?;
        let logits = Logits::Joint { attention, target };
        let finish = Finish::dgl(weights, tensors, config, None, config.bias, (inputs, width))?;
        Ok(Self::new(config, channels, source, logits, finish))
    }

    fn new(
        config: &GatConfig,
        channels: usize,
        source: Linear,
        logits: Logits,
        finish: Finish,
    ) -> Self {
        let pyg = !finish.mean_last;
        Self {
            heads: config.heads,
            channels,
            message: vec![RowOp::Linear(source)],
            logits,
            negative_slope: config.negative_slope,
            self_loops: config.self_loops.unwrap_or(pyg),
            epsilon: if pyg { 1e-16 } else { 0.0 },
            finish,
        }
    }

    /// Sum of `a · row` for each head.
    fn head_dots(&self, a: &[f32], row: &[f32], out: &mut [f32]) {
        let heads = row
            .chunks_exact(self.channels)
            .zip(a.chunks_exact(self.channels));
        for (out, (row, a)) in out.iter_mut().zip(heads) {
            *out = row.iter().zip(a).map(|(x, a)| x * a).sum();
        }
    }

    /// Logits of the edges from some messages to one target, appended to `logits`, `[edges, heads]`.
    /// `own` is what the target itself brings to them.
    fn edge_logits(&self, messages: Rows<'_>, edges: &[u32], own: &[f32], logits: &mut Vec<f32>) {
        let mut row = vec![0.0; own.len()];
        let mut dots = vec![0.0; self.heads];
        for &edge in edges {
            messages.read(edge as usize, &mut row);
            match &self.logits {
                Logits::Separate { source, target } => {
                    self.head_dots(source, &row, &mut dots);
                    let mut of_target = vec![0.0; self.heads];
                    self.head_dots(target, own, &mut of_target);
                    dots.iter_mut().zip(of_target).for_each(|(s, t)| {
                        *s = leaky_relu(*s + t, self.negative_slope);
                    });
                }
                Logits::Joint { attention, .. } => {
                    row.iter_mut().zip(own).for_each(|(v, x)| {
                        *v = leaky_relu(*v + x, self.negative_slope);
                    });
                    self.head_dots(attention, &row, &mut dots);
                }
            }
            logits.extend_from_slice(&dots);
        }
    }

    /// Turns logits, `[edges, heads]`, into each head's softmax over the edges.
    fn softmax(&self, logits: &mut [f32]) {
        for head in 0..self.heads {
            let each = || (head..logits.len()).step_by(self.heads);
            let top = each().map(|i| logits[i]).fold(f32::NEG_INFINITY, f32::max);
            let total: f32 = each().map(|i| (logits[i] - top).exp()).sum();
            let scale = 1.0 / (total + self.epsilon);
            for i in (head..logits.len()).step_by(self.heads) {
                logits[i] = (logits[i] - top).exp() * scale;
            }
        }
    }

    /// What the targets themselves bring to the logits of their edges, `[targets, heads * channels]`.
    fn target_rows(&self, input: &LayerInput<'_>, range: Range<usize>, own: &[f32]) -> Vec<f32> {
        if let Logits::Joint {
            target: Some(linear),
            ..
        } = &self.logits
        {
            return linear.apply(own);
        }
        input.own_messages(range)
    }
}

impl Convolution for Attention {
    fn width(&self) -> usize {
        match self.finish.concat {
            true => self.heads * self.channels,
            false => self.channels,
        }
    }

    fn message(&self) -> &[RowOp] {
        &self.message
    }

    fn compute(
        &self,
        input: &LayerInput<'_>,
        range: Range<usize>,
        sources: &mut Sources,
    ) -> Vec<f32> {
        let own = input.own_rows(range.clone());
        let target_rows = self.target_rows(input, range.clone(), &own);
        let width = self.heads * self.channels;
        let mut sums = vec![0.0; range.len() * width];
        let mut logits = Vec::new();
        for ((sum, target_row), index) in sums
            .chunks_exact_mut(width)
            .zip(target_rows.chunks_exact(width))
            .zip(range)
        {
            let target = input.targets.get(index);
            input.sources(target, self.self_loops, sources);
            if self.self_loops {
                match (input.messages.slot(target), target) {
                    (None, Target::Stored(node)) => sources.stored.push(node),
                    (Some(slot), _) | (None, Target::Query(slot)) => sources.at_hand.push(slot),
                }
            }
            input.count_rows(sources.len());
            logits.clear();
            let (stored, at_hand) = (input.messages.stored, input.messages.at_hand);
            self.edge_logits(stored, &sources.stored, target_row, &mut logits);
            self.edge_logits(at_hand, &sources.at_hand, target_row, &mut logits);
            self.softmax(&mut logits);
            let (of_stored, of_at_hand) = logits.split_at(sources.stored.len() * self.heads);
            gather_weighted(stored, &sources.stored, of_stored, self.heads, sum);
            gather_weighted(at_hand, &sources.at_hand, of_at_hand, self.heads, sum);
        }
        self.finish.apply(sums, &own, self.heads, self.channels)
    }
}

impl Finish {
    fn pyg(
        weights: &Weights,
        tensors: &str,
        config: &GatConfig,
        (inputs, channels): (usize, usize),
    ) -> Result<Self, GraphError> {
        let width = match config.concat {
            true => config.heads * channels,
            false => channels,
        };
        let bias = match config.bias {
            true => Some(weights.take(tensors, "bias", &[width])?),
            false => None,
        };
        let residual = match config.residual {
            ResidualConfig::Linear(false) => Residual::None,
            ResidualConfig::Linear(true) => Residual::Linear(Linear::take(
                weights,
                &format!("{tensors}.res"),
                inputs,
                width,
                false,
            )?),
            ResidualConfig::Named(_) => Residual::Identity,
        };
        Ok(Self {
            concat: config.concat,
            residual,
            bias,
            mean_last: false,
        })
    }

    fn dgl(
        weights: &Weights,
        tensors: &str,
        config: &GatConfig,
        bias: Option<Vec<f32>>,
        residual_bias: bool,
        (inputs, width): (usize, usize),
    ) -> Result<Self, GraphError> {
        let residual = match config.residual {
            ResidualConfig::Linear(false) => Residual::None,
            ResidualConfig::Linear(true) => Residual::Linear(Linear::take(
                weights,
                &format!("{tensors}.res_fc"),
                inputs,
                width,
                residual_bias,
            )?),
            ResidualConfig::Named(_) => Residual::Identity,
        };
        Ok(Self {
            concat: config.concat,
            residual,
            bias,
            mean_last: true,
        })
    }

    fn apply(&self, sums: Vec<f32>, own: &[f32], heads: usize, channels: usize) -> Vec<f32> {
        let mean = |rows: Vec<f32>| match self.concat {
            true => rows,
            false => head_mean(&rows, heads, channels),
        };
        if self.mean_last {
            mean(self.add(sums, own))
        } else {
            self.add(mean(sums), own)
        }
    }

    fn add(&self, mut rows: Vec<f32>, own: &[f32]) -> Vec<f32> {
        match &self.residual {
            Residual::None => {}
            Residual::Identity => rows.iter_mut().zip(own).for_each(|(v, x)| *v += x),
            Residual::Linear(linear) => linear.add_to(own, &mut rows),
        }
        if let Some(bias) = &self.bias {
            add_bias(bias, &mut rows);
        }
        rows
    }
}

fn head_mean(rows: &[f32], heads: usize, channels: usize) -> Vec<f32> {
    let mut means = vec![0.0; rows.len() / heads];
    let scale = 1.0 / heads as f32;
    for (mean, row) in means
        .chunks_exact_mut(channels)
        .zip(rows.chunks_exact(heads * channels))
    {
        for head in row.chunks_exact(channels) {
            mean.iter_mut().zip(head).for_each(|(m, v)| *m += scale * v);
        }
    }
    means
}
