//! What time is worth, judging by recent arrivals.

use super::{Entry, chain::Slot};
use crate::units::{self, Nanos};
use std::collections::VecDeque;

/// Jobs that are looked back upon.
const WINDOW: usize = 256;

/// Jobs before anything is concluded from them.
const WINDOW_MIN: usize = 32;

/// Share of the executors' time that random arrivals with deadlines can make use of.
const USABLE: f64 = 0.85;

/// Upgrades remembered of a job.
const UPGRADES_MAX: usize = 8;

/// The price of an executor's time in summed accuracy: what the upgrade gained per time that would
/// just have fitted, had all recent jobs been planned together. An upgrade that gains less takes
/// time that jobs yet to come will need more.
#[derive(Debug, Clone, Default)]
pub(super) struct Price {
    recent: VecDeque<Demand>,
    /// (arrival, id) of the newest job looked at.
    newest: Option<(f64, u64)>,
}

/// What one job would have used.
#[derive(Debug, Clone)]
struct Demand {
    arrival: f64,
    /// From arrival to deadline, in seconds.
    patience: f64,
    cheapest: Nanos,
    /// (accuracy gained per time, time) from each alternative to the next.
    upgrades: Vec<(f64, Nanos)>,
}

impl Price {
    /// Whether more jobs are to be expected before a job that comes now is due: one at least came, on
    /// average of the last ones, in the time that jobs have.
    pub(super) fn is_busy(&self, now: f64) -> bool {
        let Some(at) = self.recent.len().checked_sub(WINDOW_MIN) else {
            return false;
        };
        let patience = self.median_patience();
        // Jobs that came at once say nothing about those to come.
        now - self.recent[0].arrival >= patience
            && now - self.recent[at].arrival < patience * WINDOW_MIN as f64
    }

    /// The price, after taking in the jobs with a deadline that are new; 0 while time is plenty,
    /// and infinite where there was not even enough for the cheapest alternatives.
    pub(super) fn update(&mut self, now: f64, entries: &[Entry<'_>], executors: usize) -> f64 {
        self.remember(entries);
        if self.recent.len() < WINDOW_MIN {
            return 0.0;
        }
        let since = self.recent.iter().map(|d| d.arrival).fold(now, f64::min);
        let patience = self.median_patience();
        // Jobs that came at once say nothing about those to come.
        if now - since < patience {
            return 0.0;
        }
        let span = (now - since + patience).min(1e6);
        let time = units::nanos_left(USABLE * span) * executors as Nanos;
        let cheapest: Nanos = self.recent.iter().map(|demand| demand.cheapest).sum();
        let Some(mut left) = time.checked_sub(cheapest) else {
            return f64::INFINITY;
        };
        let upgrades = self.recent.iter().flat_map(|demand| &demand.upgrades);
        let mut upgrades: Vec<(f64, Nanos)> = upgrades.copied().collect();
        upgrades.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        for (gain, time) in upgrades {
            match left.checked_sub(time) {
                Some(rest) => left = rest,
                None => return gain,
            }
        }
        0.0
    }

    fn median_patience(&self) -> f64 {
        let mut patience: Vec<f64> = self.recent.iter().map(|demand| demand.patience).collect();
        let middle = patience.len() / 2;
        *patience.select_nth_unstable_by(middle, f64::total_cmp).1
    }

    fn remember(&mut self, entries: &[Entry<'_>]) {
        let newest = self.newest;
        let mut new: Vec<(f64, u64, usize)> = entries
            .iter()
            .enumerate()
            .map(|(at, entry)| (entry.job.arrival(), entry.job.id(), at))
            .filter(|&(arrival, id, _)| newest.is_none_or(|newest| (arrival, id) > newest))
            .collect();
        new.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        if let Some(&(arrival, id, _)) = new.last() {
            self.newest = Some((arrival, id));
        }
        let from = new.len().saturating_sub(WINDOW);
        for &(arrival, _, at) in &new[from..] {
            let Some(deadline) = entries[at].job.deadline() else {
                continue;
            };
            if self.recent.len() == WINDOW {
                self.recent.pop_front();
            }
            self.recent.push_back(Demand {
                arrival,
                patience: (deadline - arrival).max(0.0),
                cheapest: entries[at].cheapest(),
                upgrades: upgrades(&Slot::new(&entries[at], None)),
            });
        }
    }
}

fn upgrades(slot: &Slot<'_>) -> Vec<(f64, Nanos)> {
    let last = slot.hull.len() - 1;
    let count = last.min(UPGRADES_MAX);
    let corner = |at: usize| slot.steps[slot.hull[at * last / count.max(1)] as usize];
    (0..count)
        .map(|at| {
            let (from, to) = (corner(at), corner(at + 1));
            let time = to.time - from.time;
            let value = (to.value - from.value) * slot.weight;
            (value as f64 / time as f64, time)
        })
        .collect()
}
