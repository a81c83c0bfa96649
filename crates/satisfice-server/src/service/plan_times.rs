//! How long requests took, by the plan that answered them: counts that are added to without a lock.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Plans that are counted by their names; clients may make up any number of them.
pub(super) const PLANS_MAX: usize = 32;

/// What the plans are called together that are not counted by their names.
const OTHER: &str = "other";

/// Upper bounds of the buckets, in seconds.
pub(crate) const BOUNDS: [f64; 18] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0, 20.0, 50.0,
];

/// Durations by the bucket that they fall into.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// The last one is over all bounds.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    ns: AtomicU64,
}

impl Histogram {
    pub(super) fn add(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.partition_point(|&bound| bound < seconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// What is in it now.
    pub(crate) fn seen(&self) -> Seen {
        let mut total = 0;
        let up_to = self.buckets.each_ref().map(|bucket| {
            total += bucket.load(Ordering::Relaxed);
            total
        });
        Seen {
            up_to,
            seconds: self.ns.load(Ordering::Relaxed) as f64 / 1e9,
        }
    }
}

/// What was in a histogram.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Seen {
    /// How many durations were at most each of the bounds, and then how many there were.
    pub up_to: [u64; BOUNDS.len() + 1],
    /// All together, in seconds.
    pub seconds: f64,
}

impl Seen {
    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.up_to[BOUNDS.len()]
    }

    /// With another one's durations.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        for (count, more) in self.up_to.iter_mut().zip(other.up_to) {
            *count += more;
        }
        self.seconds += other.seconds;
        self
    }
}

/// The durations of one plan.
#[derive(Debug, Default)]
pub(crate) struct PlanTimes {
    /// Answered requests, from the first byte to the encoded answer.
    pub request: Histogram,
    /// From a request's arrival in the queue to an execution that it is part of.
    pub queue: Histogram,
    /// Executions of the engine.
    pub execution: Histogram,
    answers: AtomicU64,
}

/// The durations of all plans of a version of a model. A name takes the first free place and keeps it.
#[derive(Debug, Default)]
pub(super) struct Plans {
    named: [OnceLock<Box<(String, PlanTimes)>>; PLANS_MAX],
    other: PlanTimes,
}

impl Plans {
    fn of(&self, plan: &str) -> &PlanTimes {
        if plan == OTHER {
            return &self.other;
        }
        for place in &self.named {
            let new = || Box::new((plan.to_owned(), PlanTimes::default()));
            let (name, times) = &**place.get_or_init(new);
            if name == plan {
                return times;
            }
        }
        &self.other
    }

    pub(super) fn answered(&self, plan: &str) {
        self.of(plan).answers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn requested(&self, plan: &str, duration: Duration) {
        self.of(plan).request.add(duration);
    }

    pub(super) fn waited(&self, plan: &str, duration: Duration) {
        self.of(plan).queue.add(duration);
    }

    pub(super) fn executed(&self, plan: &str, duration: Duration) {
        self.of(plan).execution.add(duration);
    }

    /// Every plan that was seen, and the others together.
    pub(super) fn each(&self) -> impl Iterator<Item = (&str, &PlanTimes)> {
        let named = self.named.iter().map_while(OnceLock::get);
        let named = named.map(|plan| (plan.0.as_str(), &plan.1));
        named.chain([(OTHER, &self.other)])
    }

    /// Answers by plan.
    pub(super) fn answers(&self) -> BTreeMap<&str, u64> {
        let counted = self.each().filter_map(|(plan, times)| {
            let answers = times.answers.load(Ordering::Relaxed);
            (answers > 0).then_some((plan, answers))
        });
        counted.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_under_the_first_bound_that_they_do_not_exceed() {
        let histogram = Histogram::default();
        for microseconds in [0, 100, 101, 200, 50_000_000, 50_000_001] {
            histogram.add(Duration::from_micros(microseconds));
        }
        let seen = histogram.seen();
        assert_eq!(seen.up_to[..3], [2, 4, 4]);
        assert_eq!(seen.up_to[BOUNDS.len() - 1..], [5, 6]);
        assert!((seen.seconds - 100.000_402).abs() < 1e-9, "{seen:?}");
        assert_eq!(seen.and(&seen).count(), 12);
    }

    #[test]
    fn plans_are_bounded() {
        let plans = Plans::default();
        for plan in 0..100 {
            plans.answered(&plan.to_string());
            plans.answered("0");
            plans.answered(OTHER);
        }
        let answers = plans.answers();
        assert_eq!(answers.len(), PLANS_MAX + 1);
        assert_eq!(answers["0"], 101);
        assert_eq!(answers[OTHER], 200 - PLANS_MAX as u64);
        assert_eq!(plans.each().count(), PLANS_MAX + 1);
    }
}
