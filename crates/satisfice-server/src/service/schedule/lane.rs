//! The queue of one version of a model.

use super::{
    super::{contract::Contract, room::Admission, times::Times},
    explain::Explanation,
    floor::Floors,
    forming::Formed,
    fronts::Fronts,
    inputs::Inputs,
    job::{Job, Key, Pending, Reply},
    record::Records,
    refusal::{too_late, unmeetable},
    running::SHORT_MAX,
    task::{Audit, Chosen, LaneId, Model, Task, TaskWork, WholeTask},
    whole::{Options, Whole, audited_share, reported},
};
use satisfice_core::InferRequest;
use satisfice_planner::{self as planner, CoreTime, Planner};
use std::{collections::BTreeMap, sync::Arc, time::Instant};

/// Stands for a time of which nothing is known, in seconds.
const UNKNOWN: f64 = 1e-9;

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
    /// What requests with plans to choose from take at least on all cores.
    pub(super) floors: Floors,
    /// The same over all requests lately: seconds on one core, and all.
    pub(super) pace: (f64, f64),
    /// How far executions lately were from their predicted times: the mean of the logarithm's size.
    pub(super) astray: f64,
    /// Cores that executions of it which do not give way have had lately.
    pub(super) taken: f64,
    /// How much longer its executions take lately because of those of others that do not give way.
    pub(super) slower: f64,
    /// Cores of the machine.
    pub(super) cores: usize,
    /// Whether an execution spreads over cores.
    pub(super) shares: bool,
    pub(super) refusals: u32,
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

/// When a job in the queue is to be executed.
pub(super) struct Planned {
    pub key: Key,
    /// The alternative chosen.
    pub choice: usize,
    /// In seconds.
    pub start: f64,
}

/// What becomes of the jobs in a queue.
pub(super) struct Plan {
    /// By start.
    pub order: Vec<Planned>,
    /// Those that cannot be on time beside the others.
    pub late: Vec<Key>,
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

impl Clock<'_> {
    /// An instant in seconds; what has passed is now.
    pub(super) fn at(&self, instant: Instant) -> f64 {
        self.seconds + instant.saturating_duration_since(self.now).as_secs_f64()
    }
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
            floors: Floors::default(),
            pace: (0.0, 0.0),
            astray: 0.0,
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

    /// The order in which queued jobs are to run. What cannot be on time is refused, where that is certain: what runs may
    /// be over sooner than is predicted, and a job that waits costs nothing.
    pub(super) fn order(&mut self, clock: Clock<'_>) -> Vec<Planned> {
        let Plan { order, mut late } = self.plan(clock);
        let turn = clock.running.is_empty() && clock.free.iter().any(|&at| at <= clock.seconds);
        if !turn {
            let longer = self.longer();
            late.retain(|key| {
                let job = self.queue.get(key);
                job.is_some_and(|job| job.is_hopeless(clock.seconds, longer))
            });
        }
        self.refuse(late, clock);
        order
    }

    /// What becomes of the queued jobs.
    pub(super) fn plan(&mut self, clock: Clock<'_>) -> Plan {
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
                return Plan {
                    order: keys.into_iter().map(planned).collect(),
                    late: Vec::new(),
                };
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
        let late = decision.refused.iter().filter(|&at| waits(at));
        let late = late.map(|&at| keys[at]).collect();
        Plan { order, late }
    }

    pub(super) fn refuse(&mut self, jobs: Vec<Key>, clock: Clock<'_>) {
        let wait = self.backlog() / clock.free.len() as f64;
        for key in jobs {
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
        let first = self.order(clock).into_iter().next()?;
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

    pub(super) fn ready(&self, key: Key, choice: usize) -> Option<Ready> {
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
                let tried = job.contract.deadline.is_some() && job.planned.deadline().is_none();
                let explanation = job.contract.explain.then(|| {
                    let contract = (job.contract, self.admission.spare_time);
                    let offers = whole.known(&self.records);
                    Box::new(Explanation::whole(
                        &whole.request,
                        contract,
                        offers,
                        tried,
                        job.queued,
                    ))
                });
                let task = self.whole_task(whole.request, chosen, job.reply, job.queued);
                let task = task.explained(explanation);
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
            explanation: None,
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
