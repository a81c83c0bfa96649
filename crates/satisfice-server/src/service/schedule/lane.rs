//! The queue of one version of a model.

use super::{
    super::{contract::Contract, room::Admission, times::Times},
    fronts::Fronts,
    inputs::Inputs,
    job::{Job, Key, Pending, Reply, Work},
    record::Records,
    refusal::{too_late, too_short, unmeetable, wrong_numbers},
    task::{Audit, Chosen, LaneId, Model, Task, TaskWork, WholeTask},
    whole::{Options, Whole, audited_share, reported},
};
use satisfice_core::{Error, InferRequest};
use satisfice_planner::{self as planner, Planner};
use std::{collections::BTreeMap, sync::Arc, time::Instant};

/// Stands for a time of which nothing is known, in seconds.
const UNKNOWN: f64 = 1e-9;

/// Of so many requests in a row that are refused because even an idle server is predicted to be too
/// slow for them, one is executed: the prediction may be wrong, and would never be known to be.
const REFUSALS_PER_PROBE: u32 = 16;

/// The queue with what is known of the model.
pub(super) struct Lane {
    pub id: LaneId,
    pub model: Model,
    pub admission: Admission,
    /// Executor time used so far, in seconds by share.
    pub virtual_time: f64,
    /// Tasks that are executed.
    pub executing: usize,
    pub records: Records,
    /// Of an engine that batches.
    pub fronts: Option<Arc<Fronts>>,
    /// Seconds that batches have to take until fronts are looked at whether they are stale.
    pub(super) fronts_due: f64,
    /// Jobs of which something is still to be started.
    pub(super) queue: BTreeMap<Key, Job>,
    /// Jobs of which everything was started and something is not yet answered.
    pub(super) started: BTreeMap<Key, Started>,
    /// Queued jobs that the planner has a say in.
    demanding: usize,
    /// Seconds that the queued jobs take at least.
    backlog: f64,
    planner: Planner,
    /// What requests take that are executed as they are.
    pub(super) times: Times,
    refusals: u32,
}

/// A job of which every input was started.
pub(super) struct Started {
    pub inputs: Box<Inputs>,
    pub reply: Reply,
}

/// What a lane has to offer to a free executor.
pub(super) enum Head {
    Nothing,
    /// Something, but later: seconds.
    Later(f64),
    Task(Box<Task>),
}

/// Time as lanes see it.
#[derive(Clone, Copy)]
pub(super) struct Clock<'a> {
    pub now: Instant,
    pub seconds: f64,
    /// When each executor that the lane may use is predicted to be free.
    pub free: &'a [f64],
}

impl Lane {
    pub(super) fn new(id: LaneId, model: Model, admission: Admission) -> Self {
        Self {
            id,
            model,
            admission,
            virtual_time: 0.0,
            executing: 0,
            records: Records::default(),
            fronts: None,
            fronts_due: 0.0,
            queue: BTreeMap::new(),
            started: BTreeMap::new(),
            demanding: 0,
            backlog: 0.0,
            planner: Planner::default(),
            times: Times::default(),
            refusals: 0,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.executing == 0 && self.queue.is_empty()
    }

    pub(super) fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Jobs of which something was not started.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Seconds that a request of `bytes` bytes takes which is executed as it is.
    pub(super) fn usual(&self, bytes: usize) -> f64 {
        self.times.usual(bytes).unwrap_or(UNKNOWN)
    }

    /// Seconds that the queued jobs take at least.
    pub(super) fn backlog(&self) -> f64 {
        self.backlog
    }

    /// Queues a job, or says at once why not.
    pub(super) fn admit(
        &mut self,
        id: u64,
        work: Work,
        contract: Contract,
        reply: Reply,
        clock: Clock<'_>,
    ) -> Result<(), Error> {
        let (task, inputs, alternatives) = match work {
            Work::Whole(whole) => {
                let options = whole.options(&contract, self.admission.spare_time, &self.records)?;
                let usual = self.usual(reply.ticket.bytes());
                let alternatives = options.alternatives(&contract, usual);
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
            contract,
            reply,
            queued: clock.now,
            task,
            planned,
        };
        if let Some(deadline) = contract.deadline {
            self.check_alone(&mut job, deadline, clock)?;
        }
        let has_deadline = job.planned.deadline().is_some();
        self.enqueue(job);
        if has_deadline {
            self.plan(clock);
        }
        Ok(())
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
        let seconds = job.planned.alternatives().cheapest_seconds();
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

    /// The order in which queued jobs run, each with its alternative. Jobs that cannot be on time are
    /// refused.
    pub(super) fn plan(&mut self, clock: Clock<'_>) -> Vec<(Key, usize)> {
        let keys: Vec<Key> = self.queue.keys().copied().collect();
        let jobs: Vec<&planner::Job> = self.queue.values().map(|job| &job.planned).collect();
        let decision = match self.planner.plan(clock.seconds, &jobs, clock.free) {
            Ok(decision) => decision,
            Err(error) => {
                tracing::warn!(model = &*self.model.name, %error, "no plan");
                return keys.into_iter().map(|key| (key, 0)).collect();
            }
        };
        let soft = |at: usize| jobs[at].deadline().is_none();
        let mut order: Vec<(usize, usize)> = decision
            .choices
            .iter()
            .map(|choice| (choice.job, choice.alternative))
            .collect();
        // Among jobs without a deadline the priority decides; positions are in the order of keys.
        let mut by_priority: Vec<(usize, usize)> =
            order.iter().copied().filter(|&(at, _)| soft(at)).collect();
        by_priority.sort_unstable();
        let mut by_priority = by_priority.into_iter();
        for place in &mut order {
            if soft(place.0) {
                *place = by_priority.next().unwrap_or(*place);
            }
        }
        let order = order
            .into_iter()
            .map(|(at, choice)| (keys[at], choice))
            .collect();
        let refused: Vec<Key> = decision.refused.iter().map(|&at| keys[at]).collect();
        let wait = self.backlog() / clock.free.len() as f64;
        for key in refused {
            if let Some(job) = self.leave(key) {
                let passed = job
                    .contract
                    .deadline
                    .is_some_and(|deadline| deadline <= clock.now);
                let error = match passed {
                    true => too_late(),
                    false => unmeetable(wait),
                };
                job.reply.send(Err(error));
            }
        }
        order
    }

    pub(super) fn enqueue(&mut self, job: Job) {
        self.demanding += usize::from(job.is_demanding());
        self.backlog += job.planned.alternatives().cheapest_seconds();
        self.queue.insert(job.key(), job);
    }

    /// Takes a job out of the queue.
    pub(super) fn leave(&mut self, key: Key) -> Option<Job> {
        let job = self.queue.remove(&key)?;
        self.demanding -= usize::from(job.is_demanding());
        let left = self.backlog - job.planned.alternatives().cheapest_seconds();
        // What rounding leaves of an empty queue is no work.
        self.backlog = match self.queue.is_empty() {
            true => 0.0,
            false => left.max(0.0),
        };
        Some(job)
    }

    /// Lets go of what is left of a job that nobody waits for.
    pub(super) fn cancel(&mut self, key: Key) {
        self.leave(key);
        self.started.remove(&key);
    }

    /// What a free executor is to do.
    pub(super) fn next(&mut self, clock: Clock<'_>) -> Head {
        if self.queue.is_empty() {
            return Head::Nothing;
        }
        match &self.fronts {
            Some(fronts) => {
                let fronts = Arc::clone(fronts);
                self.next_batch(&fronts, clock)
            }
            None => self
                .next_whole(clock)
                .map_or(Head::Nothing, |task| Head::Task(Box::new(task))),
        }
    }

    fn next_whole(&mut self, clock: Clock<'_>) -> Option<Task> {
        let (key, choice) = match self.demanding {
            0 => (*self.queue.keys().next()?, 0),
            _ => *self.plan(clock).first()?,
        };
        let job = self.leave(key)?;
        let Pending::Whole { whole, options } = job.task else {
            return None;
        };
        let chosen = self.chosen(&whole, &options, choice, (&job.contract, job.id));
        Some(self.whole_task(whole.request, chosen, job.reply, job.queued))
    }

    /// A request to be executed whole, by the plan that was chosen or as it is.
    pub(super) fn whole_task(
        &self,
        request: InferRequest,
        chosen: Option<Chosen>,
        reply: Reply,
        queued: Instant,
    ) -> Task {
        let predicted = match &chosen {
            Some(chosen) => Some(chosen.offer.seconds),
            None => self.times.usual(reply.ticket.bytes()),
        };
        let whole = WholeTask {
            request,
            chosen,
            reply,
            queued,
        };
        self.task(predicted, TaskWork::Whole(whole))
    }

    /// Whether another execution may begin.
    pub(super) fn may_execute(&self) -> bool {
        self.executing < self.admission.executing_max.max(1)
    }

    fn chosen(
        &self,
        whole: &Whole,
        options: &Options,
        choice: usize,
        job: (&Contract, u64),
    ) -> Option<Chosen> {
        let (contract, id) = job;
        let offer = options.offers.get(choice)?.clone();
        let measure = contract.minimum.map(|minimum| minimum.measure);
        let promised = audited_share(&offer, options.dearest.as_ref());
        let audit = promised
            .filter(|_| self.is_sampled(id))
            .and_then(|promised| {
                let dearest = options.dearest.as_ref()?.plan.clone();
                Some(Audit { dearest, promised })
            });
        Some(Chosen {
            profiled_seconds: whole.profiled_seconds(&offer.plan)?,
            quality: reported(&offer, measure),
            offer,
            audit,
        })
    }

    /// Whether the job with this id is to be audited: by its id alone, spread evenly.
    pub(super) fn is_sampled(&self, id: u64) -> bool {
        let scrambled = id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11;
        (scrambled as f64) < self.admission.audit_share * (1_u64 << 53) as f64
    }

    pub(super) fn task(&self, predicted: Option<f64>, work: TaskWork) -> Task {
        Task {
            lane: self.id,
            run: 0,
            model: self.model.clone(),
            predicted,
            work,
        }
    }
}

/// (seconds, value) of what may be chosen for a job of inputs.
pub(super) fn alternatives(inputs: &Inputs) -> Vec<(f64, f64)> {
    let mixes = inputs.mixes().iter();
    mixes.map(|mix| (mix.seconds, mix.accuracy)).collect()
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
        Some(deadline) => {
            let left = deadline.saturating_duration_since(clock.now);
            job.with_deadline(clock.seconds + left.as_secs_f64())
        }
    }
}
