//! Measuring a profile on held-out queries.

use super::{
    calibration::{Classes, Observation, Seen},
    cost::{Coefficients, CostModel, Timing},
    file::{FORMAT, Origin, PlanProfile, Profile},
};
use crate::{
    Answer, GraphEngine, GraphError, ModelDir, Plan, QueryBatch, argmax,
    run::{Forecast, Work},
};
use satisfice_core::Measure;
use satisfice_store::{Progress, Queries, QuerySlice};
use serde::{Deserialize, Serialize};
use std::time::Instant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileOptions {
    /// Plans to offer; `exact` is always among them.
    pub plans: Vec<Plan>,
    /// Queries in a batch; every query is measured once at each size.
    pub batches: Vec<usize>,
    /// The largest number of queries to use.
    pub limit: usize,
    /// Batches of each size whose time is taken.
    pub timed: usize,
}

/// A profile, and what was seen on the way to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProfileReport {
    /// What the model version gets.
    #[serde(skip)]
    pub profile: Profile,
    /// Plans at each batch size.
    pub rows: Vec<PlanRow>,
    /// How the promises held on the half of the queries that their calibration had not seen.
    pub coverage: Vec<Coverage>,
    /// How times were predicted on that half.
    pub time_error: TimeError,
}

/// One plan at one batch size, on the half of the queries that its calibration had not seen.
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
    /// Classes of batches: of one plan and batch size, by what was expected of them.
    pub classes: usize,
    /// Of them, those whose share of good answers was at least what was promised.
    pub classes_met: usize,
    /// Batches in them.
    pub batches: usize,
    /// Of them, those whose own share was at least what was promised.
    pub batches_met: usize,
}

/// Relative errors of predicted times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TimeError {
    /// Timed batches that took a millisecond or more.
    pub batches: usize,
    /// Median of |predicted / observed - 1| among them.
    pub p50: f64,
    /// The 90 % quantile.
    pub p90: f64,
}

/// How often a timed batch is run; the least time counts, as it is the one that nothing disturbed.
const REPEATS: usize = 5;

/// Measures a model on held-out queries: each query once at every batch size, by every plan, in a
/// fixed random order. One half calibrates and the other half checks; the profile is then made of
/// both.
///
/// # Errors
/// [`GraphError::Request`] where the queries do not fit the graph, or are too few;
/// [`GraphError::Store`] and [`GraphError::Io`] where files cannot be read.
pub fn profile(
    engine: &GraphEngine,
    model_dir: &ModelDir,
    queries: &Queries,
    options: &ProfileOptions,
    progress: &dyn Progress,
) -> Result<ProfileReport, GraphError> {
    let plans = ordered(&options.plans)?;
    let order = shuffled(queries.len(), options.limit);
    if order.len() < QUERIES_MIN {
        return Err(GraphError::request(
            "too_few_queries",
            format!(
                "a profile needs {QUERIES_MIN} held-out queries at least, not {}",
                order.len()
            ),
        ));
    }
    let halves = order.split_at(order.len() / 2);
    let total = order.len() * options.batches.len();
    progress.start("measuring plans", Some(total as u64));
    let mut measured = [Vec::new(), Vec::new()];
    for &size in &options.batches {
        for (half, measured) in [halves.0, halves.1].into_iter().zip(&mut measured) {
            for (index, positions) in half.chunks(size).enumerate() {
                let slice = queries.select(positions);
                let timed = 2 * index < options.timed;
                measured.push(Measured::new(engine, &slice, size, &plans, timed)?);
                progress.advance(positions.len() as u64);
            }
        }
    }
    progress.finish();
    let [first, second] = measured;
    let passes = options.batches.len();
    let trial = Fitted::new(&plans, &[&first]);
    let coverage = trial.coverage(&second, passes);
    let all = Fitted::new(&plans, &[&first, &second]);
    let labels = queries.labels().unwrap_or(&[]);
    let profile = Profile {
        format: FORMAT,
        belongs_to: Origin::of(model_dir, engine.store())?,
        queries: order.len(),
        labelled: order
            .iter()
            .filter(|&&q| labels.get(q as usize).is_some_and(|&l| l >= 0))
            .count(),
        batches: options.batches.clone(),
        coverage: coverage.clone(),
        cost: all.cost,
        plans: all.plans,
    };
    Ok(ProfileReport {
        rows: trial.rows(&second, &options.batches),
        time_error: trial.time_error(&second),
        coverage,
        profile,
    })
}

/// Fewer would promise next to nothing.
const QUERIES_MIN: usize = 100;

/// The plans, cheapest first, with `exact`, each once.
fn ordered(plans: &[Plan]) -> Result<Vec<Plan>, GraphError> {
    let share = |plan: &Plan| match plan {
        Plan::Precomputed => -1.0,
        Plan::Recompute { budget, .. } => *budget,
        Plan::Exact => 2.0,
    };
    let mut plans = [plans, &[Plan::Exact]].concat();
    if let Some(plan) = plans.iter().find(|plan| plan.is_oracle()) {
        return Err(GraphError::request(
            "unknown_plan",
            format!("`{plan}` cannot be predicted: it looks at its own outcome"),
        ));
    }
    plans.sort_by(|a, b| share(a).total_cmp(&share(b)));
    plans.dedup();
    Ok(plans)
}

/// Positions of up to `limit` queries in a fixed random order: a file's own order may put alike
/// queries together.
fn shuffled(queries: usize, limit: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..queries as u32).collect();
    order.sort_by_cached_key(|query| xxh3_64_with_seed(&query.to_le_bytes(), SHUFFLE_SEED));
    order.truncate(limit);
    order
}

const SHUFFLE_SEED: u64 = 41;

/// A batch, answered by every plan.
struct Measured {
    size: usize,
    in_degrees: Vec<u32>,
    plans: Vec<MeasuredPlan>,
}

struct MeasuredPlan {
    forecast: Forecast,
    observations: Vec<Observation>,
    seconds: Option<f64>,
}

impl Measured {
    fn new(
        engine: &GraphEngine,
        slice: &QuerySlice,
        size: usize,
        plans: &[Plan],
        timed: bool,
    ) -> Result<Self, GraphError> {
        let batch = engine.attach(slice.into())?;
        let in_degrees = batch.in_degrees();
        let forecasts = engine.forecast(&batch, plans)?;
        let exact = classes(&engine.answer(&batch, Plan::Exact)?, &batch);
        let mut measured = Vec::with_capacity(plans.len());
        for (&plan, forecast) in plans.iter().zip(forecasts) {
            let (answer, seconds) = match timed {
                true => {
                    let (answer, seconds) = time(engine, slice, plan)?;
                    (answer, Some(seconds))
                }
                false => (engine.answer(&batch, plan)?, None),
            };
            let found = classes(&answer, &batch);
            let observe = |query: usize| Observation {
                in_degree: in_degrees[query],
                stale: forecast.stale[query],
                agrees: found[query] == exact[query],
                right: slice
                    .labels
                    .as_ref()
                    .map(|labels| labels[query])
                    .filter(|label| *label >= 0)
                    .map(|label| label == found[query]),
            };
            measured.push(MeasuredPlan {
                observations: (0..batch.queries()).map(observe).collect(),
                forecast,
                seconds,
            });
        }
        Ok(Self {
            size,
            in_degrees,
            plans: measured,
        })
    }
}

fn classes(answer: &Answer, batch: &QueryBatch) -> Vec<i64> {
    let width = answer.outputs.len() / batch.queries();
    answer.outputs.chunks_exact(width).map(argmax).collect()
}

/// Answers a batch several times, as requests do, and returns the least time.
fn time(engine: &GraphEngine, slice: &QuerySlice, plan: Plan) -> Result<(Answer, f64), GraphError> {
    let run = || -> Result<(Answer, f64), GraphError> {
        let attachment = slice.into();
        let start = Instant::now();
        let batch = engine.attach(attachment)?;
        let answer = engine.answer(&batch, plan)?;
        Ok((answer, start.elapsed().as_secs_f64()))
    };
    let (answer, mut least) = run()?;
    for _ in 1..REPEATS {
        least = least.min(run()?.1);
    }
    Ok((answer, least.max(1e-9)))
}

/// What a set of measured batches teaches.
struct Fitted {
    plans: Vec<PlanProfile>,
    cost: CostModel,
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
    fn new(plans: &[Plan], measured: &[&Vec<Measured>]) -> Self {
        let batches = || measured.iter().flat_map(|part| part.iter());
        let of_plan = |plan: usize| {
            let observations = batches().flat_map(|batch| batch.plans[plan].observations.clone());
            PlanProfile {
                plan: plans[plan],
                classes: Classes::fit(observations.collect()),
            }
        };
        let timings = |exact: bool| -> Vec<Timing> {
            let chosen = (0..plans.len()).filter(|&p| (plans[p] == Plan::Exact) == exact);
            let of_plan =
                |plan: usize| batches().filter_map(move |batch| batch.plans[plan].timing());
            chosen.flat_map(of_plan).collect()
        };
        Self {
            plans: (0..plans.len()).map(of_plan).collect(),
            cost: CostModel {
                selective: Coefficients::fit(&timings(false)),
                exact: Coefficients::fit(&timings(true)),
            },
        }
    }

    /// What was promised of a batch and found. Only queries with a label count for accuracy.
    fn tally(&self, plan: usize, batch: &Measured, measure: Measure, passes: usize) -> Tally {
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
        match self.plans[plan].quality(measure, seen, passes) {
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

    fn coverage(&self, measured: &[Measured], passes: usize) -> Vec<Coverage> {
        let of_measure = |measure: Measure| {
            let mut coverage = Coverage {
                measure: measure.name().to_owned(),
                classes: 0,
                classes_met: 0,
                batches: 0,
                batches_met: 0,
            };
            for plan in 0..self.plans.len() {
                if self.plans[plan].plan == Plan::Exact && measure == Measure::Fidelity {
                    continue;
                }
                for batches in measured.chunk_by(|a, b| a.size == b.size) {
                    let tallies = batches.iter().map(|b| self.tally(plan, b, measure, passes));
                    coverage.add(tallies.filter(|tally| tally.queries > 0.0).collect());
                }
            }
            coverage
        };
        let both = [Measure::Accuracy, Measure::Fidelity].map(of_measure);
        both.into_iter()
            .filter(|coverage| coverage.classes > 0)
            .collect()
    }

    fn rows(&self, measured: &[Measured], sizes: &[usize]) -> Vec<PlanRow> {
        let mut rows = Vec::new();
        for &size in sizes {
            let batches: Vec<&Measured> = measured.iter().filter(|b| b.size == size).collect();
            for plan in 0..self.plans.len() {
                rows.push(self.row(plan, size, &batches, sizes.len()));
            }
        }
        rows
    }

    fn row(&self, plan: usize, size: usize, batches: &[&Measured], passes: usize) -> PlanRow {
        let total = |measure| {
            let tallies = batches.iter().map(|b| self.tally(plan, b, measure, passes));
            tallies.fold(Tally::default(), Tally::plus)
        };
        let (accuracy, fidelity) = (total(Measure::Accuracy), total(Measure::Fidelity));
        let timings: Vec<Timing> = batches
            .iter()
            .filter_map(|b| b.plans[plan].timing())
            .collect();
        let ms = |seconds: Vec<f64>| quantile(seconds, 0.5).map(|s| s * 1e3);
        let predicted = |timing: &Timing| self.cost.seconds(self.plans[plan].plan, &timing.work);
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

    fn time_error(&self, measured: &[Measured]) -> TimeError {
        let mut errors = Vec::new();
        for batch in measured {
            for (profile, plan) in self.plans.iter().zip(&batch.plans) {
                if let Some(timing) = plan.timing().filter(|timing| timing.seconds >= 1e-3) {
                    let predicted = self.cost.seconds(profile.plan, &timing.work);
                    errors.push((predicted / timing.seconds - 1.0).abs());
                }
            }
        }
        TimeError {
            batches: errors.len(),
            p50: quantile(errors.clone(), 0.5).unwrap_or(0.0),
            p90: quantile(errors, 0.9).unwrap_or(0.0),
        }
    }
}

impl MeasuredPlan {
    fn timing(&self) -> Option<Timing> {
        let work: Work = self.forecast.work;
        self.seconds.map(|seconds| Timing { work, seconds })
    }
}

/// Classes that the batches of one plan and size are sorted into.
const CLASSES: usize = 3;

impl Coverage {
    /// Adds the batches of one plan and size.
    fn add(&mut self, mut tallies: Vec<Tally>) {
        if tallies.is_empty() {
            return;
        }
        tallies.sort_by(|a, b| {
            let share = |tally: &Tally| tally.expected / tally.queries;
            share(a).total_cmp(&share(b))
        });
        for class in tallies.chunks(tallies.len().div_ceil(CLASSES)) {
            let sum = class.iter().copied().fold(Tally::default(), Tally::plus);
            self.classes += 1;
            self.classes_met += usize::from(sum.met());
        }
        self.batches += tallies.len();
        self.batches_met += tallies.iter().filter(|tally| tally.met()).count();
    }
}

/// The nearest-rank quantile; nothing of nothing.
fn quantile(mut values: Vec<f64>, share: f64) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}
