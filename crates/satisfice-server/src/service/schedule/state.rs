//! Who is next, and on how many cores: one state machine, driven by executors under one lock.

use super::{
    super::{Admission, contract::Contract},
    audit::{Sample, Samples},
    floor::Asked,
    job::{Reply, Work},
    lane::{Clock, Head, Lane, Ready},
    outcome::{After, Refronted},
    refusal::shutting_down,
    running::{Running, SHORT_MAX},
    task::{Done, Ended, LaneId, Model, Outcome, Task, TaskWork},
};
use satisfice_core::{Error, InferRequest};
use satisfice_planner::{self as planner, CoreTime};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// All queues and what is executed.
pub(super) struct State {
    epoch: Instant,
    /// Cores that are handed out.
    pub(super) cores: usize,
    pub(super) lanes: BTreeMap<LaneId, Lane>,
    pub(super) running: Vec<Running>,
    /// Virtual time of the lane that was served last: where one begins that had no work.
    virtual_time: f64,
    samples: Samples,
    /// Up to when what was done is taken in.
    pub(super) settled: f64,
    next_id: u64,
    closed: bool,
    /// When somebody who sleeps will look whose turn it is.
    pub(super) watched: Option<Instant>,
}

/// What an executor is to do.
pub(super) enum Next {
    Run(Box<Task>),
    /// Sleep until something changes, or until then.
    Sleep(Option<Instant>),
    Stop,
}

impl State {
    pub(super) fn new(cores: usize, now: Instant) -> Self {
        Self {
            epoch: now,
            cores,
            lanes: BTreeMap::new(),
            running: Vec::new(),
            virtual_time: 0.0,
            samples: Samples::default(),
            settled: 0.0,
            next_id: 0,
            closed: false,
            watched: None,
        }
    }

    pub(super) fn seconds(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.epoch).as_secs_f64()
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Opens a queue.
    pub(super) fn open(&mut self, model: Model, admission: Admission) -> LaneId {
        let id = self.id();
        self.lanes
            .insert(id, Lane::new(id, model, admission, self.cores));
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
        // What sleeps ends too.
        let running = self.running.iter();
        running.for_each(|running| running.cores.grant(self.cores));
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
        self.settle(self.seconds(now));
        let (free, running) = match contract.deadline {
            Some(_) => self.outlook(lane, now),
            None => (Vec::new(), Vec::new()),
        };
        let clock = Clock {
            lets_in: self.lane(lane).is_some_and(|lane| self.lets_in(lane)),
            ..self.clock(lane, now, &free, &running)
        };
        self.enter(lane)?.admit(id, work, contract, reply, clock)?;
        Ok((-contract.priority, id))
    }

    /// Refuses a request that is certain to be late beside what runs and what waits.
    pub(super) fn check_time(
        &mut self,
        id: LaneId,
        asked: Asked<'_>,
        now: Instant,
    ) -> Result<(), Error> {
        let Some(floor) = self.lane(id).and_then(|lane| lane.floor(asked)) else {
            return Ok(());
        };
        let seconds = self.seconds(now);
        self.settle(seconds);
        let (free, running) = self.outlook(id, now);
        let clock = self.clock(id, now, &free, &running);
        match self.lane(id) {
            Some(lane) => lane.check_time(floor, asked.contract, clock),
            None => Ok(()),
        }
    }

    /// A lane that is to get work: one that was idle gains nothing on the others by that.
    fn enter(&mut self, id: LaneId) -> Result<&mut Lane, Error> {
        let others = self.used_by_others(id);
        let lane = self.lanes.get_mut(&id).ok_or_else(shutting_down)?;
        if lane.is_idle() {
            let others = others.unwrap_or(self.virtual_time);
            lane.virtual_time = lane.virtual_time.max(others);
        }
        Ok(lane)
    }

    /// Seconds until what waits in a lane, and what runs, is over.
    pub(super) fn wait(&self, id: LaneId, now: Instant) -> Option<f64> {
        let (free, running) = self.outlook(id, now);
        let until: f64 = free.iter().map(|end| end - self.seconds(now)).sum();
        let left = running
            .iter()
            .map(|job| job.alternatives().cheapest_seconds());
        Some((self.lane(id)?.backlog() + left.sum::<f64>() + until) / free.len() as f64)
    }

    /// When the lane may execute something, in seconds, for each of as many executions as it may have side by side; and
    /// of what runs of it and could give way, what is left.
    fn outlook(&self, id: LaneId, now: Instant) -> (Vec<f64>, Vec<planner::Job>) {
        let Some(lane) = self.lanes.get(&id) else {
            return (vec![self.seconds(now)], Vec::new());
        };
        if !lane.shares {
            return (self.free(lane, now), Vec::new());
        }
        let (several, cores, _) = lane.beside(0);
        let mine = self.running.iter();
        let mine = mine.filter(|run| run.lane == id && !run.short && !run.audit);
        let (mut jobs, mut before) = (Vec::new(), 0.0);
        for running in mine {
            match running.as_job(cores) {
                Some(job) => jobs.push(job),
                None => before += running.left_on(cores),
            }
        }
        let start = self.seconds(now) + self.before_turn(lane) + before / several as f64;
        (vec![start; several], jobs)
    }

    /// Time as a lane sees it, with its [`outlook`](Self::outlook).
    fn clock<'a>(
        &self,
        lane: LaneId,
        now: Instant,
        free: &'a [f64],
        running: &'a [planner::Job],
    ) -> Clock<'a> {
        Clock {
            now,
            seconds: self.seconds(now),
            free,
            running,
            slower: self.slower(lane),
            lets_in: false,
        }
    }

    /// Seconds until it is a lane's turn that shares cores: others do first what is due already, and what they may
    /// because they have used less.
    fn before_turn(&self, lane: &Lane) -> f64 {
        let others = self.running.iter();
        let others = others.filter(|run| run.lane != lane.id && !run.short);
        let (_, mine, _) = lane.beside(0);
        let wells = others.clone().map(|run| run.well(self.cores));
        if wells.sum::<usize>() + mine <= self.cores {
            return 0.0;
        }
        let due = others.filter(|run| run.shares && run.deadline.is_some());
        let due = due.map(|run| {
            let well = run.well(self.cores);
            run.left_on(well) * well as f64
        });
        let due = due.sum::<f64>() / self.cores as f64;
        let used = self.used(lane.id);
        let first = |other: &Lane| {
            let behind = (used - self.used(other.id)) * other.admission.share / self.cores as f64;
            let running = self.running.iter().filter(|run| run.lane == other.id);
            let open = running.filter(|run| run.deadline.is_none() && !run.audit);
            let left: f64 = open.map(|run| run.left_on(self.cores)).sum();
            behind.clamp(0.0, other.backlog() + left)
        };
        let others = self.lanes.values();
        let others = others.filter(|other| other.id != lane.id && !other.is_idle());
        due + others.map(first).sum::<f64>()
    }

    /// When each core that a lane may use is predicted to be free: as many as its share of the server among the lanes that
    /// have work, at least one. What can give way does.
    fn free(&self, lane: &Lane, now: Instant) -> Vec<f64> {
        let id = lane.id;
        let others = self
            .lanes
            .values()
            .filter(|other| other.id != id && !other.is_idle());
        let shares: f64 = others.map(|other| other.admission.share).sum();
        let part = lane.admission.share / (lane.admission.share + shares);
        let count = (self.cores as f64 * part).floor() as usize;
        let count = count.clamp(1, lane.admission.executing_max.max(1));
        let now = self.seconds(now);
        let end = |running: &Running| match running.time {
            Some(time) => (running.begun + time.seconds(1)).max(now),
            None => now,
        };
        let fixed = self.running.iter().filter(|running| !running.shares);
        let of_lane = |running: &&Running| running.lane == id;
        let mut free: Vec<f64> = fixed.clone().filter(of_lane).map(end).collect();
        let others = fixed.filter(|running| !of_lane(running));
        let mut others: Vec<f64> = others.map(end).collect();
        others.resize(self.cores.saturating_sub(free.len()).max(1), now);
        others.sort_by(f64::total_cmp);
        free.sort_by(f64::total_cmp);
        free.extend(others.into_iter().take(count.saturating_sub(free.len())));
        free.truncate(count);
        free
    }

    /// What is to be executed next: of the lanes with work the one that has used least of its share.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if self.closed {
            return Next::Stop;
        }
        let seconds = self.seconds(now);
        self.share_out(seconds);
        let may = |lane: &&Lane| lane.has_work() && lane.may_execute();
        let lanes = self.lanes.values().filter(may);
        let begun = |lane: &Lane| lane.virtual_time + lane.charged / lane.admission.share;
        let mut order: Vec<(f64, LaneId)> = lanes.map(|lane| (begun(lane), lane.id)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut wake: Option<f64> = None;
        for (_, id) in order {
            match self.next_of(id, now) {
                Head::Ready(ready) => {
                    if let Some(task) = self.take(id, ready, seconds) {
                        return Next::Run(task);
                    }
                }
                Head::Later(until) => wake = Some(wake.map_or(until, |wake| wake.min(until))),
                Head::Nothing => {}
            }
        }
        if let Some(task) = self.audit() {
            return Next::Run(self.begin(task, seconds));
        }
        let turn = self.next_turn(seconds).into_iter();
        let until = turn.chain(wake).min_by(f64::total_cmp);
        Next::Sleep(until.map(|until| {
            let left = Duration::try_from_secs_f64(until - seconds).unwrap_or_default();
            now + left
        }))
    }

    /// What a lane has to offer that may begin now.
    fn next_of(&mut self, id: LaneId, now: Instant) -> Head {
        let seconds = self.seconds(now);
        // Short ones need no plan.
        if let Some(lane) = self.lanes.get(&id)
            && let Some(short) = lane.next_small(true)
            && self.may_begin_early(lane, &short, seconds)
        {
            return Head::Ready(short);
        }
        let (free, running) = self.outlook(id, now);
        let clock = self.clock(id, now, &free, &running);
        let Some(lane) = self.lanes.get_mut(&id) else {
            return Head::Nothing;
        };
        let head = lane.next(clock);
        let Some(lane) = self.lanes.get(&id) else {
            return Head::Nothing;
        };
        match head {
            Head::Ready(ready) if self.may_begin(lane, &ready, seconds) => Head::Ready(ready),
            Head::Later(until) => Head::Later(until),
            Head::Ready(_) | Head::Nothing => lane
                .next_small(false)
                .filter(|small| self.may_begin_early(lane, small, seconds))
                .map_or(Head::Nothing, Head::Ready),
        }
    }

    fn take(&mut self, id: LaneId, ready: Ready, now: f64) -> Option<Box<Task>> {
        let task = self.lanes.get_mut(&id)?.take(ready.what)?;
        Some(self.begin(Box::new(task), now))
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
        let busy: usize = self.running.iter().map(|run| run.granted.max(1)).sum();
        let idle = busy < self.cores && !self.closed;
        if !idle || !work.is_plain() || contract.minimum.is_some() || contract.explain {
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

    /// Whether somebody who sleeps is to wake: there may be more to begin, or nobody looks when turns end.
    pub(super) fn is_to_be_watched(&self) -> bool {
        self.lanes.values().any(Lane::has_work)
            || self.watched.is_none() && self.next_turn(0.0).is_some()
    }

    /// Whether an executor would have something to do.
    pub(super) fn has_work(&self) -> bool {
        self.lanes.values().any(Lane::has_work) || !self.samples.is_empty()
    }

    fn begin(&mut self, mut task: Box<Task>, now: f64) -> Box<Task> {
        task.run = self.id();
        let audit = matches!(task.work, TaskWork::Audit(_));
        let Some(lane) = self.lanes.get_mut(&task.lane) else {
            return task;
        };
        let shares = lane.shares;
        let time = task
            .predicted
            .map(|seconds| lane.time(task.work.bytes(), seconds));
        lane.executing += 1;
        if !audit {
            self.virtual_time = self.virtual_time.max(lane.virtual_time);
            lane.charged += time.map_or(0.0, |time| time.seconds(1));
        }
        let (planned, width) = task.planned.take().unzip();
        self.running.push(Running {
            run: task.run,
            lane: task.lane,
            audit,
            cores: task.cores.clone(),
            shares,
            short: !audit && time.is_none_or(|time| time.seconds(1) <= SHORT_MAX),
            deadline: planned.as_ref().and_then(planner::Job::deadline),
            job: planned,
            width: width.unwrap_or(1),
            time,
            granted: 0,
            narrowed: false,
            begun: now,
            since: now,
            awake: 0.0,
            used: 0.0,
            done: 0.0,
        });
        self.share_out(now);
        task
    }

    /// An answer to make again, if nothing else waits and another executor stays free for what may
    /// come.
    fn audit(&mut self) -> Option<Box<Task>> {
        let busy = self.lanes.values().any(Lane::has_work);
        let spare = self.running.len() + 1 < self.cores;
        let audits = self.running.iter().any(|running| running.audit);
        if busy || !spare || audits {
            return None;
        }
        let (lane, sample) = self.samples.take()?;
        let lane = self.lanes.get(&lane)?;
        Some(Box::new(lane.task(None, TaskWork::Audit(sample))))
    }

    /// Takes in what came of a task.
    pub(super) fn finish(&mut self, done: Done, now: Instant) -> After {
        let Done {
            lane: id,
            run,
            seconds,
            usage,
            outcome,
        } = done;
        let now = self.seconds(now);
        self.settle(now);
        let at = self.running.iter().position(|running| running.run == run);
        let running = at.map(|at| self.running.swap_remove(at));
        self.share_out(now);
        let (Some(running), Some(lane)) = (running, self.lanes.get_mut(&id)) else {
            return After::default();
        };
        lane.executing -= 1;
        let looped = usage.own + usage.helped;
        let serial = seconds - (usage.own + usage.asleep).as_secs_f64();
        let took = match running.shares {
            true => CoreTime::new(serial, looped.as_secs_f64()),
            false => CoreTime::new(seconds, 0.0),
        };
        if !running.audit {
            lane.charged -= running.time.map_or(0.0, |time| time.seconds(1));
            lane.virtual_time += took.seconds(1) / lane.admission.share;
            if self.running.is_empty() {
                // Who was idle all the while gains nothing on who was not.
                self.virtual_time = self.virtual_time.max(lane.virtual_time);
            }
        }
        // What fewer cores take longer for says how long all would have taken.
        let seconds = match running.narrowed && running.shares {
            true => took.seconds(self.cores),
            false => seconds,
        };
        if let (
            true,
            Outcome::Whole {
                bytes,
                ended: Ended::Answered,
                ..
            },
        ) = (running.shares, &outcome)
        {
            lane.took(*bytes, took);
        }
        let predicted = running.time.map(|time| time.seconds(self.cores));
        lane.take_in(outcome, seconds, predicted)
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
