use crate::{StrategyProfile, units::Nanos};

/// How many inputs of one strategy are cut into batches when nothing else joins them:
/// F(k) = min over b of F(k - b) + l(b).
#[derive(Debug, Clone)]
pub(crate) struct Split {
    /// Time of a batch, by its size less one.
    batches: Vec<Nanos>,
    /// (F(k), its largest batch), by k.
    least: Vec<(Nanos, usize)>,
    /// The batch with the least time an input.
    efficient: usize,
}

impl Split {
    pub(crate) fn new(profile: &StrategyProfile) -> Self {
        let most = profile.batch_max();
        let batches: Vec<Nanos> = (1..=most).map(|b| profile.nanos(b)).collect();
        // Beyond a few batches the efficient size is all that is added.
        let mut least: Vec<(Nanos, usize)> = vec![(0, 0)];
        for k in 1..=4 * most {
            let splits = (1..=most.min(k)).map(|b| {
                let (time, largest) = least[k - b];
                (time + batches[b - 1], usize::MAX - largest.max(b))
            });
            let (time, largest) = splits.min().unwrap_or((0, usize::MAX));
            least.push((time, usize::MAX - largest));
        }
        let per_input = |&b: &usize| batches[b - 1] as f64 / b as f64;
        let efficient = (1..=most).min_by(|a, b| per_input(a).total_cmp(&per_input(b)));
        Self {
            batches,
            least,
            efficient: efficient.unwrap_or(1),
        }
    }

    pub(crate) fn batch_max(&self) -> usize {
        self.batches.len()
    }

    /// Time of a batch of 1 to `batch_max` inputs.
    pub(crate) fn batch(&self, inputs: usize) -> Nanos {
        self.batches[inputs - 1]
    }

    /// Time of any number of inputs, one batch after the other.
    pub(crate) fn time(&self, inputs: usize) -> Nanos {
        let whole = self.whole(inputs);
        let rest = inputs - whole * self.efficient;
        self.least[rest].0 + whole as Nanos * self.batches[self.efficient - 1]
    }

    /// The largest batch among those that `inputs` inputs are cut into.
    pub(crate) fn largest(&self, inputs: usize) -> usize {
        let whole = self.whole(inputs);
        let (_, largest) = self.least[inputs - whole * self.efficient];
        match whole {
            0 => largest,
            _ => largest.max(self.efficient),
        }
    }

    /// Efficient batches that are taken off before the rest is looked up.
    fn whole(&self, inputs: usize) -> usize {
        let beyond = inputs.saturating_sub(self.least.len() - 1);
        beyond.div_ceil(self.efficient)
    }
}
