//! Who is next: one state machine, driven by executors under one lock.

use super::{
    super::{Admission, contract::Contract},
    audit::{Sample, Samples},
    job::{Reply, Work},
    lane::{Clock, Head, Lane},
    outcome::{After, Refronted},
    refusal::shutting_down,
    task::{Done, LaneId, Model, Outcome, Task, TaskWork},
};
use satisfice_core::{Error, InferRequest};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// All queues and what is executed.
pub(super) struct State {
    epoch: Instant,
    executors: usize,
    lanes: BTreeMap<LaneId, Lane>,
    running: Vec<Running>,
    /// Virtual time of the lane that was served last: where one begins that had no work.
    virtual_time: f64,
    samples: Samples,
    next_id: u64,
    closed: bool,
}

struct Running {
    run: u64,
    lane: LaneId,
    /// When it is predicted to end, in seconds.
    end: f64,
    audit: bool,
}

/// What an executor is to do.
pub(super) enum Next {
    Run(Box<Task>),
    /// Sleep until something changes, or until then.
    Sleep(Option<Instant>),
    Stop,
}

impl State {
    pub(super) fn new(executors: usize, now: Instant) -> Self {
        Self {
            epoch: now,
            executors,
            lanes: BTreeMap::new(),
            running: Vec::new(),
            virtual_time: 0.0,
            samples: Samples::default(),
            next_id: 0,
            closed: false,
        }
    }

    fn seconds(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.epoch).as_secs_f64()
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Opens a queue.
    pub(super) fn open(&mut self, model: Model, admission: Admission) -> LaneId {
        let id = self.id();
        self.lanes.insert(id, Lane::new(id, model, admission));
        id
    }

    /// Closes a queue, which is empty: its model is no longer served.
    pub(super) fn close(&mut self, lane: LaneId) {
        self.lanes.remove(&lane);
        self.samples.forget(lane);
    }

    /// Lets executors end.
    pub(super) fn stop(&mut self) {
        self.closed = true;
        self.lanes.clear();
    }

    pub(super) fn lane(&self, lane: LaneId) -> Option<&Lane> {
        self.lanes.get(&lane)
    }

    pub(super) fn lane_mut(&mut self, lane: LaneId) -> Option<&mut Lane> {
        self.lanes.get_mut(&lane)
    }

    /// Queues a job, or says at once why not. Returns what [`Lane::cancel`] knows it by.
    pub(super) fn admit(
        &mut self,
        lane: LaneId,
        work: Work,
        contract: Contract,
        reply: Reply,
        now: Instant,
    ) -> Result<super::job::Key, Error> {
        let id = self.id();
        let free = match contract.deadline {
            Some(_) => self.free(lane, now),
            None => Vec::new(),
        };
        let clock = Clock {
            now,
            seconds: self.seconds(now),
            free: &free,
        };
        self.enter(lane)?.admit(id, work, contract, reply, clock)?;
        Ok((-contract.priority, id))
    }

    /// A lane that is to get work: one that was idle gains nothing on the others by that.
    fn enter(&mut self, lane: LaneId) -> Result<&mut Lane, Error> {
        let lane = self.lanes.get_mut(&lane).ok_or_else(shutting_down)?;
        if lane.is_idle() {
            lane.virtual_time = lane.virtual_time.max(self.virtual_time);
        }
        Ok(lane)
    }

    /// Seconds until what waits in a lane, and what runs, is over.
    pub(super) fn wait(&self, id: LaneId, now: Instant) -> Option<f64> {
        let free = self.free(id, now);
        let running: f64 = free.iter().map(|end| end - self.seconds(now)).sum();
        Some((self.lane(id)?.backlog() + running) / free.len() as f64)
    }

    /// When each executor that the lane may use is predicted to be free: as many as its share of the
    /// server among the lanes that have work, at least one.
    fn free(&self, id: LaneId, now: Instant) -> Vec<f64> {
        let Some(lane) = self.lanes.get(&id) else {
            return Vec::new();
        };
        let others = self
            .lanes
            .values()
            .filter(|other| other.id != id && !other.is_idle());
        let shares: f64 = others.map(|other| other.admission.share).sum();
        let part = lane.admission.share / (lane.admission.share + shares);
        let count = (self.executors as f64 * part).floor() as usize;
        let count = count.clamp(1, lane.admission.executing_max.max(1));
        let now = self.seconds(now);
        let end = |running: &Running| running.end.max(now);
        let of_lane = |running: &&Running| running.lane == id;
        let mut free: Vec<f64> = self.running.iter().filter(of_lane).map(end).collect();
        let mut others: Vec<f64> = self
            .running
            .iter()
            .filter(|running| !of_lane(running))
            .map(end)
            .collect();
        others.resize(self.executors.saturating_sub(free.len()).max(1), now);
        others.sort_by(f64::total_cmp);
        free.sort_by(f64::total_cmp);
        free.extend(others.into_iter().take(count.saturating_sub(free.len())));
        free.truncate(count);
        free
    }

    /// What a free executor is to do: of the lanes with work the one that has used least of its share.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if self.closed {
            return Next::Stop;
        }
        if self.running.len() >= self.executors {
            return Next::Sleep(None);
        }
        let may = |lane: &&Lane| lane.has_work() && lane.may_execute();
        let lanes = self.lanes.values().filter(may);
        let mut order: Vec<(f64, LaneId)> =
            lanes.map(|lane| (lane.virtual_time, lane.id)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let seconds = self.seconds(now);
        let mut wake: Option<f64> = None;
        for (_, id) in order {
            let free = self.free(id, now);
            let clock = Clock {
                now,
                seconds,
                free: &free,
            };
            let Some(lane) = self.lanes.get_mut(&id) else {
                continue;
            };
            match lane.next(clock) {
                Head::Task(task) => return Next::Run(self.begin(task, seconds)),
                Head::Later(until) => wake = Some(wake.map_or(until, |wake| wake.min(until))),
                Head::Nothing => {}
            }
        }
        match self.audit() {
            Some(task) => Next::Run(self.begin(task, seconds)),
            None => Next::Sleep(wake.map(|wake| {
                let left = Duration::try_from_secs_f64(wake - seconds).unwrap_or_default();
                now + left
            })),
        }
    }

    /// Whether a request may be executed by its own thread, without a queue: nothing waits, an executor is idle,
    /// requests like it are brief, there is nothing to choose, and it will be on time.
    pub(super) fn may_be_brief(
        &self,
        lane: LaneId,
        work: &Work,
        contract: &Contract,
        (reply, now): (&Reply, Instant),
    ) -> bool {
        let idle = self.running.len() < self.executors && !self.closed;
        if !idle || !work.is_plain() || contract.minimum.is_some() {
            return false;
        }
        let bytes = reply.ticket.bytes();
        let brief = |lane: &Lane| {
            let left = |deadline: Instant| deadline.saturating_duration_since(now).as_secs_f64();
            lane.times.are_brief(bytes)
                && lane.may_execute()
                && contract
                    .deadline
                    .is_none_or(|deadline| lane.usual(bytes) <= left(deadline))
        };
        self.lane(lane).is_some_and(brief) && !self.lanes.values().any(Lane::has_work)
    }

    /// Such a request in an executor's place.
    pub(super) fn begin_brief(
        &mut self,
        lane: LaneId,
        request: InferRequest,
        reply: Reply,
        now: Instant,
    ) -> Result<Box<Task>, Error> {
        let task = self.enter(lane)?.whole_task(request, None, reply, now);
        let seconds = self.seconds(now);
        Ok(self.begin(Box::new(task), seconds))
    }

    /// Whether an executor would have something to do.
    pub(super) fn has_work(&self) -> bool {
        self.lanes.values().any(Lane::has_work) || !self.samples.is_empty()
    }

    fn begin(&mut self, mut task: Box<Task>, seconds: f64) -> Box<Task> {
        task.run = self.id();
        let predicted = task.predicted.unwrap_or(0.0);
        let audit = matches!(task.work, TaskWork::Audit(_));
        self.running.push(Running {
            run: task.run,
            lane: task.lane,
            end: seconds + predicted,
            audit,
        });
        if let Some(lane) = self.lanes.get_mut(&task.lane) {
            lane.executing += 1;
            if !audit {
                self.virtual_time = self.virtual_time.max(lane.virtual_time);
                lane.virtual_time += predicted / lane.admission.share;
            }
        }
        task
    }

    /// An answer to make again, if nothing else waits and another executor stays free for what may
    /// come.
    fn audit(&mut self) -> Option<Box<Task>> {
        let busy = self.lanes.values().any(Lane::has_work);
        let spare = self.running.len() + 1 < self.executors;
        let audits = self.running.iter().any(|running| running.audit);
        if busy || !spare || audits {
            return None;
        }
        let (lane, sample) = self.samples.take()?;
        let lane = self.lanes.get(&lane)?;
        Some(Box::new(lane.task(None, TaskWork::Audit(sample))))
    }

    /// Takes in what came of a task.
    pub(super) fn finish(&mut self, done: Done) -> After {
        let Done {
            lane,
            run,
            seconds,
            predicted,
            outcome,
        } = done;
        self.running.retain(|running| running.run != run);
        let Some(lane) = self.lanes.get_mut(&lane) else {
            return After::default();
        };
        lane.executing -= 1;
        if !matches!(outcome, Outcome::Audit(_)) {
            lane.virtual_time += (seconds - predicted.unwrap_or(0.0)) / lane.admission.share;
        }
        lane.take_in(outcome, seconds)
    }

    /// Keeps an answer to audit, if there is room.
    pub(super) fn keep(&mut self, lane: LaneId, sample: Sample) {
        if self.lanes.contains_key(&lane) {
            self.samples.keep(lane, sample);
        }
    }

    pub(super) fn refronted(&mut self, lane: LaneId, new: Refronted) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.refronted(new);
        }
    }
}
