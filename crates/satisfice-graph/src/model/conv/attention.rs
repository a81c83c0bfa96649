use super::{
    Convolution, Made, Needs, OwnRows, Reduction,
    softmax::{raise, shares},
};
use crate::{
    GraphError,
    model::{
        config::{GatConfig, ResidualConfig},
        linear::{Linear, add_bias},
        program::Program,
        row_op::{RowOp, leaky_relu},
        weights::Weights,
    },
};
use satisfice_kernels::{HeadVectors, Rows, gather_dots, gather_leaky_dots, gather_weighted};

/// `Σ_s softmax_s(e_st) W x_s`, one softmax a head.
///
/// Source: Veličković et al. (2018) and Brody et al. (2022), as `GATConv` and `GATv2Conv` of
/// PyTorch Geometric and DGL.
#[derive(Debug)]
pub(crate) struct Attention {
    heads: usize,
    /// Per head.
    channels: usize,
    message: Program,
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
        source: HeadVectors,
        target: HeadVectors,
    },
    /// `a · leaky(W_s x_s + W_t x_t)`.
    Joint {
        attention: HeadVectors,
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

/// `W` of the sources, and the logits that go with it.
type Scored = (Linear, Logits);

/// Takes `W` and the two halves of the attention vector by their names.
fn take_separate(
    weights: &Weights,
    tensors: &str,
    [lin, source, target]: [&str; 3],
    heads: usize,
    (inputs, channels): (usize, usize),
) -> Result<Scored, GraphError> {
    let (width, shape) = (heads * channels, [heads, channels]);
    let lin = Linear::take(weights, &format!("{tensors}.{lin}"), inputs, width, false)?;
    let take = |name: &str| -> Result<HeadVectors, GraphError> {
        Ok(HeadVectors::new(
            weights.take(tensors, name, &shape)?,
            heads,
        ))
    };
    let logits = Logits::Separate {
        source: take(source)?,
        target: take(target)?,
    };
    Ok((lin, logits))
}

/// Takes `W_s`, `W_t` and the attention vector by their names.
fn take_joint(
    weights: &Weights,
    tensors: &str,
    [source, target, attention]: [&str; 3],
    config: &GatConfig,
    (inputs, channels): (usize, usize),
) -> Result<Scored, GraphError> {
    let width = config.heads * channels;
    let take = |name: &str| {
        let prefix = format!("{tensors}.{name}");
        Linear::take(weights, &prefix, inputs, width, config.bias)
    };
    let source = take(source)?;
    let target = match config.share_weights {
        true => None,
        false => Some(take(target)?),
    };
    let attention = weights.take(tensors, attention, &[config.heads, channels])?;
    let attention = HeadVectors::new(attention, config.heads);
    Ok((source, Logits::Joint { attention, target }))
}

impl Attention {
    pub(crate) fn gat_pyg(
        weights: &Weights,
        tensors: &str,
        config: &GatConfig,
        widths: (usize, usize),
    ) -> Result<Self, GraphError> {
        // A copy of `lin.weight` under another name (PyG before 2.5).
        if weights.has(tensors, "lin_dst.weight") {
            let shape = [config.heads * widths.1, widths.0];
            weights.take(tensors, "lin_dst.weight", &shape)?;
        }
        // PyG before 2.5 called the one weight `lin_src.weight`, with an alias.
        let lin = match weights.has(tensors, "lin_src.weight") {
            true => "lin_src",
            false => "lin",
        };
        let names = [lin, "att_src", "att_dst"];
        let scored = take_separate(weights, tensors, names, config.heads, widths)?;
        let finish = Finish::pyg(weights, tensors, config, widths)?;
        Ok(Self::new(config, widths.1, scored, finish))
    }

    pub(crate) fn gatv2_pyg(
        weights: &Weights,
        tensors: &str,
        config: &GatConfig,
        widths: (usize, usize),
    ) -> Result<Self, GraphError> {
        let scored = take_joint(weights, tensors, ["lin_l", "lin_r", "att"], config, widths)?;
        let finish = Finish::pyg(weights, tensors, config, widths)?;
        Ok(Self::new(config, widths.1, scored, finish))
    }

    pub(crate) fn gat_dgl(
        weights: &Weights,
        tensors: &str,
        config: &GatConfig,
        widths: (usize, usize),
    ) -> Result<Self, GraphError> {
        let names = ["fc", "attn_l", "attn_r"];
        let scored = take_separate(weights, tensors, names, config.heads, widths)?;
        let width = config.heads * widths.1;
        let bias = weights.take_if(config.bias, tensors, "bias", &[width])?;
        let finish = Finish::dgl(weights, tensors, config, bias, (widths.0, width))?;
        Ok(Self::new(config, widths.1, scored, finish))
    }

    pub(crate) fn gatv2_dgl(
        weights: &Weights,
        tensors: &str,
        config: &GatConfig,
        widths: (usize, usize),
    ) -> Result<Self, GraphError> {
        let scored = take_joint(
            weights,
            tensors,
            ["fc_src", "fc_dst", "attn"],
            config,
            widths,
        )?;
        let width = config.heads * widths.1;
        let finish = Finish::dgl(weights, tensors, config, None, (widths.0, width))?;
        Ok(Self::new(config, widths.1, scored, finish))
    }

    fn new(config: &GatConfig, channels: usize, (source, logits): Scored, finish: Finish) -> Self {
        let pyg = !finish.mean_last;
        Self {
            heads: config.heads,
            channels,
            message: Program::chain(source.inputs(), vec![RowOp::Linear(source)]),
            logits,
            negative_slope: config.negative_slope,
            self_loops: config.self_loops.unwrap_or(pyg),
            epsilon: if pyg { 1e-16 } else { 0.0 },
            finish,
        }
    }
}

impl Convolution for Attention {
    fn width(&self) -> usize {
        match self.finish.concat {
            true => self.heads * self.channels,
            false => self.channels,
        }
    }

    fn message(&self) -> Option<&Program> {
        Some(&self.message)
    }

    fn reduction(&self) -> Reduction {
        Reduction::Softmax {
            heads: self.heads,
            values: self.message.width(),
            without_self: self.self_loops,
        }
    }

    fn needs(&self) -> Needs {
        let maps_values = matches!(
            &self.logits,
            Logits::Joint {
                target: Some(_),
                ..
            }
        );
        Needs {
            values: maps_values || !matches!(self.finish.residual, Residual::None),
            messages: !maps_values || self.self_loops,
            ..Needs::default()
        }
    }

    fn terms(&self, values: &[f32], messages: &[f32]) -> Vec<f32> {
        match &self.logits {
            Logits::Separate { target, .. } => {
                let rows = Rows::f32(messages, target.width());
                let ids: Vec<u32> = (0..(messages.len() / target.width()) as u32).collect();
                let mut terms = vec![0.0; ids.len() * self.heads];
                gather_dots(rows, &ids, target, &mut terms);
                terms
            }
            Logits::Joint {
                target: Some(linear),
                ..
            } => linear.apply(values),
            Logits::Joint { target: None, .. } => messages.to_vec(),
        }
    }

    fn term_width(&self) -> usize {
        match &self.logits {
            Logits::Separate { .. } => self.heads,
            Logits::Joint { .. } => self.heads * self.channels,
        }
    }

    fn attend(&self, rows: Rows<'_>, ids: &[u32], term: &[f32], partial: &mut [f32]) {
        // What one pass over some rows brings into cache, the other finds there.
        let mut logits = vec![0.0; ids.len().min(ROWS) * self.heads];
        for ids in ids.chunks(ROWS) {
            let logits = &mut logits[..ids.len() * self.heads];
            self.attend_together(rows, ids, (term, logits), partial);
        }
    }

    fn complete(&self, mut reduced: Vec<f32>, made: &Made, own: &OwnRows<'_>) -> Vec<f32> {
        let width = self.heads * self.channels;
        let messages = own.messages;
        let mut sums = vec![0.0; own.in_degrees.len() * width];
        for (at, (partial, out)) in reduced
            .chunks_exact_mut(2 * self.heads + width)
            .zip(sums.chunks_exact_mut(width))
            .enumerate()
        {
            if self.self_loops {
                let term = &made.terms[at * self.term_width()..][..self.term_width()];
                self.attend(Rows::f32(messages, width), &[at as u32], term, partial);
            }
            shares(partial, (self.heads, self.epsilon), out);
        }
        self.finish
            .apply(sums, own.values, self.heads, self.channels)
    }
}

impl Attention {
    /// `logits`, `[ids.len(), heads]`, is space to work in.
    fn attend_together(
        &self,
        rows: Rows<'_>,
        ids: &[u32],
        (term, logits): (&[f32], &mut [f32]),
        partial: &mut [f32],
    ) {
        self.logits(rows, ids, term, logits);
        let sums = raise(partial, self.heads, logits);
        gather_weighted(rows, ids, logits, self.heads, sums);
    }

    /// Logits of the edges from some messages to one target, `[edges, heads]`, by the target's term.
    fn logits(&self, rows: Rows<'_>, ids: &[u32], term: &[f32], logits: &mut [f32]) {
        match &self.logits {
            Logits::Separate { source, .. } => {
                gather_dots(rows, ids, source, logits);
                for logits in logits.chunks_exact_mut(self.heads) {
                    for (logit, t) in logits.iter_mut().zip(term) {
                        *logit = leaky_relu(*logit + t, self.negative_slope);
                    }
                }
            }
            Logits::Joint { attention, .. } => {
                let term = (term, self.negative_slope);
                gather_leaky_dots(rows, ids, term, attention, logits);
            }
        }
    }
}

/// Rows that are read twice, one time for their logits and one for their sum, before the next.
const ROWS: usize = 512;

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
        let bias = weights.take_if(config.bias, tensors, "bias", &[width])?;
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

    /// `bias` is added to the heads' sums; the residual's map has a bias where the layer's other maps
    /// have theirs, which is where the sums have none.
    fn dgl(
        weights: &Weights,
        tensors: &str,
        config: &GatConfig,
        bias: Option<Vec<f32>>,
        (inputs, width): (usize, usize),
    ) -> Result<Self, GraphError> {
        let residual_bias = config.bias && bias.is_none();
        let residual = match config.residual {
            ResidualConfig::Linear(false) => Residual::None,
            ResidualConfig::Linear(true) => {
                let prefix = format!("{tensors}.res_fc");
                let linear = Linear::take(weights, &prefix, inputs, width, residual_bias)?;
                Residual::Linear(linear)
            }
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
