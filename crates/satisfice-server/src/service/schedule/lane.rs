//! The queue of one version of a model.

use super::{
    super::{contract::Contract, room::Admission, times::Times},
    forming::Formed,
    fronts::Fronts,
    inputs::Inputs,
    job::{Job, Key, Pending, Reply, Work},
    record::Records,
    refusal::{too_late, too_short, unmeetable, wrong_numbers},
    running::SHORT_MAX,
    task::{Audit, Chosen, LaneId, Model, Task, TaskWork, WholeTask},
    whole::{Options, Whole, audited_share, reported},
};
use satisfice_core::{Error, InferRequest};
use satisfice_planner::{self as planner, CoreTime, Planner};
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
    /// Core time used by what is done, in seconds by share.
    pub virtual_time: f64,
    /// Core seconds that what is executed is predicted to take.
    pub charged: f64,
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
    /// What requests take on all cores that are executed as they are.
    pub(super) times: Times,
    /// What share of that is on one core whatever there are.
    pub(super) serial: Times,
    /// The same over all requests lately: seconds on one core, and all.
    pub(super) pace: (f64, f64),
    /// Cores that executions of it which do not give way have had lately.
    pub(super) taken: f64,
    /// How much longer its executions take lately because of those of others that do not give way.
    slower: f64,
    /// Cores of the machine.
    cores: usize,
    /// Whether an execution spreads over cores.
    pub(super) shares: bool,
    refusals: u32,
}

/// A job of which every input was started.
pub(super) struct Started {
    pub inputs: Box<Inputs>,
    pub reply: Reply,
}

/// What a lane has to offer.
pub(super) enum Head {
    Nothing,
    /// Something, but later: seconds.
    Later(f64),
    Ready(Ready),
}

/// Something that could be executed.
pub(super) struct Ready {
    pub what: What,
    /// Whether it spreads over cores.
    pub shares: bool,
    /// What it takes, where that is known.
    pub time: Option<CoreTime>,
    pub deadline: Option<f64>,
}

pub(super) enum What {
    Whole(Key, usize),
    Batch(Formed),
}

impl Ready {
    /// Whether it is over as soon as others would have given way, as far as is known.
    pub(super) fn is_short(&self) -> bool {
        self.time.is_none_or(|time| time.seconds(1) <= SHORT_MAX)
    }
}

/// The parts of a lane's time that its newest execution makes up.
const NEWEST: f64 = 0.1;

/// When a job in the queue is to be executed.
pub(super) struct Planned {
    pub key: Key,
    /// The alternative chosen.
    pub choice: usize,
    /// In seconds.
    pub start: f64,
}

/// Seconds within which a start is now.
const STARTS_AT: f64 = 1e-6;

/// Time as lanes see it.
#[derive(Clone, Copy)]
pub(super) struct Clock<'a> {
    pub now: Instant,
    pub seconds: f64,
    /// When each executor that the lane may use is predicted to be free; of an engine that shares cores, when it is the
    /// lane's turn.
    pub free: &'a [f64],
    /// What is left of what runs and could give way.
    pub running: &'a [planner::Job],
    /// How much longer work takes that shares cores, because of what does not give way to it.
    pub slower: f64,
    /// Whether a short request would begin at once, whatever waits.
    pub lets_in: bool,
}

impl Lane {
    pub(super) fn new(id: LaneId, model: Model, admission: Admission, cores: usize) -> Self {
        Self {
            shares: model.engine.shares_cores() && model.engine.batching().is_none(),
            id,
            model,
            admission,
            virtual_time: 0.0,
            charged: 0.0,
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
            serial: Times::default(),
            pace: (0.0, 0.0),
            taken: 0.0,
            slower: 1.0,
            cores,
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

    /// What a request of `bytes` bytes takes that takes `seconds` on all cores.
    pub(super) fn time(&self, bytes: usize, seconds: f64) -> CoreTime {
        match self.shares {
            true => CoreTime::on(self.cores, seconds, self.serial.usual(bytes).unwrap_or(0.0)),
            false => CoreTime::new(seconds, 0.0),
        }
    }

    /// A request of `bytes` bytes took so long on one core, and so long on cores that it could share.
    pub(super) fn took(&mut self, bytes: usize, time: CoreTime) {
        let (all, serial) = (time.seconds(self.cores), time.seconds(usize::MAX));
        if all > 0.0 {
            self.serial.observe(bytes, serial / all);
        }
        let (one, of) = &mut self.pace;
        *one += NEWEST * (serial - *one);
        *of += NEWEST * (all - *of);
    }

    /// How many executions of the lane go side by side, on how many cores each, and how much longer each takes than on all,
    /// with `more` than there are.
    pub(super) fn beside(&self, more: usize) -> (usize, usize, f64) {
        if !self.shares {
            return (self.cores, 1, 1.0);
        }
        let (serial, all) = self.pace;
        let share = if all > 0.0 { serial / all } else { 0.0 };
        let time = CoreTime::on(self.cores, 1.0, share);
        let wanted = (self.executing + self.queue.len() + more).max(1);
        let several = wanted.min(self.cores / time.efficient(self.cores));
        let width = (self.cores / several).min(time.useful(self.cores));
        (several, width, time.seconds(width))
    }

    /// Alternatives as long as they take beside others of the lane, and beside what does not give way to it.
    pub(super) fn paced(&self, mut alternatives: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
        let longer = self.longer();
        let times = alternatives.iter_mut();
        times.for_each(|(seconds, _)| *seconds *= longer);
        alternatives
    }

    fn longer(&self) -> f64 {
        match self.shares {
            true => self.beside(1).2 * self.slower,
            false => 1.0,
        }
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
        self.slower = clock.slower;
        let (task, inputs, alternatives) = match work {
            Work::Whole(whole) => {
                let options = whole.options(&contract, self.admission.spare_time, &self.records)?;
                let usual = self.usual(reply.ticket.bytes());
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

    /// The order in which queued jobs run, each with its alternative and when it is to start. Jobs that cannot be on time
    /// are refused.
    pub(super) fn plan(&mut self, clock: Clock<'_>) -> Vec<Planned> {
        let keys: Vec<Key> = self.queue.keys().copied().collect();
        let waiting = self.queue.values().map(|job| &job.planned);
        let jobs: Vec<&planner::Job> = waiting.chain(clock.running).collect();
        let decision = match self.planner.plan(clock.seconds, &jobs, clock.free) {
            Ok(decision) => decision,
            Err(error) => {
                tracing::warn!(model = &*self.model.name, %error, "no plan");
                let start = clock.seconds;
                let planned = |key| Planned {
                    key,
                    choice: 0,
                    start,
                };
                return keys.into_iter().map(planned).collect();
            }
        };
        let waits = |at: &usize| *at < keys.len();
        let chosen = decision.choices.iter().filter(|choice| waits(&choice.job));
        // Among jobs without a deadline the priority decides; positions are in the order of keys.
        let soft = |at: usize| jobs[at].deadline().is_none();
        let mut by_priority: Vec<(usize, usize)> = chosen
            .clone()
            .filter(|choice| soft(choice.job))
            .map(|choice| (choice.job, choice.alternative))
            .collect();
        by_priority.sort_unstable();
        let mut by_priority = by_priority.into_iter();
        let order = chosen
            .map(|choice| {
                let mut place = (choice.job, choice.alternative);
                if soft(place.0) {
                    place = by_priority.next().unwrap_or(place);
                }
                Planned {
                    key: keys[place.0],
                    choice: place.1,
                    start: choice.start,
                }
            })
            .collect();
        // What runs is not refused any more.
        let refused: Vec<Key> = decision
            .refused
            .iter()
            .filter(|&at| waits(at))
            .map(|&at| keys[at])
            .collect();
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

    /// What is to be executed next.
    pub(super) fn next(&mut self, clock: Clock<'_>) -> Head {
        if self.queue.is_empty() {
            return Head::Nothing;
        }
        match &self.fronts {
            Some(fronts) => {
                let fronts = Arc::clone(fronts);
                self.next_batch(&fronts, clock)
            }
            None => self.next_whole(clock).map_or(Head::Nothing, Head::Ready),
        }
    }

    fn next_whole(&mut self, clock: Clock<'_>) -> Option<Ready> {
        if self.demanding == 0 {
            return self.ready(*self.queue.keys().next()?, 0);
        }
        let first = self.plan(clock).into_iter().next()?;
        // What runs may be first.
        let turn = clock.free.iter().copied().fold(clock.seconds, f64::max);
        let waits = !clock.running.is_empty() && first.start > turn + STARTS_AT;
        (!waits).then(|| self.ready(first.key, first.choice))?
    }

    /// A request without a choice that goes before those that were first: a short one, or else the smallest of those
    /// without a deadline.
    pub(super) fn next_small(&self, short: bool) -> Option<Ready> {
        if self.fronts.is_some() {
            return None;
        }
        let small = |(key, job): (&Key, &Job)| {
            let single = job.planned.alternatives().len() == 1;
            let ready = single.then(|| self.ready(*key, 0)).flatten()?;
            let wanted = match short {
                true => ready.is_short(),
                false => ready.deadline.is_none() && ready.time.is_some(),
            };
            wanted.then_some(ready)
        };
        let mut small = self.queue.iter().filter_map(small);
        if short {
            return small.next();
        }
        let seconds = |ready: &Ready| ready.time.map_or(0.0, |time| time.seconds(1));
        small.min_by(|a, b| seconds(a).total_cmp(&seconds(b)))
    }

    fn ready(&self, key: Key, choice: usize) -> Option<Ready> {
        let job = self.queue.get(&key)?;
        let Pending::Whole { options, .. } = &job.task else {
            return None;
        };
        let bytes = job.reply.ticket.bytes();
        let seconds = match options.offers.get(choice) {
            Some(offer) => Some(offer.seconds),
            None => self.times.near(bytes),
        };
        Some(Ready {
            what: What::Whole(key, choice),
            shares: self.shares,
            time: seconds.map(|seconds| self.time(bytes, seconds)),
            deadline: job.planned.deadline(),
        })
    }

    /// Takes out of the queue what is executed now.
    pub(super) fn take(&mut self, what: What) -> Option<Task> {
        match what {
            What::Batch(formed) => {
                let fronts = Arc::clone(self.fronts.as_ref()?);
                Some(self.start_batch(&fronts, formed))
            }
            What::Whole(key, choice) => {
                let job = self.leave(key)?;
                let Pending::Whole { whole, options } = job.task else {
                    return None;
                };
                let chosen = self.chosen(&whole, &options, choice, (&job.contract, job.id));
                let task = self.whole_task(whole.request, chosen, job.reply, job.queued);
                Some(Task {
                    planned: Some((job.planned, job.width)),
                    ..task
                })
            }
        }
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
            None => self.times.near(reply.ticket.bytes()),
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
            planned: None,
            cores: work.cores(),
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
