//! The jobs of one executor, in the order in which they run.

use super::{Entry, job::Step};
use crate::units::{Nanos, Value};

/// A job of a chain, with the alternatives that may be chosen for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot<'a> {
    pub deadline: Nanos,
    pub weight: Value,
    /// What may be chosen: all, or the one that is fixed.
    pub steps: &'a [Step],
    /// Position of the first of `steps` among the job's.
    pub first: usize,
    /// Positions in `steps` of the corners of their hull.
    pub hull: &'a [u32],
}

impl<'a> Slot<'a> {
    pub(super) fn new(entry: &Entry<'a>, fixed: Option<usize>) -> Self {
        let alternatives = entry.job.alternatives();
        let (steps, first, hull) = match fixed {
            Some(at) => (&alternatives.steps()[at..=at], at, &[0][..]),
            None => (alternatives.steps(), 0, alternatives.hull()),
        };
        Self {
            deadline: entry.deadline,
            weight: entry.weight(),
            steps,
            first,
            hull,
        }
    }

    /// Without the alternatives to which no upgrade gains `price` per time.
    pub(super) fn worth(mut self, price: f64) -> Self {
        let gains = self.hull.windows(2).take_while(|corners| {
            let [from, to] = [0, 1].map(|i| self.steps[corners[i] as usize]);
            let value = (to.value - from.value) * self.weight;
            value as f64 >= price * (to.time - from.time) as f64
        });
        let last = gains.count();
        self.hull = &self.hull[..=last];
        self.steps = &self.steps[..=self.hull[last] as usize];
        self
    }

    pub(super) fn is_fixed(&self) -> bool {
        self.steps.len() == 1
    }
}

/// Jobs that run one after the other from `start`; at the first alternative of each slot, all are on
/// time.
#[derive(Debug, Clone)]
pub(super) struct Chain<'a> {
    pub start: Nanos,
    pub slots: Vec<Slot<'a>>,
}

impl Chain<'_> {
    /// Everybody's most accurate alternative, if all are on time with it.
    pub(super) fn at_best(&self) -> Option<Vec<usize>> {
        let mut time = self.start;
        self.slots
            .iter()
            .map(|slot| {
                let last = slot.steps.len() - 1;
                time += slot.steps[last].time;
                (time <= slot.deadline).then_some(last)
            })
            .collect()
    }

    /// Brings every deadline forward to `share` of the time until it, but never so far that the
    /// cheapest alternatives would be late: upgrades then leave the rest to jobs yet to come.
    pub(super) fn reserve(&mut self, share: f64) {
        let mut cheapest = self.start;
        for slot in &mut self.slots {
            cheapest += slot.steps[0].time;
            let left = slot.deadline.saturating_sub(self.start);
            let earlier = self.start + (share * left as f64) as Nanos;
            slot.deadline = slot.deadline.min(earlier.max(cheapest));
        }
    }

    /// Time that each job, and everything behind it, may still be put off by.
    pub(super) fn slack(&self, chosen: &[usize]) -> Vec<Nanos> {
        let mut time = self.start;
        let mut slack: Vec<Nanos> = self
            .slots
            .iter()
            .zip(chosen)
            .map(|(slot, &step)| {
                time += slot.steps[step].time;
                slot.deadline - time
            })
            .collect();
        for at in (1..slack.len()).rev() {
            slack[at - 1] = slack[at - 1].min(slack[at]);
        }
        slack
    }

    /// Summed accuracy of a choice.
    pub(super) fn value(&self, chosen: &[usize]) -> Value {
        let values = self.slots.iter().zip(chosen);
        values
            .map(|(slot, &step)| slot.weight * slot.steps[step].value)
            .sum()
    }
}
