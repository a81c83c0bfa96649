//! What is executed: on how many cores, and how far it has come.

use super::{job::CERTAIN, task::LaneId};
use satisfice_core::Cores;
use satisfice_planner::{self as planner, Alternatives, CoreTime, Turn};

/// Seconds on one core up to which an execution is short: over about as soon as others have given way.
pub(super) const SHORT_MAX: f64 = 0.002;

/// By how much an execution may exceed that until it is no longer taken for short.
const SHORT_EXCEEDED: f64 = 2.0;

/// Share of the cores that an execution without a deadline gets in any case.
const OWED: f64 = 0.05;

/// What is left of an execution that takes longer than was predicted, as a share of what it has done.
const OVERDUE: f64 = 0.1;

/// One execution.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that do not depend on each other"
)]
pub(super) struct Running {
    pub run: u64,
    pub lane: LaneId,
    pub audit: bool,
    pub cores: Cores,
    /// Whether it spreads over the cores that it is granted, and gives way; any other has one until it is done.
    pub shares: bool,
    pub short: bool,
    /// By when it has to be done, in seconds.
    pub deadline: Option<f64>,
    /// As the planner saw it; none of what was not queued.
    pub job: Option<planner::Job>,
    /// Cores that it was planned with.
    pub width: usize,
    /// What it is predicted to take; nothing where nothing is known.
    pub time: Option<CoreTime>,
    pub granted: usize,
    /// Whether it ever had fewer cores than there are.
    pub narrowed: bool,
    pub begun: f64,
    /// When it was last looked at, and what had come of it until then: seconds with a core, core seconds granted, and
    /// work done in seconds on one core.
    pub since: f64,
    pub awake: f64,
    pub used: f64,
    pub done: f64,
}

impl Running {
    /// Brings it up to date.
    pub(super) fn settle(&mut self, now: f64) {
        let passed = (now - self.since).max(0.0);
        self.since = now;
        if self.granted == 0 {
            return;
        }
        self.awake += passed;
        self.used += passed * self.granted as f64;
        self.done += passed * self.time.map_or(1.0, |time| time.speed(self.granted));
        self.short &= self.awake <= SHORT_EXCEEDED * SHORT_MAX;
    }

    /// What is left of it, in seconds on one core.
    pub(super) fn left(&self) -> f64 {
        match self.time {
            None => self.done,
            Some(time) => (time.seconds(1) - self.done).max(OVERDUE * self.done),
        }
    }

    /// Seconds that it still takes on so many cores.
    pub(super) fn left_on(&self, cores: usize) -> f64 {
        self.left() / self.time.map_or(1.0, |time| time.speed(cores.max(1)))
    }

    /// Whether it is certain to be late, even on all of so many cores.
    pub(super) fn is_hopeless(&self, cores: usize) -> bool {
        let (Some(deadline), Some(time)) = (self.deadline, self.time) else {
            return false;
        };
        let left = (time.seconds(1) - self.done).max(0.0) / time.speed(cores.max(1));
        self.since + CERTAIN * left > deadline
    }

    /// Seconds without a core.
    pub(super) fn asleep(&self) -> f64 {
        (self.since - self.begun - self.awake).max(0.0)
    }

    /// How many of so many cores it uses well, or was planned with: as long as nothing is known, one.
    pub(super) fn well(&self, cores: usize) -> usize {
        let planned = self.deadline.map_or(1, |_| self.width);
        match self.time {
            Some(time) if self.shares => time.efficient(cores).max(planned),
            _ => 1,
        }
    }

    /// How many of so many cores are of some use to it.
    pub(super) fn most(&self, cores: usize) -> usize {
        match self.time {
            _ if !self.shares || self.audit => 1,
            None => cores,
            Some(time) => time.useful(cores),
        }
    }

    /// When it has its turn; `used` is what its model has used of its share.
    pub(super) fn turn(&self, cores: usize, used: f64) -> Turn {
        let due = OWED * cores as f64 * (self.since - self.begun);
        match self.deadline {
            _ if !self.shares => Turn::Fixed,
            _ if self.short => Turn::Short,
            None if !self.audit && self.used < due => Turn::Owed,
            Some(deadline) => Turn::Due(deadline),
            None => Turn::Open {
                used,
                left: self.left(),
            },
        }
    }

    /// What is left of it on so many cores, as a job for the planner that is kept before any that waits; nothing where it
    /// is predicted to be late, which a plan would leave out.
    pub(super) fn as_job(&self, cores: usize) -> Option<planner::Job> {
        let job = self.job.as_ref()?;
        let left = self.left_on(cores).max(1e-9);
        if self.deadline.is_some_and(|due| self.since + left > due) {
            return None;
        }
        let alternatives = Alternatives::new(&[(left, 1.0)]).ok()?;
        let left = planner::Job::new(job.id(), job.arrival(), job.inputs(), alternatives).ok()?;
        let left = left.with_priority(i32::MAX);
        match self.deadline {
            None => Some(left),
            Some(deadline) => left.with_deadline(deadline).ok(),
        }
    }
}
