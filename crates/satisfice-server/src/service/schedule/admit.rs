//! Which requests a lane takes on.

use super::{
    super::contract::Contract,
    floor::Asked,
    job::{CERTAIN, Job, Pending, Reply, Work},
    lane::{Clock, Lane, Plan, alternatives},
    refusal::{too_late, too_short, unmeetable, wrong_numbers},
    running::SHORT_MAX,
    whole::plan_named,
};
use satisfice_core::Error;
use satisfice_planner as planner;
use std::time::Instant;

/// Of so many requests in a row that are refused because even an idle server is predicted to be too
/// slow for them, one is executed: the prediction may be wrong, and would never be known to be.
const REFUSALS_PER_PROBE: u32 = 16;

/// How many times as long as a request's another's time may be, and it still is no better to answer that one.
const ALIKE: f64 = 1.5;

impl Lane {
    /// Queues a job, or says at once why not.
    pub(super) fn admit(
        &mut self,
        id: u64,
        work: Work,
        contract: Contract,
        reply: Reply,
        clock: Clock<'_>,
    ) -> Result<(), Error> {
        self.slower = clock.slower;
        let (task, inputs, alternatives) = match work {
            Work::Whole(whole) => {
                let options = whole.options(&contract, self.admission.spare_time, &self.records)?;
                let usual = self.usual(reply.ticket.bytes());
                let known = self.times.near(reply.ticket.bytes());
                if let Some(seconds) = options.cheapest_seconds().or(known) {
                    self.floors.observe(
                        plan_named(&whole.request.parameters),
                        reply.ticket.bytes(),
                        seconds,
                    );
                }
                let alternatives = self.paced(options.alternatives(&contract, usual));
                (Pending::Whole { whole, options }, 1, alternatives)
            }
            Work::Inputs(inputs) => {
                let inputs = Box::new(inputs.begun_at(id));
                let (count, alternatives) = (inputs.waiting(), alternatives(&inputs));
                (Pending::Inputs(inputs), count, alternatives)
            }
        };
        let planned =
            planned(id, inputs, &alternatives, &contract, clock).map_err(wrong_numbers)?;
        let mut job = Job {
            id,
            width: self.beside(1).1,
            contract,
            reply,
            queued: clock.now,
            task,
            planned,
        };
        if let Some(deadline) = contract.deadline {
            self.check_alone(&mut job, deadline, clock)?;
        }
        let planned = job.planned.deadline().is_some();
        let key = job.key();
        self.enqueue(job);
        let begins = clock.lets_in && self.ready(key, 0).is_some_and(|ready| ready.is_short());
        if planned && !begins {
            let Plan { late, .. } = self.plan(clock);
            self.refuse(late, clock);
        }
        Ok(())
    }

    /// Seconds that a request takes at least on one of the executions that go side by side, where that is known and it
    /// would wait for others.
    pub(super) fn floor(&self, asked: Asked<'_>) -> Option<f64> {
        let floor = self.floors.of(asked.plan, asked.bytes)?;
        let short = self.time(asked.bytes, floor).seconds(1) <= SHORT_MAX;
        (self.shares && !short).then(|| CERTAIN * floor * self.beside(1).2)
    }

    /// Refuses a request that takes `floor` seconds at least, where others of no lower priority that are due before it
    /// leave it no time. Those that take far longer do not count: they might be refused in its place.
    pub(super) fn check_time(
        &self,
        floor: f64,
        contract: &Contract,
        clock: Clock<'_>,
    ) -> Result<(), Error> {
        let Some(deadline) = contract.deadline else {
            return Ok(());
        };
        let deadline = clock.at(deadline);
        let least = |job: &planner::Job| job.alternatives().cheapest_seconds();
        let running: f64 = clock.running.iter().map(least).sum();
        let waiting = self.queue.values().map(|job| &job.planned);
        let waiting = waiting.filter(|job| {
            let due = job.deadline().is_some_and(|due| due <= deadline);
            due && job.priority() >= contract.priority && CERTAIN * least(job) <= ALIKE * floor
        });
        let waiting: f64 = waiting.map(|job| CERTAIN * least(job)).sum();
        let (free, several) = (clock.free, clock.free.len() as f64);
        let start = free.iter().copied().fold(f64::INFINITY, f64::min);
        let start = start + (running + waiting) / several;
        if start + floor <= deadline {
            return Ok(());
        }
        Err(unmeetable(self.backlog() / several))
    }

    /// Refuses a job that would be late on an idle server; now and then one is let through without
    /// its deadline.
    fn check_alone(
        &mut self,
        job: &mut Job,
        deadline: Instant,
        clock: Clock<'_>,
    ) -> Result<(), Error> {
        let left = deadline.saturating_duration_since(clock.now);
        if left.is_zero() {
            return Err(too_late());
        }
        let seconds = job.planned.alternatives().cheapest_seconds() / self.longer();
        if seconds <= left.as_secs_f64() {
            return Ok(());
        }
        self.refusals += 1;
        if self.refusals < REFUSALS_PER_PROBE || !self.is_idle() {
            return Err(too_short(seconds, left));
        }
        self.refusals = 0;
        if let Pending::Whole { options, .. } = &mut job.task {
            options.keep_cheapest();
        }
        let without = Contract {
            deadline: None,
            ..job.contract
        };
        if let Ok(planned) = planned(
            job.id,
            job.planned.inputs(),
            &[(seconds, 0.0)],
            &without,
            clock,
        ) {
            job.planned = planned;
        }
        Ok(())
    }
}

/// A job as the planner sees it.
fn planned(
    id: u64,
    inputs: usize,
    alternatives: &[(f64, f64)],
    contract: &Contract,
    clock: Clock<'_>,
) -> Result<planner::Job, planner::Error> {
    let alternatives = planner::Alternatives::new(alternatives)?;
    let job = planner::Job::new(id, clock.seconds, inputs, alternatives)?;
    let job = job.with_priority(contract.priority);
    match contract.deadline {
        None => Ok(job),
        Some(deadline) => job.with_deadline(clock.at(deadline)),
    }
}
