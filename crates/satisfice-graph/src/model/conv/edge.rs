use super::{
    Convolution, Made, Needs, OwnRows, Reduce, Reduction, finish_reduce,
    softmax::{raise, shares},
};
use crate::model::{
    config::{Aggregator, EdgeConfig, EdgeMessage},
    program::Program,
    row_op::{RowOp, apply_elementwise, leaky_relu, sigmoid, without_tensors},
};
use satisfice_kernels::Rows;

/// What the ends of an edge make of it together, reduced: attention, or messages that the target scales. What
/// it reads of a node is `[what it brings as a target, what it sends as a source]`, made by the row operations
/// before it; it has no tensors of its own.
///
/// Source: Vaswani et al. (2017) as `TransformerConv`, `AGNNConv` and `DotGatConv`; Kim and Oh (2021) as
/// `SuperGATConv`; Li et al. (2020) as `GENConv`; Bresson and Laurent (2017) as `ResGatedGraphConv`;
/// Brockschmidt (2020) as `FiLMConv`; of PyTorch Geometric and DGL.
#[derive(Debug)]
pub(crate) struct Edge {
    kind: Kind,
    /// Values that a node brings as a target.
    term: usize,
    /// Values that it sends besides those that are summed.
    keys: usize,
    message: Program,
    out: usize,
}

#[derive(Debug)]
enum Kind {
    Attention {
        logits: Logits,
        heads: usize,
        negative_slope: Option<f32>,
        self_loops: bool,
    },
    Gate(Reduce),
    Film(Reduce, Option<RowOp>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Logits {
    /// `q_t · k_s`.
    Dot,
    /// `(a_t + a_s) σ(v_t · v_s)`.
    GatedDot,
    /// The source's own.
    Source,
}

/// Added to a softmax's denominator.
const EPSILON: f32 = 1e-16;

/// Messages that are read together.
const ROWS: usize = 64;

impl Edge {
    /// A layer that reads `inputs` values a node and leaves `out`, or what is wrong with it.
    pub(crate) fn new(config: &EdgeConfig, inputs: usize, out: usize) -> Result<Self, String> {
        let heads = config.heads;
        let reduce = match config.aggregator {
            Aggregator::Sum => Reduce::Sum,
            Aggregator::Mean => Reduce::Mean,
            other => {
                return Err(format!(
                    "aggregator {other:?} is none of message {:?}",
                    config.message
                ));
            }
        };
        let attention = |logits| Kind::Attention {
            logits,
            heads,
            negative_slope: config.negative_slope,
            self_loops: config.self_loops,
        };
        let rest = inputs
            .checked_sub(out)
            .filter(|_| out.is_multiple_of(heads));
        let (kind, term, keys) = match (config.message, rest) {
            (EdgeMessage::Dot, Some(rest)) if rest > 0 && rest.is_multiple_of(2 * heads) => {
                (attention(Logits::Dot), rest / 2, rest / 2)
            }
            (EdgeMessage::GatedDot, Some(rest)) if rest == 2 * heads => {
                (attention(Logits::GatedDot), heads, heads)
            }
            (EdgeMessage::Source, Some(rest)) if rest == heads => {
                (attention(Logits::Source), 0, heads)
            }
            (EdgeMessage::Gate, Some(rest)) if rest == 2 * out => (Kind::Gate(reduce), out, out),
            (EdgeMessage::Film, Some(rest)) if rest == 2 * out => {
                let activation = config.activation.as_ref().map(elementwise).transpose()?;
                (Kind::Film(reduce, activation), 2 * out, 0)
            }
            (message, _) => {
                return Err(format!(
                    "message {message:?} of {heads} heads cannot make rows of width {out} from \
                     rows of width {inputs}"
                ));
            }
        };
        let sent = RowOp::Slice {
            start: term,
            width: inputs - term,
        };
        Ok(Self {
            kind,
            term,
            keys,
            message: Program::chain(inputs, vec![sent]),
            out,
        })
    }

    fn message_width(&self) -> usize {
        self.keys + self.out
    }

    /// Logits of the edges from some messages to one target, `[edges, heads]`, by the target's term.
    fn logits(&self, messages: &[f32], term: &[f32], logits: &mut [f32]) {
        let Kind::Attention {
            logits: kind,
            heads,
            negative_slope,
            ..
        } = self.kind
        else {
            return;
        };
        let messages = messages.chunks_exact(self.message_width());
        for (message, logits) in messages.zip(logits.chunks_exact_mut(heads)) {
            let (keys, values) = message.split_at(self.keys);
            for (head, logit) in logits.iter_mut().enumerate() {
                *logit = match kind {
                    Logits::Source => keys[head],
                    Logits::Dot => {
                        let channels = self.keys / heads;
                        let at = head * channels..(head + 1) * channels;
                        dot(&keys[at.clone()], &term[at])
                    }
                    Logits::GatedDot => {
                        let channels = self.out / heads;
                        let at = head * channels..(head + 1) * channels;
                        let (scores, own) = term.split_at(heads);
                        let gate = sigmoid(dot(&values[at.clone()], &own[at]));
                        (scores[head] + keys[head]) * gate
                    }
                };
                if let Some(slope) = negative_slope {
                    *logit = leaky_relu(*logit, slope);
                }
            }
        }
    }

    /// Adds some messages, `[edges, message width]`, to a target's partial result.
    fn add(&self, messages: &[f32], term: &[f32], partial: &mut [f32]) {
        let width = self.message_width();
        match &self.kind {
            Kind::Attention { heads, .. } => {
                let mut logits = vec![0.0; messages.len() / width * heads];
                self.logits(messages, term, &mut logits);
                let sums = raise(partial, *heads, &mut logits);
                let channels = self.out / heads;
                for (message, shares) in messages
                    .chunks_exact(width)
                    .zip(logits.chunks_exact(*heads))
                {
                    let values = message[self.keys..].chunks_exact(channels);
                    for ((sum, values), share) in
                        sums.chunks_exact_mut(channels).zip(values).zip(shares)
                    {
                        sum.iter_mut()
                            .zip(values)
                            .for_each(|(v, x)| *v += share * x);
                    }
                }
            }
            Kind::Gate(_) => {
                for message in messages.chunks_exact(width) {
                    let (gates, values) = message.split_at(self.keys);
                    for (((v, x), q), k) in partial.iter_mut().zip(values).zip(gates).zip(term) {
                        *v += sigmoid(k + q) * x;
                    }
                }
            }
            Kind::Film(_, activation) => {
                let (scale, shift) = term.split_at(self.out);
                for message in messages.chunks_exact(width) {
                    let mut made: Vec<f32> = message
                        .iter()
                        .zip(scale)
                        .zip(shift)
                        .map(|((x, scale), shift)| scale * x + shift)
                        .collect();
                    if let Some(activation) = activation {
                        apply_elementwise(activation, &mut made);
                    }
                    partial.iter_mut().zip(made).for_each(|(v, x)| *v += x);
                }
            }
        }
    }
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

/// An activation that reads no other channel.
fn elementwise(config: &crate::model::config::RowOpConfig) -> Result<RowOp, String> {
    match config.name() {
        "relu" | "elu" | "leaky_relu" | "gelu" | "silu" | "tanh" | "sigmoid" => {
            Ok(without_tensors(config))
        }
        other => Err(format!("{other} is no activation of a message")),
    }
}

impl Convolution for Edge {
    fn width(&self) -> usize {
        self.out
    }

    fn message(&self) -> Option<&Program> {
        Some(&self.message)
    }

    fn averages(&self) -> bool {
        !matches!(
            self.kind,
            Kind::Gate(Reduce::Sum) | Kind::Film(Reduce::Sum, _)
        )
    }

    fn reduction(&self) -> Reduction {
        match self.kind {
            Kind::Attention {
                heads, self_loops, ..
            } => Reduction::Softmax {
                heads,
                values: self.out,
                without_self: self_loops,
            },
            Kind::Gate(_) | Kind::Film(..) => Reduction::Joint {
                sums: self.out,
                maxima: 0,
                without_self: false,
            },
        }
    }

    fn needs(&self) -> Needs {
        let (own_message, own_loop) = match self.kind {
            Kind::Attention {
                logits, self_loops, ..
            } => (logits == Logits::GatedDot, self_loops),
            _ => (false, false),
        };
        Needs {
            values: self.term > 0,
            messages: own_message || own_loop,
            ..Needs::default()
        }
    }

    fn terms(&self, values: &[f32], messages: &[f32]) -> Vec<f32> {
        if self.term == 0 {
            return Vec::new();
        }
        let inputs = self.term + self.message_width();
        let brought = values.chunks_exact(inputs).map(|row| &row[..self.term]);
        match self.kind {
            Kind::Attention {
                logits: Logits::GatedDot,
                ..
            } => {
                let sent = messages.chunks_exact(self.message_width());
                let sent = sent.map(|row| &row[self.keys..]);
                brought
                    .zip(sent)
                    .flat_map(|(brought, sent)| [brought, sent].concat())
                    .collect()
            }
            _ => brought.flatten().copied().collect(),
        }
    }

    fn term_width(&self) -> usize {
        match self.kind {
            Kind::Attention {
                logits: Logits::GatedDot,
                ..
            } => self.term + self.out,
            _ => self.term,
        }
    }

    fn attend(&self, rows: Rows<'_>, ids: &[u32], term: &[f32], partial: &mut [f32]) {
        let width = self.message_width();
        let mut messages = vec![0.0; ids.len().min(ROWS) * width];
        for ids in ids.chunks(ROWS) {
            let messages = &mut messages[..ids.len() * width];
            for (row, &id) in messages.chunks_exact_mut(width).zip(ids) {
                rows.read(id as usize, row);
            }
            self.add(messages, term, partial);
        }
    }

    fn complete(&self, mut reduced: Vec<f32>, made: &Made, own: &OwnRows<'_>) -> Vec<f32> {
        let (heads, self_loops) = match self.kind {
            Kind::Attention {
                heads, self_loops, ..
            } => (heads, self_loops),
            Kind::Gate(reduce) | Kind::Film(reduce, _) => {
                finish_reduce(reduce, &mut reduced, own);
                return reduced;
            }
        };
        let (width, term_width) = (self.message_width(), self.term_width());
        let mut out = vec![0.0; own.in_degrees.len() * self.out];
        for (at, (partial, out)) in reduced
            .chunks_exact_mut(2 * heads + self.out)
            .zip(out.chunks_exact_mut(self.out))
            .enumerate()
        {
            if self_loops {
                let term = &made.terms[at * term_width..][..term_width];
                self.add(&own.messages[at * width..][..width], term, partial);
            }
            shares(partial, (heads, EPSILON), out);
        }
        out
    }
}
