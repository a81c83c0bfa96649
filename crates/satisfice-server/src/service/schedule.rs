//! When requests are executed, in which batches and by which plans.
//!
//! Executors are threads; each asks the [`State`] under its lock what is next, and executes it off the
//! lock, on the cores that the state grants it meanwhile. There are more threads than cores: those of executions that
//! give way sleep. A request waits in the queue of its model until it is answered, refused, late, or nobody waits
//! for it any more. Where nothing waits and requests are brief, waking an executor and being woken again
//! would take longer than they do: the thread that brings such a request takes the place of an executor.

mod admit;
mod audit;
mod brief;
mod explain;
mod floor;
mod forming;
mod fronts;
mod inputs;
mod job;
mod lane;
mod outcome;
mod pace;
mod record;
mod refusal;
mod running;
mod state;
mod task;
mod turns;
mod whole;

#[cfg(test)]
mod tests;

pub(crate) use brief::BriefTurns;
pub(super) use floor::Asked;
pub(super) use fronts::Fronts;
pub(super) use inputs::Inputs;
pub(super) use job::{Submission, Work};
pub use record::PlanAudit;
pub(super) use task::{LaneId, guarded};
pub(super) use whole::{Whole, plan_named};

use super::{Admission, Stats, contract::Contract};
use brief::BriefTurn;
use job::{Key, Reply};
use outcome::After;
use record::Records;
use refusal::shutting_down;
pub(super) use refusal::too_late;
use satisfice_core::{Engine, Error, InferRequest, InferResponse, Offer};
use state::{Next, State};
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use task::{Model, Task};
use tokio::sync::oneshot;
use turns::BESIDE_MAX;

/// Executors of a server at most.
const EXECUTORS_MAX: usize = 64;

/// The executors with their queues. When it is dropped they end after what they execute.
pub(super) struct Scheduler {
    shared: Arc<Shared>,
    executors: usize,
    brief: BriefTurns,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

impl Scheduler {
    /// Starts the executors, at least one.
    pub(super) fn start(executors: usize) -> Self {
        let executors = executors.clamp(1, EXECUTORS_MAX);
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(executors, Instant::now())),
            wake: Condvar::new(),
        });
        // One more looks whose turn it is.
        for at in 0..=executors + BESIDE_MAX {
            let shared = Arc::clone(&shared);
            let name = format!("executor-{at}");
            let spawned = std::thread::Builder::new()
                .name(name)
                .spawn(move || shared.execute(executors));
            spawned.expect("invariant: the system has threads for the executors");
        }
        Self {
            shared,
            executors,
            brief: BriefTurns::start(),
        }
    }

    /// Opens the queue of a model.
    pub(super) fn open(
        &self,
        name: &Arc<str>,
        engine: Arc<dyn Engine>,
        stats: Arc<Stats>,
        admission: Admission,
    ) -> LaneId {
        let fronts = engine.batching().and_then(|batching| {
            let delay = admission.batch_delay;
            let strategies = batching.strategies();
            let fronts = Fronts::new(strategies, &Records::default(), delay, self.executors);
            let built = fronts.and_then(|fronts| {
                let every: Vec<usize> = (0..strategies.len()).collect();
                fronts.table(None, &every, 1)?;
                Ok(Arc::new(fronts))
            });
            let warn = |error: &_| {
                tracing::warn!(model = &**name, %error, "the model's strategies cannot be planned with, requests are not batched");
            };
            built.inspect_err(warn).ok()
        });
        let model = Model {
            name: Arc::clone(name),
            engine,
            stats,
        };
        let admission = Admission {
            share: match admission.share.is_finite() && admission.share > 0.0 {
                true => admission.share,
                false => 1.0,
            },
            ..admission
        };
        let mut state = self.shared.lock();
        let id = state.open(model, admission);
        if let Some(lane) = state.lane_mut(id) {
            lane.fronts = fronts;
        }
        id
    }

    /// The turns that engines have on async threads.
    pub(super) fn brief_turns(&self) -> &BriefTurns {
        &self.brief
    }

    /// Closes the queue of a model that nobody asks any more.
    pub(super) fn close(&self, lane: LaneId) {
        self.shared.lock().close(lane);
    }

    /// The strategies of an engine that batches, as they are now known.
    pub(super) fn fronts(&self, lane: LaneId) -> Option<Arc<Fronts>> {
        self.shared.lock().lane(lane)?.fronts.clone()
    }

    /// Requests of which something was not started.
    pub(super) fn waiting(&self, lane: LaneId) -> usize {
        self.shared.lock().lane(lane).map_or(0, lane::Lane::waiting)
    }

    /// How long what now waits in a queue is predicted to take.
    pub(super) fn wait(&self, lane: LaneId) -> Duration {
        let wait = self.shared.lock().wait(lane, Instant::now());
        Duration::try_from_secs_f64(wait.unwrap_or(0.0)).unwrap_or_default()
    }

    /// What audits say of the model's plans.
    pub(super) fn audits(&self, lane: LaneId) -> Vec<PlanAudit> {
        let state = self.shared.lock();
        state
            .lane(lane)
            .map_or_else(Vec::new, |lane| lane.records.audits())
    }

    /// The offers with times and qualities as they are now known.
    pub(super) fn known(&self, lane: LaneId, offers: Vec<Offer>) -> Vec<Offer> {
        let whole = Whole {
            request: InferRequest::default(),
            offers,
        };
        match self.shared.lock().lane(lane) {
            Some(lane) => whole.known(&lane.records),
            None => whole.offers,
        }
    }

    /// Gives a request an executor's place on this thread where it may have one; queues it elsewhere.
    fn begin(
        &self,
        lane: LaneId,
        work: Work,
        contract: Contract,
        reply: Reply,
    ) -> Result<Begun<'_>, Error> {
        let (mut state, now) = (self.shared.lock(), Instant::now());
        let brief = state.may_be_brief(lane, &work, &contract, (&reply, now));
        let turn = brief.then(|| self.brief.begin()).flatten();
        match (work, turn) {
            (Work::Whole(whole), Some(turn)) => {
                let task = state.begin_brief(lane, whole.request, reply, now)?;
                Ok(Begun::Here(task, turn))
            }
            (work, _) => {
                let key = state.admit(lane, work, contract, reply, now)?;
                Ok(Begun::Queued(key))
            }
        }
    }

    /// Refuses a request that is certain to be late: what others need first leaves no time for it.
    pub(super) fn check_time(&self, lane: LaneId, asked: Asked<'_>) -> Result<(), Error> {
        match asked.contract.deadline {
            Some(_) => self.shared.lock().check_time(lane, asked, Instant::now()),
            None => Ok(()),
        }
    }

    /// Waits for the answer. Dropping the future takes back what was not started.
    pub(super) async fn answer(
        &self,
        lane: LaneId,
        submission: Submission,
    ) -> Result<InferResponse, Error> {
        let Submission {
            work,
            contract,
            ticket,
            record,
        } = submission;
        let (sender, answer) = oneshot::channel();
        let deadline = contract.deadline;
        let reply = Reply {
            sender,
            ticket,
            deadline,
            record,
        };
        let key = match self.begin(lane, work, contract, reply)? {
            Begun::Here(task, turn) => {
                self.shared.run_here(*task, turn, self.executors);
                return answer.await.unwrap_or_else(|_| Err(shutting_down()));
            }
            Begun::Queued(key) => key,
        };
        self.shared.wake.notify_one();
        let mut waiting = Waiting {
            shared: &self.shared,
            lane,
            key,
            answered: false,
        };
        let answer = match deadline {
            None => answer.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), answer)
                .await
                .map_err(|_| too_late())?,
        };
        waiting.answered = true;
        answer.unwrap_or_else(|_| Err(shutting_down()))
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.shared.lock().stop();
        self.shared.wake.notify_all();
    }
}

/// What was begun with a request.
enum Begun<'a> {
    /// This thread executes it.
    Here(Box<Task>, BriefTurn<'a>),
    Queued(Key),
}

/// A request that waits; dropping it takes back what was not started.
struct Waiting<'a> {
    shared: &'a Shared,
    lane: LaneId,
    key: Key,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        if let Some(lane) = self.shared.lock().lane_mut(self.lane) {
            lane.cancel(self.key);
        }
    }
}

impl Shared {
    /// Nothing that is done under the lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of an executor.
    fn execute(&self, executors: usize) {
        let mut state = self.lock();
        loop {
            match state.next(Instant::now()) {
                Next::Stop => return,
                Next::Run(task) => {
                    let looks = state.is_to_be_watched();
                    drop(state);
                    if looks {
                        self.wake.notify_one();
                    }
                    state = self.run(*task, executors);
                }
                Next::Sleep(until) => state = self.sleep(state, until),
            }
        }
    }

    /// Sleeps until there is something to look at; one of all that sleep looks at the time.
    fn sleep<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        let watched = state.watched;
        let Some(until) = until.filter(|until| watched.is_none_or(|watched| watched > *until))
        else {
            let woken = self.wake.wait(state);
            return woken.unwrap_or_else(PoisonError::into_inner);
        };
        state.watched = Some(until);
        let left = until.saturating_duration_since(Instant::now());
        let woken = self.wake.wait_timeout(state, left);
        state = woken.unwrap_or_else(PoisonError::into_inner).0;
        state.watched = None;
        state
    }

    /// Executes on the thread of who asks, in the place of an executor.
    fn run_here(&self, task: Task, turn: BriefTurn<'_>, executors: usize) {
        let state = self.run(task, executors);
        drop(turn);
        let wanted = state.has_work();
        drop(state);
        if wanted {
            self.wake.notify_one();
        }
    }

    fn run(&self, task: Task, executors: usize) -> MutexGuard<'_, State> {
        let (id, model) = (task.lane, task.model.clone());
        let done = task.run();
        let mut state = self.lock();
        let After {
            ready,
            sample,
            refront,
        } = state.finish(done, Instant::now());
        let delay = state.lane(id).map(|lane| lane.admission.batch_delay);
        if ready.is_empty() && refront.is_none() {
            if let Some(sample) = sample {
                state.keep(id, sample);
            }
            return state;
        }
        drop(state);
        let samples = ready.into_iter().filter_map(outcome::Ready::send);
        let samples: Vec<_> = samples.chain(sample).collect();
        let new = refront.and_then(|refront| refront.build(&model, delay?, executors));
        let mut state = self.lock();
        samples
            .into_iter()
            .for_each(|sample| state.keep(id, sample));
        if let Some(new) = new {
            state.refronted(id, new);
        }
        state
    }
}
