//! What models have done over time: their counters, noted every second and kept within fixed bounds.

use super::{
    Service,
    plan_times::{BOUNDS, PLANS_MAX},
    served::ServedModel,
    stats::Reason,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Seconds between two notes.
const INTERVAL: Duration = Duration::from_secs(1);

/// How far back can be looked, and how closely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Range {
    /// Ten minutes, second by second.
    Minutes,
    /// Two hours, ten seconds by ten seconds.
    Hours,
    /// A day, two minutes by two minutes.
    Day,
}

impl Range {
    /// Every range.
    pub(crate) const ALL: [Self; 3] = [Self::Minutes, Self::Hours, Self::Day];

    /// The name in requests.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Minutes => "10m",
            Self::Hours => "2h",
            Self::Day => "24h",
        }
    }

    /// Seconds between two points.
    pub(crate) fn step(self) -> u64 {
        match self {
            Self::Minutes => 1,
            Self::Hours => 10,
            Self::Day => 120,
        }
    }

    /// Points that are kept: one more than there are steps, since differences are looked at.
    fn points_max(self) -> usize {
        match self {
            Self::Minutes => 601,
            Self::Hours | Self::Day => 721,
        }
    }
}

/// The counters of one version of a model at one moment. All but `waiting` and `audits` only grow.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Point {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Requests answered.
    pub answered: u64,
    /// Of those with a deadline, answered in time and late.
    pub kept: u64,
    pub late: u64,
    /// Requests refused or given up before they were executed, and those not answered for other reasons.
    pub refused: u64,
    pub failed: u64,
    /// Requests in the queue at that moment.
    pub waiting: u64,
    /// Answered requests by duration: how many took no longer than each of [`BOUNDS`], and all.
    pub durations: [u64; BOUNDS.len() + 1],
    /// Answers by plan, in the order of [`ModelHistory::plans`].
    pub by_plan: Vec<u64>,
    /// Agreement promised and observed in audits, by plan in the same order.
    pub audits: Vec<Option<(f64, f64)>>,
}

/// What one version of a model has done.
#[derive(Debug, Default)]
struct ModelHistory {
    /// Plans in the order in which they were seen first.
    plans: Vec<String>,
    rings: [VecDeque<Point>; Range::ALL.len()],
}

impl ModelHistory {
    /// The points of a range that are later than `since` milliseconds.
    fn points(&self, range: Range, since: u64) -> impl Iterator<Item = &Point> {
        let ring = self.rings[range as usize].iter();
        ring.filter(move |point| point.at_ms > since)
    }

    fn add(&mut self, tick: u64, point: &Point) {
        for range in Range::ALL {
            if !tick.is_multiple_of(range.step()) {
                continue;
            }
            let ring = &mut self.rings[range as usize];
            if ring.len() == range.points_max() {
                ring.pop_front();
            }
            ring.push_back(point.clone());
        }
    }

    /// The position of a plan; none where there are too many.
    fn position(&mut self, plan: &str) -> Option<usize> {
        if let Some(at) = self.plans.iter().position(|known| known == plan) {
            return Some(at);
        }
        // The named plans, and all others together.
        (self.plans.len() <= PLANS_MAX).then(|| {
            self.plans.push(plan.to_owned());
            self.plans.len() - 1
        })
    }

    fn note(&mut self, tick: u64, at_ms: u64, model: &ServedModel) {
        let stats = model.stats();
        let (kept, late) = stats.deadlines();
        let mut point = Point {
            at_ms,
            answered: stats.success.count(),
            kept,
            late,
            refused: stats.failures(Reason::Rejected),
            waiting: model.waiting() as u64,
            ..Point::default()
        };
        point.failed = stats.fail.count().saturating_sub(point.refused);
        for (_, times) in stats.plan_times() {
            let seen = times.request.seen();
            let sums = point.durations.iter_mut().zip(seen.up_to);
            sums.for_each(|(sum, more)| *sum += more);
        }
        for (plan, answers) in stats.plans() {
            if let Some(at) = self.position(plan) {
                set(&mut point.by_plan, at, answers);
            }
        }
        for audit in model.audits() {
            if let Some(at) = self.position(&audit.plan) {
                set(
                    &mut point.audits,
                    at,
                    Some((audit.promised, audit.observed)),
                );
            }
        }
        self.add(tick, &point);
    }
}

/// Sets an element of a list that is as long as it has to be.
fn set<T: Default + Clone>(list: &mut Vec<T>, at: usize, value: T) {
    if list.len() <= at {
        list.resize(at + 1, T::default());
    }
    list[at] = value;
}

/// What all models have done.
#[derive(Debug, Default)]
pub(super) struct History {
    ticks: u64,
    models: BTreeMap<(String, String), ModelHistory>,
}

impl History {
    fn note(&mut self, models: &[Arc<ServedModel>], at_ms: u64) {
        let key = |model: &ServedModel| (model.name().to_owned(), model.version().to_owned());
        let served: Vec<_> = models.iter().map(|model| key(model)).collect();
        self.models.retain(|key, _| served.contains(key));
        for (model, key) in models.iter().zip(served) {
            let history = self.models.entry(key).or_default();
            history.note(self.ticks, at_ms, model);
        }
        self.ticks += 1;
    }
}

impl Service {
    /// Notes every second what the models have done, until the service is drained.
    pub async fn keep_history(&self) {
        let drained = self.drained();
        let mut drained = std::pin::pin!(drained);
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = &mut drained => return,
                _ = interval.tick() => self.note(),
            }
        }
    }

    /// Notes what the models have done until now.
    pub fn note(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let at_ms = now.map_or(0, |now| now.as_millis() as u64);
        let models = self.versions();
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.note(&models, at_ms);
    }

    /// The plans of a version of a model, and its points of a range that are later than `since` milliseconds; nothing where
    /// it was not noted yet.
    pub(crate) fn history_of(
        &self,
        model: &ServedModel,
        range: Range,
        since: u64,
    ) -> (Vec<String>, Vec<Point>) {
        let key = (model.name().to_owned(), model.version().to_owned());
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(history) = history.models.get(&key) else {
            return <_>::default();
        };
        let points = history.points(range, since).cloned();
        (history.plans.clone(), points.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_bounded_and_keep_the_latest() {
        let mut history = ModelHistory::default();
        for tick in 0..200_000 {
            let point = Point {
                at_ms: 1000 * tick,
                answered: tick,
                ..Point::default()
            };
            history.add(tick, &point);
        }
        for range in Range::ALL {
            let points: Vec<&Point> = history.points(range, 0).collect();
            assert_eq!(points.len(), range.points_max());
            let steps = points.windows(2).map(|pair| pair[1].at_ms - pair[0].at_ms);
            assert!(steps.into_iter().all(|step| step == 1000 * range.step()));
            assert!(points.last().unwrap().at_ms > 199_999_000 - 1000 * range.step());
        }
        let after = history.points(Range::Minutes, 199_990_000);
        assert_eq!(after.count(), 9);
    }

    #[test]
    fn plans_are_bounded() {
        let mut history = ModelHistory::default();
        for plan in 0..100 {
            history.position(&plan.to_string());
        }
        assert_eq!(history.plans.len(), PLANS_MAX + 1);
        assert_eq!(history.position("0"), Some(0));
        assert_eq!(history.position("99"), None);
    }
}
