//! What measured batches teach, and how it holds on others.

use super::{
    calibration::{Classes, Observation, Seen},
    cost::{Coefficients, CostModel, Timing},
    file::{PlanProfile, SizeProfile},
    measure::{Measured, MeasuredPlan},
};
use crate::Plan;
use satisfice_core::Measure;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One plan at one batch size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanRow {
    /// Name of the plan.
    pub plan: String,
    /// Queries in a batch.
    pub batch: usize,
    /// Share of right answers among queries with a label.
    pub accuracy: Option<f64>,
    /// What was expected of it, on average over the batches.
    pub expected_accuracy: Option<f64>,
    /// The lower bound promised, on average over the batches.
    pub lower_accuracy: Option<f64>,
    /// Share of answers that are as the exact ones.
    pub fidelity: f64,
    /// What was expected of it.
    pub expected_fidelity: f64,
    /// The lower bound promised.
    pub lower_fidelity: f64,
    /// Median time of a timed batch, in milliseconds.
    pub ms: Option<f64>,
    /// Median of the times predicted for them.
    pub predicted_ms: Option<f64>,
}

/// How promises of one measure held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    /// `accuracy` or `fidelity`.
    pub measure: String,
    /// Classes of batches: of one plan and batch size, by their stale share; over several ways to
    /// cut the queries in two.
    pub classes: usize,
    /// Of them, those whose share of good answers was at least what was promised.
    pub classes_met: usize,
    /// Batches in them.
    pub batches: usize,
    /// Of them, those whose own share was at least what was promised.
    pub batches_met: usize,
}

/// Relative errors of times predicted from a part of the batches, on the others; over several ways to cut them in
/// two.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TimeError {
    /// Times of a millisecond or more that were compared.
    pub times: usize,
    /// Median of |predicted / observed - 1| among them.
    pub p50: f64,
    /// The 90 % quantile.
    pub p90: f64,
}

/// What a set of measured batches teaches.
pub(super) struct Fitted {
    pub(super) plans: Vec<PlanProfile>,
    pub(super) cost: CostModel,
}

/// What was promised and found, summed over queries.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    queries: f64,
    good: f64,
    expected: f64,
    lower: f64,
}

impl Tally {
    fn plus(self, other: Self) -> Self {
        Self {
            queries: self.queries + other.queries,
            good: self.good + other.good,
            expected: self.expected + other.expected,
            lower: self.lower + other.lower,
        }
    }

    fn met(&self) -> bool {
        self.good >= self.lower
    }

    /// A sum as a share of the queries, where there are some.
    fn share(&self, sum: f64) -> Option<f64> {
        (self.queries > 0.0).then(|| sum / self.queries)
    }
}

impl Fitted {
    pub(super) fn new(plans: &[Plan], measured: &[&Measured]) -> Self {
        let batches = || measured.iter();
        let sizes: BTreeSet<usize> = batches().map(|batch| batch.size).collect();
        let timings = |exact: bool| -> Vec<Timing> {
            let chosen = (0..plans.len()).filter(|&p| (plans[p] == Plan::Exact) == exact);
            let of_plan =
                |plan: usize| batches().filter_map(move |batch| batch.plans[plan].timing());
            chosen.flat_map(of_plan).collect()
        };
        let cost = CostModel {
            selective: Coefficients::fit(&timings(false)),
            exact: Coefficients::fit(&timings(true)),
        };
        let of_size = |plan: usize, size: usize| {
            let of_size = || batches().filter(|batch| batch.size == size);
            let observations = of_size().flat_map(|batch| batch.plans[plan].observations.clone());
            let timings = of_size().filter_map(|batch| batch.plans[plan].timing());
            SizeProfile {
                batch: size,
                time_ratio: cost.ratio(plans[plan], timings),
                classes: Classes::fit(observations.collect()),
            }
        };
        let of_plan = |plan: usize| PlanProfile {
            plan: plans[plan],
            sizes: sizes.iter().map(|&size| of_size(plan, size)).collect(),
        };
        Self {
            plans: (0..plans.len()).map(of_plan).collect(),
            cost,
        }
    }

    /// What was promised of a batch and found. Only queries with a label count for accuracy.
    fn tally(&self, plan: usize, batch: &Measured, measure: Measure) -> Tally {
        let MeasuredPlan {
            forecast,
            observations,
            ..
        } = &batch.plans[plan];
        let judged = |o: &Observation| match measure {
            Measure::Accuracy => o.right,
            Measure::Fidelity => Some(o.agrees),
        };
        let outcomes: Vec<bool> = observations.iter().filter_map(judged).collect();
        let seen = Seen {
            in_degrees: &batch.in_degrees,
            stale: &forecast.stale,
        };
        match self.plans[plan].quality(measure, seen) {
            Some(quality) if !outcomes.is_empty() => {
                let queries = outcomes.len() as f64;
                Tally {
                    queries,
                    good: outcomes.iter().filter(|good| **good).count() as f64,
                    expected: quality.expected * queries,
                    lower: quality.lower * queries,
                }
            }
            _ => Tally::default(),
        }
    }

    /// Adds how the promises hold on batches that were not fitted.
    pub(super) fn check(&self, measured: &[&Measured], coverage: &mut Vec<Coverage>) {
        let sizes: BTreeSet<usize> = measured.iter().map(|batch| batch.size).collect();
        for measure in [Measure::Accuracy, Measure::Fidelity] {
            for plan in 0..self.plans.len() {
                if self.plans[plan].plan == Plan::Exact && measure == Measure::Fidelity {
                    continue;
                }
                for &size in &sizes {
                    let batches = measured.iter().filter(|batch| batch.size == size);
                    let mut tallies: Vec<(f32, Tally)> = batches
                        .map(|b| (b.stale(plan), self.tally(plan, b, measure)))
                        .filter(|(_, tally)| tally.queries > 0.0)
                        .collect();
                    tallies.sort_by(|a, b| a.0.total_cmp(&b.0));
                    let tallies: Vec<Tally> = tallies.into_iter().map(|(_, t)| t).collect();
                    Coverage::of(measure, coverage).add(&tallies);
                }
            }
        }
        coverage.retain(|coverage| coverage.classes > 0);
    }

    pub(super) fn rows(&self, measured: &[&Measured], sizes: &[usize]) -> Vec<PlanRow> {
        let mut rows = Vec::new();
        for &size in sizes {
            let of_size = measured.iter().filter(|batch| batch.size == size);
            let batches: Vec<&Measured> = of_size.copied().collect();
            for plan in 0..self.plans.len() {
                rows.push(self.row(plan, size, &batches));
            }
        }
        rows
    }

    fn row(&self, plan: usize, size: usize, batches: &[&Measured]) -> PlanRow {
        let total = |measure| {
            let tallies = batches.iter().map(|b| self.tally(plan, b, measure));
            tallies.fold(Tally::default(), Tally::plus)
        };
        let (accuracy, fidelity) = (total(Measure::Accuracy), total(Measure::Fidelity));
        let timings: Vec<Timing> = batches
            .iter()
            .filter_map(|b| b.plans[plan].timing())
            .collect();
        let ms = |seconds: Vec<f64>| quantile(seconds, 0.5).map(|s| s * 1e3);
        let predicted = |t: &Timing| self.plans[plan].seconds(&self.cost, &t.work, size);
        PlanRow {
            plan: self.plans[plan].plan.to_string(),
            batch: size,
            accuracy: accuracy.share(accuracy.good),
            expected_accuracy: accuracy.share(accuracy.expected),
            lower_accuracy: accuracy.share(accuracy.lower),
            fidelity: fidelity.share(fidelity.good).unwrap_or(0.0),
            expected_fidelity: fidelity.share(fidelity.expected).unwrap_or(0.0),
            lower_fidelity: fidelity.share(fidelity.lower).unwrap_or(0.0),
            ms: ms(timings.iter().map(|timing| timing.seconds).collect()),
            predicted_ms: ms(timings.iter().map(predicted).collect()),
        }
    }

    /// Relative errors of the times predicted for batches that were not fitted, of those that took a millisecond
    /// or more.
    pub(super) fn time_errors(&self, measured: &[&Measured]) -> Vec<f64> {
        let mut errors = Vec::new();
        for batch in measured {
            for (profile, plan) in self.plans.iter().zip(&batch.plans) {
                if let Some(timing) = plan.timing().filter(|timing| timing.seconds >= 1e-3) {
                    let predicted = profile.seconds(&self.cost, &timing.work, batch.size);
                    errors.push((predicted / timing.seconds - 1.0).abs());
                }
            }
        }
        errors
    }
}

impl TimeError {
    pub(super) fn of(errors: Vec<f64>) -> Self {
        Self {
            times: errors.len(),
            p50: quantile(errors.clone(), 0.5).unwrap_or(0.0),
            p90: quantile(errors, 0.9).unwrap_or(0.0),
        }
    }
}

/// Classes that the batches of one plan and size are sorted into.
pub(super) const CLASSES: usize = 3;

impl Coverage {
    /// The entry of a measure, which is made where there is none.
    fn of(measure: Measure, list: &mut Vec<Self>) -> &mut Self {
        let name = measure.name();
        let at = list.iter().position(|coverage| coverage.measure == name);
        let at = at.unwrap_or_else(|| {
            list.push(Self {
                measure: name.to_owned(),
                classes: 0,
                classes_met: 0,
                batches: 0,
                batches_met: 0,
            });
            list.len() - 1
        });
        &mut list[at]
    }

    /// Adds the batches of one plan and size, ordered by what was known of them.
    fn add(&mut self, tallies: &[Tally]) {
        for class in tallies.chunks(tallies.len().div_ceil(CLASSES).max(1)) {
            let sum = class.iter().copied().fold(Tally::default(), Tally::plus);
            self.classes += 1;
            self.classes_met += usize::from(sum.met());
        }
        self.batches += tallies.len();
        self.batches_met += tallies.iter().filter(|tally| tally.met()).count();
    }
}

/// The nearest-rank quantile; nothing of nothing.
pub(super) fn quantile(mut values: Vec<f64>, share: f64) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}
