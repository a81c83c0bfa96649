//! Which way each queued job is answered.

mod chain;
mod exact;
mod greedy;
mod job;
mod keep;
mod price;
mod soft;
#[cfg(test)]
mod tests;

use crate::{
    Error,
    error::checked,
    units::{self, Nanos, Value},
};
use chain::{Chain, Slot};
pub use job::{Alternatives, Job};
use keep::Kept;
use price::Price;
use soft::SoftClock;
use std::borrow::Borrow;

/// Most jobs that are planned at once.
const JOBS_MAX: usize = 1 << 16;

/// Most executors.
pub(crate) const EXECUTORS_MAX: usize = 64;

/// Most classes of priority that are told apart; the lowest are planned as one.
const CLASSES_MAX: usize = 8;

/// Share of the time to a deadline that upgrades may fill while more jobs are expected.
const UPGRADES_SHARE: f64 = 0.5;

/// How hard a [`Planner`] tries, and what it owes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Share of one executor's time, above 0 and at most 1, that jobs without a deadline get however
    /// many deadlines there are.
    pub soft_share: f64,
    /// Work of the exact programme, in states extended, before a plan is chosen greedily. About 10 ns
    /// each.
    pub exact_work_max: usize,
    /// Whether upgrades are left out that gain less accuracy per time than recent arrivals made
    /// of it, and half the time to a deadline is left to jobs that are expected before it: the best
    /// plan for one queue is a poor one when the next jobs are at the door.
    pub look_ahead: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            soft_share: 0.05,
            exact_work_max: 16_384,
            look_ahead: true,
        }
    }
}

/// Plans queues, one after the other.
///
/// What is known about the queue comes in with every call; the planner itself only remembers which
/// jobs without a deadline were waiting, so that they get their share, and what the last 256 jobs
/// with one would have used, so that it does not spend what the next will need.
#[derive(Debug, Clone, Default)]
pub struct Planner {
    limits: Limits,
    soft: SoftClock,
    price: Price,
}

/// What becomes of one job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Position of the job among those given.
    pub job: usize,
    /// Position of the alternative, as [`Alternatives::new`] was given them.
    pub alternative: usize,
    /// Position of the executor.
    pub executor: usize,
    /// When it is to start.
    pub start: f64,
    /// When it is to be done; no later than its deadline.
    pub end: f64,
}

/// What becomes of a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The jobs that are answered, by start.
    pub choices: Vec<Choice>,
    /// Positions of the jobs that cannot be on time beside the others, ascending: to be refused now.
    pub refused: Vec<usize>,
    /// Whether nothing better is possible: in no class more jobs on time beside those kept of higher
    /// classes, nor, class by class, a higher summed accuracy of those that are kept.
    pub exact: bool,
}

/// What is left to jobs yet to come.
#[derive(Debug, Clone, Copy, Default)]
struct Ahead {
    /// Summed accuracy that time is worth.
    price: f64,
    /// Whether more jobs are expected before the present ones are due.
    expects_more: bool,
}

/// A job in nanoseconds from now.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    job: &'a Job,
    deadline: Nanos,
    /// 0 is the highest.
    class: usize,
}

impl Planner {
    /// A planner with other limits than the default ones.
    ///
    /// # Errors
    /// Where the share is not above 0 and at most 1.
    pub fn new(limits: Limits) -> Result<Self, Error> {
        checked(
            || "the share of jobs without a deadline".to_owned(),
            limits.soft_share,
            "above 0 and at most 1",
            |v| v > 0.0 && v <= 1.0,
        )?;
        Ok(Self {
            limits,
            ..Self::default()
        })
    }

    /// Chooses for every job an alternative and an executor, or refuses it.
    ///
    /// `executors` are the times at which each becomes free; past ones mean now. Jobs' ids are
    /// distinct. Per executor jobs run earliest deadline first. First the largest number of jobs is
    /// kept on time, class by class, each at its cheapest alternative; then, class by class, the
    /// alternatives of highest summed accuracy are chosen that keep all of them on time. On several
    /// executors both are heuristics.
    ///
    /// Cost: sorting, then `O(log n)` a job and downgrade, besides at most
    /// [`exact_work_max`](Limits::exact_work_max) states a class and executor.
    ///
    /// # Errors
    /// Where a time is not finite, there is no executor, or there are over 65,536 jobs or 64
    /// executors.
    pub fn plan(
        &mut self,
        now: f64,
        jobs: &[impl Borrow<Job>],
        executors: &[f64],
    ) -> Result<Decision, Error> {
        let free = free_times(now, executors)?;
        let count = jobs.len();
        if count > JOBS_MAX {
            return Err(Error::TooMany {
                what: "queued jobs",
                given: count,
                most: JOBS_MAX,
            });
        }
        let mut entries = entries(now, jobs);
        let soft = self
            .soft
            .deadlines(now, &entries, &free, self.limits.soft_share);
        for &(at, _, deadline) in &soft {
            entries[at].deadline = deadline;
        }
        let ahead = match self.limits.look_ahead {
            true => Ahead {
                price: self.price.update(now, &entries, free.len()),
                expects_more: self.price.is_busy(now),
            },
            false => Ahead::default(),
        };
        let kept = Kept::new(&entries, &free, &soft);
        let mut decision = Decision {
            choices: Vec::with_capacity(count),
            refused: kept.refused(),
            exact: free.len() == 1 || kept.refused().is_empty(),
        };
        for (executor, &start) in free.iter().enumerate() {
            let order = kept.on(executor);
            let (chosen, exact) = self.choose(&entries, &order, start, ahead);
            let at_best = || {
                let mut chosen = order.iter().zip(&chosen);
                chosen.all(|(&at, &c)| c + 1 == entries[at].job.alternatives().len())
            };
            // Another division among executors may do better unless nothing better exists.
            decision.exact &= exact && (free.len() == 1 || at_best());
            let mut time = start;
            for (&at, &step) in order.iter().zip(&chosen) {
                let step = entries[at].job.alternatives().steps()[step];
                let begin = time;
                time += step.time;
                decision.choices.push(Choice {
                    job: at,
                    alternative: step.index as usize,
                    executor,
                    start: now + units::seconds(begin),
                    end: now + units::seconds(time),
                });
            }
        }
        if free.len() > 1 {
            decision.choices.sort_by(|a, b| a.start.total_cmp(&b.start));
        }
        Ok(decision)
    }

    /// One alternative for each of the jobs of one executor, which run in this order from `start`,
    /// and whether nothing better exists.
    fn choose(
        &self,
        entries: &[Entry<'_>],
        order: &[usize],
        start: Nanos,
        ahead: Ahead,
    ) -> (Vec<usize>, bool) {
        let mut chosen = vec![0; order.len()];
        // What is left to later jobs might have been better for this queue alone.
        let mut exact = ahead.price == 0.0;
        let classes = order.iter().map(|&at| entries[at].class + 1).max();
        for class in 0..classes.unwrap_or(0) {
            let slots = order.iter().zip(&chosen).map(|(&at, &step)| {
                let entry = &entries[at];
                Slot::new(entry, (entry.class != class).then_some(step)).worth(ahead.price)
            });
            let mut chain = Chain {
                start,
                slots: slots.collect(),
            };
            if ahead.expects_more {
                chain.reserve(UPGRADES_SHARE);
            }
            if chain.slots.iter().all(Slot::is_fixed) {
                continue;
            }
            let best = chain
                .at_best()
                .or_else(|| exact::choose(&chain, self.limits.exact_work_max));
            exact &= best.is_some() && !ahead.expects_more;
            let steps = best.unwrap_or_else(|| greedy::choose(&chain));
            for ((chosen, slot), step) in chosen.iter_mut().zip(&chain.slots).zip(steps) {
                *chosen = slot.first + step;
            }
        }
        (chosen, exact)
    }
}

fn free_times(now: f64, executors: &[f64]) -> Result<Vec<Nanos>, Error> {
    if executors.is_empty() {
        return Err(Error::Nothing { what: "executor" });
    }
    if executors.len() > EXECUTORS_MAX {
        return Err(Error::TooMany {
            what: "executors",
            given: executors.len(),
            most: EXECUTORS_MAX,
        });
    }
    let finite = |name: &str, time| checked(|| name.to_owned(), time, "finite", |_| true);
    finite("now", now)?;
    executors
        .iter()
        .map(|&free| {
            let wait = finite("the time when an executor is free", free)? - now;
            let most = "at most a year away";
            checked(
                || "the wait for an executor".to_owned(),
                wait,
                most,
                |v| v < 3.2e7,
            )?;
            Ok(units::nanos(wait))
        })
        .collect()
}

/// The jobs with their deadlines from `now`; those without one as if it were never.
fn entries(now: f64, jobs: &[impl Borrow<Job>]) -> Vec<Entry<'_>> {
    let mut priorities: Vec<i32> = Vec::new();
    for job in jobs {
        let priority = job.borrow().priority();
        if priorities.last() != Some(&priority) {
            priorities.push(priority);
        }
    }
    priorities.sort_unstable_by(|a, b| b.cmp(a));
    priorities.dedup();
    jobs.iter()
        .map(|job| {
            let job: &Job = job.borrow();
            let rank = priorities.partition_point(|&other| other > job.priority());
            Entry {
                job,
                deadline: match job.deadline() {
                    Some(deadline) => units::nanos_left(deadline - now),
                    None => Nanos::MAX,
                },
                class: rank.min(CLASSES_MAX - 1),
            }
        })
        .collect()
}

impl Entry<'_> {
    fn cheapest(&self) -> Nanos {
        self.job.alternatives().steps()[0].time
    }

    fn dearest(&self) -> Nanos {
        let steps = self.job.alternatives().steps();
        steps[steps.len() - 1].time
    }

    fn weight(&self) -> Value {
        self.job.inputs() as Value
    }
}
