use super::{
    Convolution, Made, Needs, OwnRows, Reduction,
    softmax::{raise, shares},
};
use crate::model::{
    config::{MessageAggregator, MessageConfig, SelfLoops},
    program::Program,
    row_op::RowOp,
};
use satisfice_kernels::Rows;
use std::borrow::Cow;

/// Any message of both ends of an edge, as a row program makes it, reduced. What it reads of a node is `[what it
/// brings as a target, what it sends as a source]`, made by the row operations before it.
///
/// Source: the message passing of Gilmer et al. (2017), "Neural Message Passing for Quantum Chemistry", without
/// values of edges.
#[derive(Debug)]
pub(crate) struct Message {
    /// Values that a node brings as a target.
    term: usize,
    /// Values that it sends.
    sent: usize,
    /// Makes what is sent of what is read.
    sends: Program,
    /// Makes the values of an edge of what its source sends and its target brings.
    program: Program,
    reduce: EdgeReduce,
    self_loops: SelfLoops,
    out: usize,
}

/// How the values of a target's edges become one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EdgeReduce {
    Sum,
    /// A count of the edges is kept beside the sum.
    Mean,
    Max,
    /// The first values of an edge are its logits, one a head.
    Softmax {
        heads: usize,
    },
}

/// Added to a softmax's denominator.
const EPSILON: f32 = 1e-16;

/// Messages that are made together.
const ROWS: usize = 64;

/// What a program is given.
pub(crate) const SOURCE: &str = "source";
pub(crate) const TARGET: &str = "target";

impl Message {
    /// The rows that a message program is given, of a layer that reads `inputs` values a node, or what is wrong.
    pub(crate) fn given(
        config: &MessageConfig,
        inputs: usize,
    ) -> Result<Vec<(String, usize)>, String> {
        let term = config.target;
        if term >= inputs {
            return Err(format!(
                "`target` is {term} of {inputs} values, which leaves nothing that a source sends"
            ));
        }
        let mut given = vec![(SOURCE.to_owned(), inputs - term)];
        if term > 0 {
            given.push((TARGET.to_owned(), term));
        }
        Ok(given)
    }

    /// A layer whose messages `program` makes, or what is wrong with it.
    pub(crate) fn new(
        config: &MessageConfig,
        program: Program,
        inputs: usize,
        out: usize,
    ) -> Result<Self, String> {
        let (term, heads) = (config.target, config.heads);
        let reduce = match config.aggregator {
            MessageAggregator::Sum => EdgeReduce::Sum,
            MessageAggregator::Mean => EdgeReduce::Mean,
            MessageAggregator::Max => EdgeReduce::Max,
            MessageAggregator::Softmax => EdgeReduce::Softmax { heads },
        };
        let (wanted, known) = match reduce {
            EdgeReduce::Softmax { heads } => (heads + out, out.is_multiple_of(heads)),
            _ => (out, heads == 1),
        };
        if program.width() != wanted || !known {
            return Err(format!(
                "its program makes rows of width {}, but {:?} of {heads} heads to rows of width {out} \
                 reads {wanted}",
                program.width(),
                config.aggregator
            ));
        }
        let sent = RowOp::Slice {
            start: term,
            width: inputs - term,
        };
        Ok(Self {
            term,
            sent: inputs - term,
            sends: match term {
                0 => Program::nothing(inputs),
                _ => Program::chain(inputs, vec![sent]),
            },
            program,
            reduce,
            self_loops: config.self_loops,
            out,
        })
    }

    /// Whether every node has an edge to itself that is none of the graph's.
    fn makes_loop(&self) -> bool {
        matches!(self.self_loops, SelfLoops::Added | SelfLoops::Replaced)
    }

    /// Adds some edges, whose sources send `rows`, to a target's partial result.
    fn add(&self, rows: Cow<'_, [f32]>, term: &[f32], partial: &mut [f32]) {
        let edges = rows.len() / self.sent;
        let mut made = match self.program.is_empty() {
            true => rows.into_owned(),
            false if self.term > 0 => {
                let terms = match self.program.reads(1) {
                    true => term.repeat(edges),
                    false => Vec::new(),
                };
                self.program.run(rows, &[&terms])
            }
            false => self.program.run(rows, &[]),
        };
        match self.reduce {
            EdgeReduce::Sum | EdgeReduce::Mean => {
                let (sums, count) = partial.split_at_mut(self.out);
                for row in made.chunks_exact(self.out) {
                    sums.iter_mut().zip(row).for_each(|(v, x)| *v += x);
                }
                count.iter_mut().for_each(|count| *count += edges as f32);
            }
            EdgeReduce::Max => {
                for row in made.chunks_exact(self.out) {
                    partial
                        .iter_mut()
                        .zip(row)
                        .for_each(|(v, x)| *v = v.max(*x));
                }
            }
            EdgeReduce::Softmax { heads } => self.add_softmax(&mut made, heads, partial),
        }
    }

    fn add_softmax(&self, made: &mut [f32], heads: usize, partial: &mut [f32]) {
        let width = heads + self.out;
        let mut logits: Vec<f32> = Vec::with_capacity(made.len() / width * heads);
        for row in made.chunks_exact(width) {
            logits.extend_from_slice(&row[..heads]);
        }
        let sums = raise(partial, heads, &mut logits);
        let channels = self.out / heads;
        for (row, shares) in made.chunks_exact(width).zip(logits.chunks_exact(heads)) {
            let values = row[heads..].chunks_exact(channels);
            for ((sum, values), share) in sums.chunks_exact_mut(channels).zip(values).zip(shares) {
                sum.iter_mut()
                    .zip(values)
                    .for_each(|(v, x)| *v += share * x);
            }
        }
    }

    /// A target's row from its partial result over all edges.
    fn finish(&self, partial: &[f32], out: &mut [f32]) {
        match self.reduce {
            EdgeReduce::Sum => out.copy_from_slice(partial),
            EdgeReduce::Max => {
                // 0 where there is no edge.
                let value = |v: f32| if v == f32::NEG_INFINITY { 0.0 } else { v };
                out.iter_mut()
                    .zip(partial)
                    .for_each(|(v, &x)| *v = value(x));
            }
            EdgeReduce::Mean => {
                let (sums, count) = partial.split_at(self.out);
                let scale = 1.0 / count[0].max(1.0);
                out.iter_mut().zip(sums).for_each(|(v, x)| *v = scale * x);
            }
            EdgeReduce::Softmax { heads } => shares(partial, (heads, EPSILON), out),
        }
    }
}

impl Convolution for Message {
    fn width(&self) -> usize {
        self.out
    }

    fn message(&self) -> Option<&Program> {
        Some(&self.sends)
    }

    fn averages(&self) -> bool {
        self.reduce != EdgeReduce::Sum
    }

    fn reduction(&self) -> Reduction {
        let without_self = matches!(self.self_loops, SelfLoops::Replaced | SelfLoops::Removed);
        let (sums, maxima) = match self.reduce {
            EdgeReduce::Sum => (self.out, 0),
            EdgeReduce::Mean => (self.out + 1, 0),
            EdgeReduce::Max => (0, self.out),
            EdgeReduce::Softmax { heads } => {
                return Reduction::Softmax {
                    heads,
                    values: self.out,
                    without_self,
                };
            }
        };
        Reduction::Joint {
            sums,
            maxima,
            without_self,
        }
    }

    fn needs(&self) -> Needs {
        Needs {
            values: self.term > 0,
            messages: self.makes_loop(),
            ..Needs::default()
        }
    }

    fn terms(&self, values: &[f32], _: &[f32]) -> Vec<f32> {
        if self.term == 0 {
            return Vec::new();
        }
        let rows = values.chunks_exact(self.term + self.sent);
        rows.flat_map(|row| &row[..self.term]).copied().collect()
    }

    fn term_width(&self) -> usize {
        self.term
    }

    fn attend(&self, rows: Rows<'_>, ids: &[u32], term: &[f32], partial: &mut [f32]) {
        for ids in ids.chunks(ROWS) {
            let mut sent = vec![0.0; ids.len() * self.sent];
            for (row, &id) in sent.chunks_exact_mut(self.sent).zip(ids) {
                rows.read(id as usize, row);
            }
            self.add(Cow::Owned(sent), term, partial);
        }
    }

    fn complete(&self, mut reduced: Vec<f32>, made: &Made, own: &OwnRows<'_>) -> Vec<f32> {
        let targets = own.in_degrees.len();
        let width = reduced.len() / targets.max(1);
        let mut out = vec![0.0; targets * self.out];
        let partials = reduced.chunks_exact_mut(width.max(1));
        for (at, (partial, out)) in partials.zip(out.chunks_exact_mut(self.out)).enumerate() {
            if self.makes_loop() {
                let term = &made.terms[at * self.term..][..self.term];
                let sent = &own.messages[at * self.sent..][..self.sent];
                self.add(Cow::Borrowed(sent), term, partial);
            }
            self.finish(partial, out);
        }
        out
    }
}
