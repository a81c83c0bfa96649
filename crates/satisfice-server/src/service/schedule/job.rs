//! Jobs that wait for an executor.

use super::{
    super::{contract::Contract, room::Ticket},
    inputs::Inputs,
    whole::{Options, Whole},
};
use crate::Record;
use satisfice_core::{Error, InferResponse, parameters::DEADLINE_LEFT_MS};
use satisfice_planner as planner;
use std::{sync::Arc, time::Instant};
use tokio::sync::oneshot;

/// What a job is.
pub(in super::super) enum Work {
    /// One request, executed whole.
    Whole(Whole),
    /// A request that is cut into inputs.
    Inputs(Box<Inputs>),
}

impl Work {
    /// Whether it is executed as it is: there is nothing to choose.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Self::Whole(whole) if whole.offers.is_empty())
    }
}

/// A request as it is handed in.
pub(in super::super) struct Submission {
    pub work: Work,
    pub contract: Contract,
    pub ticket: Ticket,
    pub record: Arc<Record>,
}

pub(super) type Answer = Result<InferResponse, Error>;

/// Where an answer goes. The place in the queue is given back before the answer is seen.
pub(super) struct Reply {
    pub sender: oneshot::Sender<Answer>,
    pub ticket: Ticket,
    pub deadline: Option<Instant>,
    pub record: Arc<Record>,
}

impl Reply {
    /// Sends the answer, with what is left of the deadline.
    pub(super) fn send(self, mut answer: Answer) {
        if let (Ok(response), Some(deadline)) = (&mut answer, self.deadline) {
            let now = Instant::now();
            let left = match deadline.checked_duration_since(now) {
                Some(left) => left.as_secs_f64(),
                None => -now.duration_since(deadline).as_secs_f64(),
            };
            let parameters = &mut response.parameters;
            parameters.insert(DEADLINE_LEFT_MS.to_owned(), (left * 1e3).into());
        }
        drop(self.ticket);
        // Nobody may be waiting any more.
        let _ = self.sender.send(answer);
    }
}

/// Place in the queue: the higher priority first, then the earlier arrival.
pub(super) type Key = (i32, u64);

/// Share of a predicted time that something is certain to take.
pub(super) const CERTAIN: f64 = 0.8;

/// One job in the queue.
pub(super) struct Job {
    pub id: u64,
    pub contract: Contract,
    pub reply: Reply,
    pub queued: Instant,
    pub task: Pending,
    /// Cores that its times are planned with.
    pub width: usize,
    /// As the planner sees it: deadline, times and values of what may be chosen.
    pub planned: planner::Job,
}

/// What is still to be done.
pub(super) enum Pending {
    Whole { whole: Whole, options: Options },
    Inputs(Box<Inputs>),
}

impl Job {
    pub(super) fn key(&self) -> Key {
        (-self.contract.priority, self.id)
    }

    /// Whether the planner has a say: there is a deadline, or a choice.
    pub(super) fn is_demanding(&self) -> bool {
        self.planned.deadline().is_some() || self.planned.alternatives().len() > 1
    }

    /// Whether it is certain to be late even if it begins now; its times are `longer` times those on an idle machine.
    pub(super) fn is_hopeless(&self, now: f64, longer: f64) -> bool {
        let least = CERTAIN * self.planned.alternatives().cheapest_seconds() / longer;
        self.planned
            .deadline()
            .is_some_and(|deadline| now + least > deadline)
    }

    /// The planner's view of mixes or offers that have changed; nothing changes where they are no
    /// numbers to plan with.
    pub(super) fn replan(&mut self, inputs: usize, alternatives: &[(f64, f64)]) {
        let job = planner::Alternatives::new(alternatives).and_then(|alternatives| {
            let job = planner::Job::new(self.id, self.planned.arrival(), inputs, alternatives)?;
            let job = job.with_priority(self.planned.priority());
            match self.planned.deadline() {
                Some(deadline) => job.with_deadline(deadline),
                None => Ok(job),
            }
        });
        if let Ok(job) = job {
            self.planned = job;
        }
    }
}
