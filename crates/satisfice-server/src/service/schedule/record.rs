//! What has been seen of one plan: how long it takes, and whether it is as good as promised.

use satisfice_core::{Measure, Quality, Strategy};
use satisfice_planner::{AccuracyAudit, LatencyDrift, Pace, STRATEGIES_MAX, Timing};
use std::collections::{BTreeMap, VecDeque};

/// Plans of one model that are followed: as many as can be planned with. Clients may name any number of them.
const RECORDS_MAX: usize = STRATEGIES_MAX;

/// By how much an agreement has to be lower than promised to be noticed soon.
const SHORTFALL: f64 = 0.05;

/// Mean number of audited inputs between two false alarms while promises hold, at least.
const INPUTS_BETWEEN_FALSE_ALARMS: f64 = 1e5;

/// Audited inputs that a lowered bound rests on.
const RECENT_MAX: usize = 64;

/// How far the lengths of executions are from each other that have a pace of their own: what each begins with, waking
/// threads and filling caches, is much of a short one, and nothing of a long one.
const LENGTHS_APART: f64 = 8.0;

/// The shortest length that is told apart, in seconds, and how many are.
const SHORTEST: f64 = 1e-5;
const LENGTHS: usize = 10;

/// What was seen of a model's plans.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    plans: BTreeMap<String, Record>,
    /// By the length of executions.
    paces: [Pace; LENGTHS],
}

/// How long an execution is, as far as paces go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Length(usize);

impl Length {
    /// Of batches, which are of all sizes and by strategies that are compared with each other.
    pub(super) const ANY: Self = Self(0);

    /// Of a request that is executed whole, which the engine said takes so many seconds.
    pub(super) fn of(seconds: f64) -> Self {
        let apart = (seconds / SHORTEST).ln() / LENGTHS_APART.ln();
        // What is no number counts as short.
        Self((apart.max(0.0) as usize).min(LENGTHS - 1))
    }
}

impl Records {
    pub(super) fn get(&self, plan: &str) -> Option<&Record> {
        self.plans.get(plan)
    }

    /// The plan's record; none where there are too many.
    pub(super) fn of(&mut self, plan: &str) -> Option<&mut Record> {
        if self.plans.len() >= RECORDS_MAX && !self.plans.contains_key(plan) {
            return None;
        }
        Some(self.plans.entry(plan.to_owned()).or_default())
    }

    /// Takes in one execution of a plan; whether all are to be planned anew at once.
    pub(super) fn timed(&mut self, plan: &str, timing: Timing, length: Length) -> bool {
        let mut pace = self.paces[length.0];
        let Some(record) = self.of(plan) else {
            return false;
        };
        // What has no sensible time says nothing.
        let Ok(noticed) = record.drift.observe(timing, &mut pace) else {
            return false;
        };
        self.paces
            .iter_mut()
            .for_each(|pace| pace.forget(timing.observed));
        self.paces[length.0] = pace;
        for (other, record) in &mut self.plans {
            if other != plan {
                record.drift.forget(timing.observed);
            }
        }
        noticed
    }

    /// What predicted times of the plan are to be multiplied by, for executions of a length.
    pub(super) fn scale(&self, plan: &str, length: Length) -> f64 {
        let unseen = LatencyDrift::default();
        let drift = self.get(plan).map_or(&unseen, |record| &record.drift);
        drift.scale(self.paces[length.0])
    }

    /// As `scale`, for batches by each of `strategies`.
    pub(super) fn scales(&self, strategies: &[Strategy]) -> Vec<f64> {
        let scale = |strategy: &Strategy| self.scale(&strategy.name, Length::ANY);
        strategies.iter().map(scale).collect()
    }

    /// What may be promised of a plan that was measured as `quality`, on inputs on which the dearest
    /// plan is as good as `dearest`.
    pub(super) fn quality(
        &self,
        plan: &str,
        quality: Quality,
        dearest: Option<Quality>,
    ) -> Quality {
        match self.get(plan).and_then(|record| record.found) {
            None => quality,
            Some(found) => found.bound(quality, dearest),
        }
    }

    /// Promises and findings of the plans that were audited, by plan.
    pub(super) fn audits(&self) -> Vec<PlanAudit> {
        let audit = |(plan, record): (&String, &Record)| {
            record.audit.as_ref()?;
            Some(PlanAudit {
                plan: plan.clone(),
                promised: record.promised,
                observed: record.agreed as f64 / record.audited.max(1) as f64,
                inputs: record.audited,
                alarms: record.alarms,
            })
        };
        self.plans.iter().filter_map(audit).collect()
    }
}

/// What audits say of one plan.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanAudit {
    /// The plan.
    pub plan: String,
    /// Share of inputs on which it has to agree with the dearest plan at least, for its promises to
    /// hold.
    pub promised: f64,
    /// Share of audited inputs on which it did.
    pub observed: f64,
    /// Inputs audited.
    pub inputs: u64,
    /// How often the promise was found broken and lowered.
    pub alarms: u64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    drift: LatencyDrift,
    audit: Option<AccuracyAudit>,
    promised: f64,
    audited: u64,
    agreed: u64,
    alarms: u64,
    recent: VecDeque<bool>,
    found: Option<Found>,
}

impl Record {
    /// Takes in, input by input, whether the plan agreed with the dearest one, which it should on a
    /// share `promised`; whether that was found to be wrong, and less is promised from now on.
    pub(super) fn audited(&mut self, promised: f64, agreed: &[bool]) -> bool {
        let mut broken = false;
        for &agreed in agreed {
            if self.audit.is_none() {
                self.promised = promised.clamp(0.002, 0.999);
                self.audit = audit(self.promised);
            }
            let Some(audit) = &mut self.audit else {
                return broken;
            };
            self.audited += 1;
            self.agreed += u64::from(agreed);
            self.recent.push_back(agreed);
            if self.recent.len() > RECENT_MAX {
                self.recent.pop_front();
            }
            if audit.observe(agreed) {
                broken = true;
                self.lower();
            }
        }
        broken
    }

    fn lower(&mut self) {
        let inputs = self.recent.len() as f64;
        let share = self.recent.iter().filter(|&&agreed| agreed).count() as f64 / inputs;
        let found = Found {
            expected: share,
            lower: wilson(share, inputs).min(self.promised),
        };
        self.found = Some(found);
        self.alarms += 1;
        self.promised = found.lower.clamp(0.002, 0.999);
        self.audit = audit(self.promised);
    }
}

fn audit(promised: f64) -> Option<AccuracyAudit> {
    let shortfall = SHORTFALL.min(promised / 2.0);
    AccuracyAudit::new(promised, shortfall, INPUTS_BETWEEN_FALSE_ALARMS).ok()
}

/// Lower end of the 95 % interval of a share.
///
/// # Source
/// Wilson 1927.
fn wilson(share: f64, count: f64) -> f64 {
    let z = 1.96_f64;
    let centre = share + z * z / (2.0 * count);
    let spread = z * (share * (1.0 - share) / count + z * z / (4.0 * count * count)).sqrt();
    ((centre - spread) / (1.0 + z * z / count)).max(0.0)
}

/// On what share of inputs a plan agrees with the dearest one, as audits found.
#[derive(Debug, Clone, Copy)]
struct Found {
    expected: f64,
    lower: f64,
}

impl Found {
    /// `quality`, but no better than what was found: where a plan agrees with a right answer, it is
    /// right too.
    fn bound(self, quality: Quality, dearest: Option<Quality>) -> Quality {
        let wrong = |right: fn(Quality) -> f64| match quality.measure {
            Measure::Fidelity => 0.0,
            Measure::Accuracy => 1.0 - dearest.map_or(0.0, right),
        };
        let lower = (self.lower - wrong(|dearest| dearest.lower)).max(0.0);
        let expected = (self.expected - wrong(|dearest| dearest.expected)).max(lower);
        Quality {
            expected: quality.expected.min(expected),
            lower: quality.lower.min(lower),
            ..quality
        }
    }
}

/// On what share of inputs a plan has to agree with the dearest one at least, if both are as good
/// as promised: a fidelity is that share; of two accuracies the sum less one.
pub(super) fn agreement(plan: &[Quality], dearest: &[Quality]) -> Option<f64> {
    let lower = |qualities: &[Quality], measure| {
        let mut found = qualities
            .iter()
            .filter(|quality| quality.measure == measure);
        found.next().map(|quality| quality.lower)
    };
    lower(plan, Measure::Fidelity).or_else(|| {
        let sum = lower(plan, Measure::Accuracy)? + lower(dearest, Measure::Accuracy)?;
        Some((sum - 1.0).max(0.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIDELITY: Quality = Quality {
        measure: Measure::Fidelity,
        expected: 0.96,
        lower: 0.95,
    };

    #[test]
    fn a_wrong_promise_is_lowered_and_then_holds() {
        let mut records = Records::default();
        let record = records.of("cheap").unwrap();
        let audited = (0..1000).find(|&i| record.audited(0.95, &[i % 2 == 0]));
        // (ln 1e5 + 0.69) / (0.5 * 0.69 - 0.5 * 0.05) inputs.
        assert!((20..=60).contains(&audited.unwrap()), "{audited:?}");
        let quality = records.quality("cheap", FIDELITY, None);
        assert!(quality.lower < 0.5 && quality.lower > 0.3, "{quality:?}");
        let accuracy = Quality {
            measure: Measure::Accuracy,
            ..FIDELITY
        };
        let bounded = records.quality("cheap", accuracy, Some(accuracy));
        assert!((bounded.lower - (quality.lower - 0.05)).abs() < 1e-9);
        let record = records.of("cheap").unwrap();
        assert!((0..1000).all(|i| !record.audited(0.95, &[i % 2 == 0])));
        assert_eq!(records.audits()[0].alarms, 1);
    }

    #[test]
    fn a_promise_that_holds_stays() {
        let mut records = Records::default();
        let record = records.of("cheap").unwrap();
        assert!((0..5000).all(|i| !record.audited(0.95, &[i % 25 != 0])));
        assert_eq!(records.quality("cheap", FIDELITY, None), FIDELITY);
        assert_eq!(records.quality("other", FIDELITY, None), FIDELITY);
    }

    #[test]
    fn a_plan_that_was_slow_long_ago_is_not_so_for_good() {
        let mut records = Records::default();
        let timing = |observed| Timing {
            planned: 0.1,
            work: 0.1,
            observed,
        };
        let noticed = (0..40).filter(|_| records.timed("once slow", timing(0.5), Length::ANY));
        assert!(noticed.count() > 1);
        assert!(records.scale("once slow", Length::ANY) > 4.0);
        for _ in 0..10_000 {
            records.timed("other", timing(0.1), Length::ANY);
        }
        assert!(records.scale("once slow", Length::ANY) < 1.1);
        assert!((records.scale("other", Length::ANY) - 1.0).abs() < 0.01);
    }

    #[test]
    fn what_a_short_plan_begins_with_is_not_charged_to_a_long_one() {
        let mut records = Records::default();
        let (short, long) = (0.001, 0.020);
        let timing = |planned, observed| Timing {
            planned,
            work: planned,
            observed,
        };
        for _ in 0..100 {
            records.timed("short", timing(short, short + 0.0013), Length::of(short));
        }
        let scale = records.scale("short", Length::of(short));
        assert!((scale / 2.3).ln().abs() < 0.02, "{scale}");
        let scale = records.scale("long", Length::of(long));
        assert!((scale - 1.0).abs() < 1e-9, "{scale}");
        // Plans of one length have one pace.
        let scale = records.scale("another", Length::of(1.2 * short));
        assert!(scale > 1.7, "{scale}");
        for seconds in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e9] {
            assert!(records.scale("long", Length::of(seconds)).is_finite());
        }
    }

    #[test]
    fn plans_that_are_followed_are_bounded() {
        let mut records = Records::default();
        for plan in 0..RECORDS_MAX + 9 {
            let record = records.of(&plan.to_string());
            assert_eq!(record.is_some(), plan < RECORDS_MAX);
        }
        assert!(records.of("3").is_some());
    }

    #[test]
    fn of_two_accuracies_an_agreement_follows() {
        let accuracy = |lower| Quality {
            measure: Measure::Accuracy,
            expected: lower,
            lower,
        };
        assert_eq!(agreement(&[accuracy(0.75)], &[accuracy(0.75)]), Some(0.5));
        assert_eq!(agreement(&[accuracy(0.2)], &[accuracy(0.2)]), Some(0.0));
        assert_eq!(agreement(&[accuracy(0.2), FIDELITY], &[]), Some(0.95));
        assert_eq!(agreement(&[], &[FIDELITY]), None);
    }
}
