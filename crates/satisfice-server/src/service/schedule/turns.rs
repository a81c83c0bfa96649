//! Who may begin beside what runs, and how many cores everybody has.

use super::{
    lane::{Lane, Ready},
    running::{Running, SHORT_MAX},
    state::State,
    task::LaneId,
};
use satisfice_planner::{Claim, cores_for_short, share_out};

/// Seconds that models without deadlines take turns for, while there are fewer cores than they can use.
pub(super) const SLICE: f64 = 0.010;

/// Core seconds by which a model may have used more than others, and its short requests still go first.
const SHORT_AHEAD: f64 = 0.05;

/// How much longer what runs has to take than what overtakes it for being smaller.
const SMALLER: f64 = 4.0;

/// Executions of one model that others may overtake, at most.
const OVERTAKEN_MAX: usize = 2;

/// Bytes that executions hold while they sleep, at most: nothing but short ones overtakes more.
const ASLEEP_BYTES_MAX: usize = 1 << 30;

/// Executions beside one a core, at most: what sleeps, and what is short.
pub(super) const BESIDE_MAX: usize = 8;

/// Seconds that are lately.
const LATELY: f64 = 0.5;

impl State {
    /// Gives everybody the cores that they have from now on.
    pub(super) fn share_out(&mut self, now: f64) {
        self.settle(now);
        let claim = |running: &Running| {
            // Who has cores keeps them for a while.
            let keeps = match running.granted {
                0 => 0.0,
                _ => SLICE * self.cores as f64,
            };
            let audits = if running.audit { f64::INFINITY } else { 0.0 };
            let used = self.used(running.lane) - keeps + audits;
            Claim {
                turn: running.turn(self.cores, used),
                well: running.well(self.cores),
                most: running.most(self.cores),
            }
        };
        let claims: Vec<Claim> = self.running.iter().map(claim).collect();
        let granted = share_out(self.cores, &claims);
        for (running, cores) in self.running.iter_mut().zip(granted) {
            running.narrowed |= cores < self.cores;
            if running.granted != cores {
                running.granted = cores;
                running.cores.grant(cores);
            }
            if running.shares && running.is_hopeless(self.cores) {
                running.cores.stop();
            }
        }
    }

    /// Takes in what was done until now.
    pub(super) fn settle(&mut self, now: f64) {
        let kept = ((self.settled - now) / LATELY).min(0.0).exp();
        self.settled = self.settled.max(now);
        let takes = |run: &&Running| run.granted > 0 && (run.short || !run.shares);
        for lane in self.lanes.values_mut() {
            let running = self.running.iter().filter(takes);
            let taken = running.filter(|run| run.lane == lane.id).count() as f64;
            lane.taken = taken + (lane.taken - taken) * kept;
        }
        let running = self.running.iter_mut();
        running.for_each(|running| running.settle(now));
    }

    /// How much longer a lane's work takes that shares cores, because of what does not give way to it, as lately.
    pub(super) fn slower(&self, id: LaneId) -> f64 {
        let others = self.lanes.values().filter(|other| other.id != id);
        let taken: f64 = others.map(|other| other.taken).sum();
        let cores = self.cores as f64;
        cores / (cores - taken).max(1.0)
    }

    /// When somebody has to look again whose turn it is, if so.
    pub(super) fn next_turn(&self, now: f64) -> Option<f64> {
        let waits = self.lanes.values().any(Lane::has_work);
        let contended = self.running.len() > 1 || waits;
        let looked_at = self.running.iter();
        let looked_at = looked_at.filter(|running| running.shares || running.short);
        let until = looked_at.map(|running| match running.short {
            true => now + 2.0 * SHORT_MAX,
            false => now + SLICE,
        });
        until.min_by(f64::total_cmp).filter(|_| contended)
    }

    /// What a lane has used of its share, up to now.
    pub(super) fn used(&self, id: LaneId) -> f64 {
        let Some(lane) = self.lanes.get(&id) else {
            return 0.0;
        };
        let running = self
            .running
            .iter()
            .filter(|running| running.lane == id && !running.audit);
        let used: f64 = running.map(|running| running.used).sum();
        lane.virtual_time + used / lane.admission.share
    }

    /// What the others that have work have used, the least of them.
    pub(super) fn used_by_others(&self, id: LaneId) -> Option<f64> {
        let others = self.lanes.values();
        let others = others.filter(|other| other.id != id && !other.is_idle());
        others
            .map(|other| self.used(other.id))
            .min_by(f64::total_cmp)
    }

    /// Whether an execution of a lane may begin now, beside what runs.
    pub(super) fn may_begin(&self, lane: &Lane, ready: &Ready, now: f64) -> bool {
        if !lane.may_execute() || self.running.len() >= self.cores + BESIDE_MAX {
            return false;
        }
        let busy: usize = self.running.iter().map(|run| run.granted.max(1)).sum();
        if busy < self.cores || self.is_let_in(lane, ready) || self.fits_beside(ready) {
            return true;
        }
        self.takes_turn(lane, ready, now) || self.overtakes(lane, ready, now)
    }

    /// Whether one may begin that goes before others of its lane which wait: a short one, or one that is far smaller than
    /// what runs.
    pub(super) fn may_begin_early(&self, lane: &Lane, ready: &Ready, now: f64) -> bool {
        lane.may_execute()
            && self.running.len() < self.cores + BESIDE_MAX
            && (self.is_let_in(lane, ready)
                || ready.deadline.is_none() && self.overtakes(lane, ready, now))
    }

    /// Whether a short request of a lane would begin at once.
    pub(super) fn lets_in(&self, lane: &Lane) -> bool {
        let short = self.running.iter().filter(|running| running.short);
        let ahead = SHORT_AHEAD * self.cores as f64 / lane.admission.share;
        short.count() < cores_for_short(self.cores)
            && self
                .used_by_others(lane.id)
                .is_none_or(|others| self.used(lane.id) <= others + ahead)
    }

    /// Short ones go before all others, a few at a time, unless their model has used more than its share.
    pub(super) fn is_let_in(&self, lane: &Lane, ready: &Ready) -> bool {
        ready.is_short() && self.lets_in(lane)
    }

    /// Whether everybody gets the cores that he uses well: several at once then do more than one after the other.
    fn fits_beside(&self, ready: &Ready) -> bool {
        let used = self.running.iter().map(|run| run.well(self.cores));
        let wanted = match ready.time {
            Some(time) if ready.shares => time.efficient(self.cores),
            _ => 1,
        };
        used.sum::<usize>() + wanted <= self.cores
    }

    /// Whether more may be put to sleep: what sleeps keeps its memory.
    fn may_hold_more(&self) -> bool {
        let held: usize = self.running.iter().map(|run| run.cores.held()).sum();
        held <= ASLEEP_BYTES_MAX
    }

    /// Whether it is the lane's turn, and another one's execution is to give way.
    fn takes_turn(&self, lane: &Lane, ready: &Ready, now: f64) -> bool {
        let mine = |running: &&Running| running.lane == lane.id && !running.short && !running.audit;
        if ready.shares && self.running.iter().any(|running| mine(&running)) {
            return false;
        }
        if !self.may_hold_more() {
            return false;
        }
        let begun = lane.virtual_time + lane.charged / lane.admission.share;
        let gives_way = |running: &Running| {
            let others = self.used(running.lane);
            running.shares && running.lane != lane.id && !running.short && begun <= others
        };
        let mut others = self.running.iter().filter(|running| gives_way(running));
        match ready.shares {
            true => {
                let open = others.any(|running| running.deadline.is_none());
                let due = self
                    .running
                    .iter()
                    .any(|r| r.shares && r.deadline.is_some());
                open && !due || ready.deadline.is_some() && self.all_are_kept(ready, now)
            }
            // It takes one core, which what is due does without where it can.
            false => others.any(|running| {
                let beside = now + running.left_on(self.cores - 1);
                running
                    .deadline
                    .is_none_or(|due| self.cores > 1 && beside <= due)
            }),
        }
    }

    /// Whether a lane has used no more of its share than others that have work.
    fn is_in_turn(&self, lane: &Lane) -> bool {
        let ahead = SLICE * self.cores as f64 / lane.admission.share;
        let others = self.used_by_others(lane.id);
        others.is_none_or(|others| self.used(lane.id) <= others + ahead)
    }

    /// Whether a request goes before one of the same model that runs: one that alone has a deadline, that would else
    /// be late where the other one will not, or that is far smaller.
    fn overtakes(&self, lane: &Lane, ready: &Ready, now: f64) -> bool {
        let started = self.running.iter();
        let started: Vec<&Running> = started
            .filter(|run| run.lane == lane.id && run.shares && !run.short && !run.audit)
            .collect();
        let many = started.len() >= OVERTAKEN_MAX || !self.may_hold_more();
        if !ready.shares || started.is_empty() || many || !self.is_in_turn(lane) {
            return false;
        }
        let due_elsewhere = self
            .running
            .iter()
            .any(|run| run.shares && run.lane != lane.id && run.deadline.is_some());
        match ready.deadline {
            Some(_) if started.iter().all(|run| run.deadline.is_none()) && !due_elsewhere => true,
            Some(_) => self.all_are_kept(ready, now),
            None => started.iter().all(|run| {
                let smaller = ready.time.is_some_and(|time| {
                    SMALLER * time.seconds(self.cores) <= run.left_on(self.cores)
                });
                run.deadline.is_none() && smaller && run.asleep() <= run.awake + SLICE
            }),
        }
    }

    /// Whether what is due is so on time, one after the other on all cores, if this goes in between by its deadline; and
    /// it would else be late, or is far smaller than what it overtakes.
    fn all_are_kept(&self, ready: &Ready, now: f64) -> bool {
        let (Some(deadline), Some(time)) = (ready.deadline, ready.time) else {
            return false;
        };
        let fixed = self.running.iter().filter(|run| !run.shares).count();
        let cores = self.cores.saturating_sub(fixed).max(1);
        let takes = time.seconds(cores);
        let due = self.running.iter().filter(|run| run.shares && !run.short);
        let due = due.filter_map(|run| Some((run.deadline?, run.left_on(cores))));
        let mut due: Vec<(f64, f64)> = due.collect();
        due.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (before, after): (Vec<_>, Vec<_>) = due.iter().partition(|run| run.0 <= deadline);
        let Some(&(_, overtaken)) = after.first() else {
            return false;
        };
        let mut end = now + before.iter().map(|run| run.1).sum::<f64>();
        let needed = end + overtaken + takes > deadline || SMALLER * takes <= overtaken;
        end += takes;
        needed
            && end <= deadline
            && after.iter().all(|&(due, left)| {
                end += left;
                end <= due
            })
    }
}
