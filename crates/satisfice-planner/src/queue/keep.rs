//! Which jobs are answered, and on which executor.

use super::{Entry, soft::SoftDeadline};
use crate::units::Nanos;
use std::collections::BinaryHeap;

/// What becomes of each job, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    On(usize),
    Refused,
}

/// The jobs that are kept, at their cheapest alternatives, in order of deadline.
#[derive(Debug)]
pub(super) struct Kept {
    /// Positions of all jobs by deadline.
    order: Vec<usize>,
    fates: Vec<Fate>,
}

impl Kept {
    /// Keeps jobs without a deadline first, where `soft` has put them, then class by class as many
    /// jobs as can be on time beside those that are kept already.
    ///
    /// On one executor that is the largest number: with the kept jobs' times taken out of the
    /// deadlines, a class is the problem that Moore and Hodgson solve.
    pub(super) fn new(entries: &[Entry<'_>], free: &[Nanos], soft: &[SoftDeadline]) -> Self {
        let mut order: Vec<(Nanos, u32)> = entries
            .iter()
            .enumerate()
            .map(|(at, entry)| (entry.deadline, at as u32))
            .collect();
        order.sort_unstable();
        let mut kept = Self {
            order: order.into_iter().map(|(_, at)| at as usize).collect(),
            fates: vec![Fate::Open; entries.len()],
        };
        for &(at, executor, _) in soft {
            kept.fates[at] = Fate::On(executor);
        }
        let classes = entries.iter().map(|entry| entry.class + 1).max();
        for class in 0..classes.unwrap_or(0) {
            kept.add_class(entries, free, class);
        }
        kept
    }

    /// Positions of the jobs on one executor, by deadline.
    pub(super) fn on(&self, executor: usize) -> Vec<usize> {
        let order = self.order.iter().copied();
        order
            .filter(|&at| self.fates[at] == Fate::On(executor))
            .collect()
    }

    /// Positions of the others, ascending.
    pub(super) fn refused(&self) -> Vec<usize> {
        let all = 0..self.fates.len();
        all.filter(|&at| self.fates[at] == Fate::Refused).collect()
    }

    fn add_class(&mut self, entries: &[Entry<'_>], free: &[Nanos], class: usize) {
        let joins =
            |kept: &Self, at: usize| kept.fates[at] == Fate::Open && entries[at].class == class;
        if !self.order.iter().any(|&at| joins(self, at)) {
            return;
        }
        let room: Vec<Vec<Nanos>> = (0..free.len())
            .map(|executor| self.room(entries, free[executor], executor))
            .collect();
        let mut loads: Vec<Load> = free.iter().map(|_| Load::default()).collect();
        for (place, &at) in self.order.clone().iter().enumerate() {
            if !joins(self, at) {
                continue;
            }
            let entry = &entries[at];
            let executor = best_executor(entry, &loads, |executor| room[executor][place]);
            let load = &mut loads[executor];
            self.fates[at] = Fate::On(executor);
            load.cheapest += entry.cheapest();
            load.dearest += entry.dearest();
            load.jobs.push((entry.cheapest(), at));
            while load.cheapest > room[executor][place] {
                let Some((time, longest)) = load.jobs.pop() else {
                    break;
                };
                load.cheapest -= time;
                load.dearest -= entries[longest].dearest();
                self.fates[longest] = Fate::Refused;
            }
        }
    }

    /// For each place in the order: how much time there is on the executor for more jobs of at most
    /// this deadline, so that these and the kept jobs are on time.
    fn room(&self, entries: &[Entry<'_>], free: Nanos, executor: usize) -> Vec<Nanos> {
        let mut time = free;
        let mut room: Vec<Nanos> = self
            .order
            .iter()
            .map(|&at| {
                let kept = self.fates[at] == Fate::On(executor);
                if kept {
                    time += entries[at].cheapest();
                }
                entries[at].deadline.saturating_sub(time)
            })
            .collect();
        for place in (1..room.len()).rev() {
            room[place - 1] = room[place - 1].min(room[place]);
        }
        room
    }
}

/// Jobs of one class on one executor.
#[derive(Debug, Default)]
struct Load {
    /// Their times at the cheapest alternatives.
    cheapest: Nanos,
    /// Their times at the most accurate ones.
    dearest: Nanos,
    /// (cheapest time, position), longest first.
    jobs: BinaryHeap<(Nanos, usize)>,
}

/// Of the executors on which the job is on time, the one that is most likely to be free for better
/// than the cheapest alternatives; where there is none, the one on which it is least late.
fn best_executor(entry: &Entry<'_>, loads: &[Load], room: impl Fn(usize) -> Nanos) -> usize {
    let time = entry.cheapest();
    let key = |executor: usize| {
        let load = &loads[executor];
        let late = (load.cheapest + time).saturating_sub(room(executor));
        let wanted = load.dearest as i128 - i128::from(room(executor));
        (late, wanted)
    };
    (0..loads.len())
        .min_by_key(|&executor| key(executor))
        .unwrap_or(0)
}
