//! The next batch of an executor that has become free.

#[cfg(test)]
mod tests;

use crate::{
    Error, INPUTS_LIMIT, StrategyProfile,
    error::checked,
    queue::EXECUTORS_MAX,
    split::Split,
    units::{self, Nanos},
};

/// Inputs of one job that wait for one strategy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// Position of the strategy.
    pub strategy: usize,
    /// Inputs that are still to be run, at least 1.
    pub inputs: usize,
    /// By when all of them have to be done.
    pub deadline: Option<f64>,
    /// Since when it waits.
    pub ready: f64,
}

/// Some inputs of a part in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Position of the part among those given.
    pub part: usize,
    /// How many of its inputs.
    pub inputs: usize,
}

/// Inputs that one executor runs together.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Position of the strategy.
    pub strategy: usize,
    /// Whose inputs, in planned order.
    pub members: Vec<Member>,
    /// Predicted time, in seconds.
    pub seconds: f64,
}

/// What a free executor is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// There is no part.
    Idle,
    /// More may join; to be asked again at this time at the latest, and when a part arrives.
    WaitUntil(f64),
    /// Run this now.
    Run(Batch),
}

/// Forms batches out of the parts of several jobs.
#[derive(Debug, Clone)]
pub struct Batcher {
    splits: Vec<Split>,
    delay_max: f64,
    executors: usize,
}

/// Stands for no deadline; times the number of executors it does not overflow.
const NEVER: Nanos = Nanos::MAX / (2 * EXECUTORS_MAX as Nanos);

/// Waiting ends so much before it would make a member late: clocks and sums round.
const MARGIN: Nanos = 1_000;

impl Batcher {
    /// A batcher over these strategies. `delay_max` is how many seconds a part waits at most for
    /// others to fill its batch, while no other work waits; with 0 a free executor never waits.
    /// `executors` share the queue.
    ///
    /// # Errors
    /// Where there is no strategy or executor, more than 64 executors, or the delay is negative, not
    /// finite or over an hour.
    pub fn new(
        strategies: &[StrategyProfile],
        delay_max: f64,
        executors: usize,
    ) -> Result<Self, Error> {
        if strategies.is_empty() {
            return Err(Error::Nothing { what: "strategy" });
        }
        if executors == 0 {
            return Err(Error::Nothing { what: "executor" });
        }
        if executors > EXECUTORS_MAX {
            return Err(Error::TooMany {
                what: "executors",
                given: executors,
                most: EXECUTORS_MAX,
            });
        }
        let delay = || "the longest delay of a batch".to_owned();
        Ok(Self {
            splits: strategies.iter().map(Split::new).collect(),
            delay_max: checked(delay, delay_max, "0 to 3600 seconds", |v| {
                (0.0..=3600.0).contains(&v)
            })?,
            executors,
        })
    }

    /// The batch that the first of `parts`, which stand in planned order, is run in.
    ///
    /// It starts with the first part's own inputs: the largest of the batches into which they are
    /// best cut. In order, each later part of the same strategy joins with as many inputs as there is
    /// room for, if
    /// 1. the batch then ends by the deadline of everyone in it. A first part that would be late
    ///    alone holds nobody up, and is held up by nobody;
    /// 2. no part in between that would have been on time is late, taking it that everything that is
    ///    not in the batch runs after it, each part by itself, spread over all executors;
    /// 3. the batch does not grow by more than the joining inputs would take alone, so that whatever
    ///    comes later is not put off.
    ///
    /// Cost: one pass over the parts.
    ///
    /// # Errors
    /// Where a part names no strategy or has no inputs, or a time is not finite.
    pub fn next(&self, now: f64, parts: &[Part]) -> Result<Next, Error> {
        checked(|| "now".to_owned(), now, "finite", |_| true)?;
        for part in parts {
            self.check(part)?;
        }
        let Some(first) = parts.first() else {
            return Ok(Next::Idle);
        };
        let mut forming = Forming::new(self, now, first);
        for (at, part) in parts.iter().enumerate().skip(1) {
            forming.pass(at, part);
        }
        Ok(match forming.worth_waiting(parts) {
            Some(until) => Next::WaitUntil(until),
            None => Next::Run(forming.batch()),
        })
    }

    fn check(&self, part: &Part) -> Result<(), Error> {
        if part.strategy >= self.splits.len() {
            return Err(Error::UnknownStrategy {
                index: part.strategy,
                strategies: self.splits.len(),
            });
        }
        if part.inputs == 0 {
            return Err(Error::Nothing {
                what: "input of a part",
            });
        }
        if part.inputs > INPUTS_LIMIT {
            return Err(Error::TooMany {
                what: "inputs of a part",
                given: part.inputs,
                most: INPUTS_LIMIT,
            });
        }
        let finite = |what: &str, time| checked(|| what.to_owned(), time, "finite", |_| true);
        finite("since when a part waits", part.ready)?;
        part.deadline
            .map_or(Ok(()), |time| finite("a part's deadline", time).map(|_| ()))
    }
}

/// A batch that parts may still join. Times are from now.
struct Forming<'a> {
    batcher: &'a Batcher,
    now: f64,
    strategy: usize,
    members: Vec<Member>,
    size: usize,
    /// The longest time that the batch may take for the sake of members and of parts passed by.
    most: Nanos,
    /// Whether the first part is late whatever is done.
    late: bool,
    /// Time of what was passed by, each part by itself.
    behind: Nanos,
    /// Time of everything so far, each part by itself.
    alone: Nanos,
}

impl<'a> Forming<'a> {
    fn new(batcher: &'a Batcher, now: f64, first: &Part) -> Self {
        let split = &batcher.splits[first.strategy];
        let size = split.largest(first.inputs);
        let mut forming = Self {
            batcher,
            now,
            strategy: first.strategy,
            members: vec![Member {
                part: 0,
                inputs: size,
            }],
            size,
            most: NEVER,
            late: false,
            behind: 0,
            alone: split.time(first.inputs),
        };
        let rest = first.inputs - size;
        forming.late = !forming.on_time_alone(first);
        if !forming.late {
            forming.most = forming.left(first);
        }
        forming.pass_by(first, rest);
        forming
    }

    fn left(&self, part: &Part) -> Nanos {
        let deadline = part.deadline.map(|time| units::nanos_left(time - self.now));
        deadline.unwrap_or(NEVER).min(NEVER)
    }

    /// Whether the part would be on time if everything up to it ran by itself.
    fn on_time_alone(&self, part: &Part) -> bool {
        let own = self.batcher.splits[part.strategy].time(part.inputs);
        let turn = self.alone.div_ceil(self.batcher.executors as Nanos);
        own.max(turn) <= self.left(part)
    }

    /// Leaves `rest` inputs of a part for later: if it would have been on time, it is to stay so.
    fn pass_by(&mut self, part: &Part, rest: usize) {
        if rest == 0 {
            return;
        }
        self.behind += self.batcher.splits[part.strategy].time(rest);
        if self.on_time_alone(part) {
            let room = self.left(part) * self.batcher.executors as Nanos;
            self.most = self.most.min(room.saturating_sub(self.behind));
        }
    }

    /// Takes in as much of a part as may join.
    fn pass(&mut self, at: usize, part: &Part) {
        let split = &self.batcher.splits[part.strategy];
        let own = split.time(part.inputs);
        self.alone += own;
        let mut rest = part.inputs;
        if part.strategy == self.strategy && self.size < split.batch_max() {
            let joining = part.inputs.min(split.batch_max() - self.size);
            let left_over = part.inputs - joining;
            let time = split.batch(self.size + joining);
            let saved = own.saturating_sub(split.time(left_over));
            let longer = time.saturating_sub(split.batch(self.size));
            if time <= self.most.min(self.left(part)) && longer <= saved {
                self.members.push(Member {
                    part: at,
                    inputs: joining,
                });
                self.size += joining;
                self.most = self.most.min(self.left(part));
                rest = left_over;
            }
        }
        self.pass_by(part, rest);
    }

    fn time(&self) -> Nanos {
        self.batcher.splits[self.strategy].batch(self.size)
    }

    /// Until when more members may be waited for: nothing else waits, there is room, and everyone
    /// would still be on time.
    fn worth_waiting(&self, parts: &[Part]) -> Option<f64> {
        let full = self.size == self.batcher.splits[self.strategy].batch_max();
        if full || self.late || self.behind > 0 || self.batcher.delay_max == 0.0 {
            return None;
        }
        let spare = self.most.checked_sub(self.time() + MARGIN)?;
        let ready = parts.iter().map(|part| part.ready).fold(self.now, f64::min);
        let until = (ready + self.batcher.delay_max).min(self.now + units::seconds(spare));
        // A part that was ready too long ago, or a wait that no clock would see.
        (until - self.now > units::seconds(MARGIN)).then_some(until)
    }

    fn batch(self) -> Batch {
        Batch {
            strategy: self.strategy,
            seconds: units::seconds(self.time()),
            members: self.members,
        }
    }
}
