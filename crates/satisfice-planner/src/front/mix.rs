use crate::{
    StrategyProfile,
    units::{self, Value},
};
use std::ops::Range;

/// Batches of one size of one strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Run {
    /// Position of the strategy.
    pub strategy: usize,
    /// Inputs in a batch.
    pub batch: usize,
    /// How many such batches.
    pub times: usize,
}

/// How many of a job's inputs go to which strategy, and in which batches.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    /// The batches, by strategy, then largest first.
    pub runs: Vec<Run>,
    /// Time of all batches one after the other, in seconds.
    pub seconds: f64,
    /// A time below which no mix of this accuracy is, in seconds. Equal to `seconds` where the
    /// mix is from an exact front.
    pub seconds_bound: f64,
    /// Mean accuracy that is planned with, 0 to 1.
    pub accuracy: f64,
    /// Mean accuracy that is expected, 0 to 1.
    pub expected: f64,
}

impl Mix {
    /// `runs` in any order, not empty.
    pub(super) fn new(mut runs: Vec<Run>, strategies: &[StrategyProfile]) -> Self {
        runs.sort_by_key(|run| (run.strategy, usize::MAX - run.batch));
        runs.dedup_by(|next, run| {
            let same = (next.strategy, next.batch) == (run.strategy, run.batch);
            if same {
                run.times += next.times;
            }
            same
        });
        let (mut time, mut value, mut inputs, mut expected) = (0, 0, 0, 0.0);
        for run in &runs {
            let strategy = &strategies[run.strategy];
            let count = run.batch * run.times;
            time += strategy.nanos(run.batch) * run.times as u64;
            value += strategy.value() * count as Value;
            expected += strategy.expected() * count as f64;
            inputs += count;
        }
        let seconds = units::seconds(time);
        Self {
            runs,
            seconds,
            seconds_bound: seconds,
            accuracy: units::share(value, inputs),
            expected: expected / inputs as f64,
        }
    }

    /// Inputs that it answers.
    pub fn inputs(&self) -> usize {
        self.runs.iter().map(|run| run.batch * run.times).sum()
    }

    /// Inputs that go to `strategy`.
    pub fn inputs_by(&self, strategy: usize) -> usize {
        let of_strategy = self.runs.iter().filter(|run| run.strategy == strategy);
        of_strategy.map(|run| run.batch * run.times).sum()
    }

    /// The time of all batches by other profiles of the same strategies, in seconds: what it takes
    /// when latencies have drifted from those that the table was built with.
    ///
    /// # Panics
    /// Where `strategies` are not those of the table.
    pub fn seconds_by(&self, strategies: &[StrategyProfile]) -> f64 {
        let times = self
            .runs
            .iter()
            .map(|run| strategies[run.strategy].seconds()[run.batch - 1] * run.times as f64);
        times.sum()
    }

    /// Which inputs go to which strategy: contiguous ranges in the order of the runs, on a circle
    /// of all positions that is turned by `seed`.
    ///
    /// The turn depends on `seed` alone, never on the inputs' content. Over uniform seeds (a
    /// hash of the job's id) every position goes to strategy `s` with probability `x_s / n`,
    /// so the mean accuracy holds in expectation even for inputs that a client has sorted. At most
    /// one strategy's range wraps around, and has two entries.
    pub fn assign(&self, seed: u64) -> Vec<(usize, Range<usize>)> {
        let inputs = self.inputs();
        let mut at = (scrambled(seed) % inputs as u64) as usize;
        let mut parts: Vec<(usize, Range<usize>)> = Vec::new();
        for part in self.runs.chunk_by(|a, b| a.strategy == b.strategy) {
            let strategy = part[0].strategy;
            let count: usize = part.iter().map(|run| run.batch * run.times).sum();
            let end = at + count;
            parts.push((strategy, at..end.min(inputs)));
            if end > inputs {
                parts.push((strategy, 0..end - inputs));
            }
            at = end % inputs;
        }
        parts.sort_by_key(|(_, range)| range.start);
        parts
    }
}

/// Source: the finaliser of `SplitMix64` (Steele, Lea, Flood 2014).
pub(crate) fn scrambled(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
