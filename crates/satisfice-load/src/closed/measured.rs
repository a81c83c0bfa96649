use hdrhistogram::Histogram;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Longest time that is told apart, in microseconds: an hour.
const MICROSECONDS_MAX: u64 = 3_600_000_000;

/// How much load, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// Time before anything counts.
    pub warm_up: Duration,
    /// Time that counts.
    pub duration: Duration,
}

/// What clients saw.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Requests answered with what was asked for.
    pub answered: u64,
    /// Requests answered with something else, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Connections that broke, with a request under way.
    pub broken: u64,
    /// Answered requests by second.
    pub per_second: f64,
    /// Median time from a request to its answer, in microseconds.
    pub p50_us: u64,
    /// Its 99th percentile.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Measured {
    /// Of answers by status and time, to requests that were sent for `length`.
    pub(crate) fn of(
        answers: impl IntoIterator<Item = (u16, Duration)>,
        broken: u64,
        length: Duration,
    ) -> Self {
        let load = Load {
            connections: 1,
            warm_up: Duration::ZERO,
            duration: length,
        };
        let mut tally = Tally::new(load, Instant::now());
        for (status, time) in answers {
            tally.count(status, time);
        }
        tally.broken = broken;
        Tally::sum(load, [tally])
    }
}

/// What one connection saw.
#[derive(Debug)]
pub(crate) struct Tally {
    begin: Instant,
    end: Instant,
    answered: Histogram<u64>,
    refused: BTreeMap<u16, u64>,
    broken: u64,
}

impl Tally {
    pub(crate) fn new(load: Load, now: Instant) -> Self {
        let begin = now + load.warm_up;
        Self {
            begin,
            end: begin + load.duration,
            answered: Histogram::new_with_bounds(1, MICROSECONDS_MAX, 3)
                .expect("invariant: the bounds are valid"),
            refused: BTreeMap::new(),
            broken: 0,
        }
    }

    /// Whether there is time for another request.
    pub(crate) fn goes_on(&self, now: Instant) -> bool {
        now < self.end
    }

    /// A request that was sent at `sent` got an answer of this status.
    pub(crate) fn add(&mut self, sent: Instant, status: u16) {
        let now = Instant::now();
        if now < self.begin || now > self.end {
            return;
        }
        self.count(status, now.duration_since(sent));
    }

    fn count(&mut self, status: u16, time: Duration) {
        if status == 200 {
            let microseconds = time.as_micros() as u64;
            self.answered.saturating_record(microseconds.max(1));
        } else {
            *self.refused.entry(status).or_default() += 1;
        }
    }

    pub(crate) fn broke(&mut self) {
        self.broken += 1;
    }

    fn merge(&mut self, other: &Self) {
        self.answered
            .add(&other.answered)
            .expect("invariant: the bounds are the same");
        for (&status, count) in &other.refused {
            *self.refused.entry(status).or_default() += count;
        }
        self.broken += other.broken;
    }

    /// All connections together.
    pub(crate) fn sum(load: Load, tallies: impl IntoIterator<Item = Self>) -> Measured {
        let mut all = Self::new(load, Instant::now());
        tallies.into_iter().for_each(|tally| all.merge(&tally));
        let answered = all.answered.len();
        Measured {
            answered,
            refused: all.refused,
            broken: all.broken,
            per_second: answered as f64 / load.duration.as_secs_f64(),
            p50_us: all.answered.value_at_quantile(0.5),
            p99_us: all.answered.value_at_quantile(0.99),
            max_us: all.answered.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_added_up() {
        let load = Load {
            connections: 2,
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(10),
        };
        let now = Instant::now();
        let tally = |statuses: &[u16]| {
            let mut tally = Tally::new(load, now);
            statuses.iter().for_each(|&status| tally.add(now, status));
            tally
        };
        let sum = Tally::sum(load, [tally(&[200, 503]), tally(&[200, 200, 503, 504])]);
        assert_eq!((sum.answered, sum.broken), (3, 0));
        assert_eq!(sum.refused, BTreeMap::from([(503, 2), (504, 1)]));
        assert!((sum.per_second - 0.3).abs() < 1e-9);
    }

    #[test]
    fn what_comes_before_and_after_does_not_count() {
        let load = Load {
            connections: 1,
            warm_up: Duration::from_mins(1),
            duration: Duration::from_mins(1),
        };
        let now = Instant::now();
        let mut tally = Tally::new(load, now);
        tally.add(now, 200);
        assert!(tally.goes_on(now) && !tally.goes_on(now + Duration::from_secs(121)));
        assert_eq!(Tally::sum(load, [tally]).answered, 0);
    }
}
