//! Who chooses what to exchange for a batch: by what either is predicted to take, corrected by what batches of
//! its kind took before. A prediction knows the links and not the work beside them.

use crate::{Choice, ClusterError, Cost, Exchange, LinkCosts, Part, Wire, choice::Expected};
use satisfice_graph::{Plan, QueryBatch};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Chooses, and learns from how long answers took.
#[derive(Debug, Default)]
pub struct Chooser(Mutex<HashMap<Class, [Seen; 2]>>);

/// Batches that are alike: their plan (a budget to an eighth) and how often their number of queries doubles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Class {
    plan: u32,
    doublings: u32,
}

impl Class {
    fn of(batch: &QueryBatch, plan: Plan) -> Self {
        Self {
            plan: match plan {
                Plan::Precomputed => 0,
                Plan::Refresh => 1,
                Plan::Exact => 2,
                Plan::Recompute { budget, .. } => 3 + (budget * 8.0).round() as u32,
            },
            doublings: batch.queries().max(1).ilog2(),
        }
    }
}

/// What is known of one exchange for a class.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Time that was taken over time that was predicted.
    ratio: Option<f64>,
    /// Answers by the other exchange since the last one by this.
    passed_over: u32,
    /// Times that it was forgotten.
    forgotten: u32,
}

/// A batch is tried by an exchange that was not seen only if that sends at most so many times the bytes: whatever
/// the links and the work are, it takes not much longer then.
const TRIED_BYTES: f64 = 2.0;

/// By how much of the difference a slower answer than expected is believed; a quicker one is at once, since
/// nothing makes an answer quicker than it can be.
const SLOWER: f64 = 0.125;

/// As how many times slower than expected an answer counts at most: one hiccup is no verdict.
const SLOWER_MAX: f64 = 2.0;

/// Answers after which the other exchange is tried again for the first time, and at most.
const FORGET: (u32, u32) = (16, 1_024);

impl Seen {
    fn learn(&mut self, ratio: f64) {
        self.passed_over = 0;
        self.ratio = Some(match self.ratio {
            Some(seen) if ratio > seen => seen + SLOWER * (ratio.min(SLOWER_MAX * seen) - seen),
            _ => ratio,
        });
    }

    fn pass_over(&mut self) {
        self.passed_over += 1;
        let patience = FORGET.0.checked_shl(self.forgotten).unwrap_or(FORGET.1);
        if self.ratio.is_some() && self.passed_over >= patience.min(FORGET.1) {
            self.ratio = None;
            self.forgotten = (self.forgotten + 1).min(8);
        }
    }
}

/// Whether to take the second of two exchanges, by their predicted cost and what was seen.
fn is_second(costs: [Cost; 2], seen: [Seen; 2]) -> bool {
    let expected = [0, 1].map(|at| costs[at].seconds * seen[at].ratio.unwrap_or(1.0));
    let quicker = usize::from(expected[1] < expected[0]);
    let other = 1 - quicker;
    let tries = seen[other].ratio.is_none()
        && seen[quicker].ratio.is_some()
        && costs[other].bytes <= TRIED_BYTES * costs[quicker].bytes;
    (quicker == 1) != tries
}

impl Chooser {
    /// What to exchange for a batch, and what that is predicted to cost.
    ///
    /// # Errors
    /// A file of the part is not what it was when it was opened.
    pub fn choose(
        &self,
        part: &Part,
        (batch, plan): (&QueryBatch, Plan),
        links: (Wire, LinkCosts),
        choice: Choice,
    ) -> Result<(Exchange, Cost), ClusterError> {
        let expected = Expected::new(part, (batch, plan))?;
        let cost = |exchange| expected.cost(exchange, links);
        let exchange = match choice {
            Choice::Partials => Exchange::Partials,
            Choice::Rows => Exchange::Rows,
            Choice::Auto => {
                let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let seen = seen.get(&Class::of(batch, plan)).copied();
                let costs = [Exchange::Partials, Exchange::Rows].map(cost);
                match is_second(costs, seen.unwrap_or_default()) {
                    true => Exchange::Rows,
                    false => Exchange::Partials,
                }
            }
        };
        Ok((exchange, cost(exchange)))
    }

    /// Learns from an answer.
    pub fn saw(
        &self,
        (batch, plan): (&QueryBatch, Plan),
        (exchange, cost): (Exchange, Cost),
        took: Duration,
    ) {
        let at = match exchange {
            Exchange::Partials => 0,
            Exchange::Rows => 1,
        };
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.entry(Class::of(batch, plan)).or_default();
        seen[at].learn(took.as_secs_f64() / cost.seconds.max(1e-9));
        seen[1 - at].pass_over();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(bytes: f64) -> Cost {
        Cost {
            bytes,
            link_bytes: bytes,
            rounds: 2,
            seconds: bytes / 125e6,
        }
    }

    /// How often the second is taken in 400 answers, when both take these seconds.
    fn second_of_400(costs: [Cost; 2], take: impl Fn(usize) -> [f64; 2]) -> usize {
        let mut seen = [Seen::default(); 2];
        let answers = (0..400).filter(|&answer| {
            let second = is_second(costs, seen);
            let at = usize::from(second);
            seen[at].learn(take(answer)[at] / costs[at].seconds);
            seen[1 - at].pass_over();
            second
        });
        answers.count()
    }

    #[test]
    fn the_quicker_one_is_taken_whatever_was_predicted() {
        let costs = [cost(1e6), cost(1.3e6)];
        let quicker = second_of_400(costs, |_| [0.010, 0.009]);
        assert!(quicker > 390, "{quicker}");
        let slower = second_of_400(costs, |_| [0.010, 0.011]);
        assert!(slower < 10, "it is tried again now and then: {slower}");
    }

    #[test]
    fn what_sends_many_times_the_bytes_is_not_tried() {
        let taken = second_of_400([cost(1e6), cost(2e7)], |_| [0.1, 0.01]);
        assert_eq!(taken, 0);
    }

    #[test]
    fn slow_first_answers_and_hiccups_decide_nothing_for_long() {
        let costs = [cost(1e6), cost(1.1e6)];
        let quicker = second_of_400(costs, |answer| match answer {
            0 | 1 => [0.1, 0.5],
            _ if answer % 50 == 7 => [0.2, 0.2],
            _ => [0.012, 0.010],
        });
        assert!(quicker > 350, "{quicker}");
    }

    #[test]
    fn when_the_other_one_becomes_quicker_that_is_found_out() {
        let costs = [cost(1e6), cost(1.1e6)];
        let taken = second_of_400(costs, |answer| match answer < 100 {
            true => [0.010, 0.020],
            false => [0.030, 0.020],
        });
        assert!(taken > 200, "{taken}");
    }
}
