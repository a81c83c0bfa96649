//! When jobs without a deadline are due.

#[cfg(test)]
mod tests;

use super::Entry;
use crate::units::{self, Nanos};

/// Position of a job without a deadline, its executor, and when it has to be done.
pub(super) type SoftDeadline = (usize, usize, Nanos);

/// Gives jobs without a deadline a share of one executor, first come first served.
///
/// Each is due when its most accurate alternative would be done on an executor that is slower by
/// the share and serves only such jobs; among the deadlines of the others it counts as one that is
/// always kept. Once it is overdue nothing goes before it.
///
/// Source: the constant bandwidth server (Abeni, Buttazzo 1998).
#[derive(Debug, Clone, Default)]
pub(super) struct SoftClock {
    /// When the share was last used up to.
    served_until: Option<f64>,
    /// (arrival, id, due) of those that waited at the last call, ascending.
    waiting: Vec<(f64, u64, f64)>,
}

impl SoftClock {
    /// When each job without a deadline has to be done, from `now`.
    pub(super) fn deadlines(
        &mut self,
        now: f64,
        entries: &[Entry<'_>],
        free: &[Nanos],
        share: f64,
    ) -> Vec<SoftDeadline> {
        let mut waiting: Vec<(f64, u64, usize)> = entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.job.deadline().is_none())
            .map(|(at, entry)| (entry.job.arrival(), entry.job.id(), at))
            .collect();
        waiting.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        self.account(now, &waiting);
        let mut due = self.served_until.unwrap_or(f64::NEG_INFINITY);
        let mut free = free.to_vec();
        let mut latest = 0;
        waiting
            .into_iter()
            .map(|(arrival, id, at)| {
                let entry = &entries[at];
                due = due.max(arrival) + units::seconds(entry.dearest()) / share;
                self.waiting.push((arrival, id, due));
                let executor = (0..free.len()).min_by_key(|&e| free[e]).unwrap_or(0);
                free[executor] += entry.cheapest();
                latest = units::nanos_left(due - now).max(free[executor]).max(latest);
                (at, executor, latest)
            })
            .collect()
    }

    /// Charges the share for the jobs that have left. Who left before being due used time that
    /// nobody else needed, and is charged up to now only.
    fn account(&mut self, now: f64, waiting: &[(f64, u64, usize)]) {
        let mut still = waiting.iter().peekable();
        for (arrival, id, due) in std::mem::take(&mut self.waiting) {
            let before = |other: &&(f64, u64, usize)| {
                other.0.total_cmp(&arrival).then(other.1.cmp(&id)).is_lt()
            };
            while still.next_if(|other| before(other)).is_some() {}
            if still
                .next_if(|other| (other.0, other.1) == (arrival, id))
                .is_none()
            {
                let until = due.min(now);
                self.served_until = Some(self.served_until.map_or(until, |t| t.max(until)));
            }
        }
    }
}
