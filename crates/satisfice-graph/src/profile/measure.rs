//! Measuring a profile on held-out queries.

use super::{
    calibration::{Classes, Observation, Seen, SizeClasses},
    cost::{Coefficients, CostModel, Timing},
    file::{FORMAT, Origin, PlanProfile, Profile},
};
use crate::{
    Answer, GraphEngine, GraphError, ModelDir, Plan, QueryBatch, argmax,
    run::{Forecast, Work},
};
use satisfice_core::Measure;
use satisfice_store::{Progress, Queries};
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
    /// How promises made from a part of the queries held on the others.
    pub coverage: Vec<Coverage>,
    /// How times were predicted from a part of the batches on the others.
    pub time_error: TimeError,
}

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
/// fixed random order. Random quarters calibrate while the others check; the profile is then made of
/// all.
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
    let mut sizes = options.batches.clone();
    sizes.sort_unstable();
    sizes.dedup();
    let measurement = Measurement {
        engine,
        queries,
        plans: &plans,
        progress,
    };
    let blocks = measurement.run(&order, &sizes, options.timed)?;
    let splits: Vec<_> = (0..SPLITS).map(|seed| split(&blocks, seed)).collect();
    let trials = splits.iter().map(|(first, _)| Fitted::new(&plans, first));
    let trials: Vec<Fitted> = trials.collect();
    let mut coverage = Vec::new();
    for (trial, (_, second)) in trials.iter().zip(&splits) {
        trial.check(second, &mut coverage);
    }
    let all: Vec<&Measured> = blocks.iter().flatten().collect();
    let fitted = Fitted::new(&plans, &all);
    let labels = queries.labels().unwrap_or(&[]);
    let has_label = |query: &&u32| {
        labels
            .get(**query as usize)
            .is_some_and(|&label| label >= 0)
    };
    Ok(ProfileReport {
        rows: fitted.rows(&all, &sizes),
        time_error: trials[0].time_error(&splits[0].1),
        coverage: coverage.clone(),
        profile: Profile {
            format: FORMAT,
            belongs_to: Origin::of(model_dir, engine.store())?,
            queries: order.len(),
            labelled: order.iter().filter(has_label).count(),
            batches: sizes,
            coverage,
            cost: fitted.cost,
            plans: fitted.plans,
        },
    })
}

/// Ways to choose the quarter of the queries that calibrates; the rest checks, in three classes: each
/// promise is put to the test by as many queries as it was made from.
const SPLITS: u64 = 20;

/// Batches of the same queries at every size stay together.
type Block = Vec<Measured>;

/// The batches of a random quarter of the blocks, and those of the others.
fn split(blocks: &[Block], seed: u64) -> (Vec<&Measured>, Vec<&Measured>) {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_cached_key(|block| xxh3_64_with_seed(&block.to_le_bytes(), seed));
    let (first, second) = order.split_at(blocks.len() / (CLASSES + 1));
    let batches = |part: &[usize]| part.iter().flat_map(|&block| &blocks[block]).collect();
    (batches(first), batches(second))
}

/// Fewer would promise next to nothing.
const QUERIES_MIN: usize = 100;

/// The plans, cheapest first, with `exact`, each once.
fn ordered(plans: &[Plan]) -> Result<Vec<Plan>, GraphError> {
    let share = |plan: &Plan| match plan {
        Plan::Precomputed => -2.0,
        Plan::Refresh => -1.0,
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
pub(super) fn shuffled(queries: usize, limit: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..queries as u32).collect();
    order.sort_by_cached_key(|query| xxh3_64_with_seed(&query.to_le_bytes(), SHUFFLE_SEED));
    order.truncate(limit);
    order
}

const SHUFFLE_SEED: u64 = 41;

/// A batch, answered by every plan.
struct Measured {
    positions: Vec<u32>,
    size: usize,
    in_degrees: Vec<u32>,
    plans: Vec<MeasuredPlan>,
}

struct MeasuredPlan {
    forecast: Forecast,
    observations: Vec<Observation>,
    seconds: Option<f64>,
}

/// What a measurement needs all the time.
struct Measurement<'a> {
    engine: &'a GraphEngine,
    queries: &'a Queries,
    plans: &'a [Plan],
    progress: &'a dyn Progress,
}

impl Measurement<'_> {
    /// Answers every query of `order` once at each batch size, by every plan.
    fn run(&self, order: &[u32], sizes: &[usize], timed: usize) -> Result<Vec<Block>, GraphError> {
        let largest = sizes.iter().copied().max().unwrap_or(1);
        let total = (order.len() + timed * REPEATS) * sizes.len();
        self.progress.start("measuring plans", Some(total as u64));
        let mut blocks = Vec::new();
        for positions in order.chunks(largest.min(order.len() / BLOCKS_MIN)) {
            let mut block = Vec::new();
            for &size in sizes {
                for positions in positions.chunks(size) {
                    block.push(self.answer(positions, size)?);
                    self.progress.advance(positions.len() as u64);
                }
            }
            blocks.push(block);
        }
        for &size in sizes {
            let of_size = blocks
                .iter_mut()
                .flatten()
                .filter(|batch| batch.size == size);
            let of_size: Vec<&mut Measured> = of_size.collect();
            let step = of_size.len().div_ceil(timed.max(1));
            self.time(of_size.into_iter().step_by(step).collect())?;
        }
        self.progress.finish();
        Ok(blocks)
    }

    fn answer(&self, positions: &[u32], size: usize) -> Result<Measured, GraphError> {
        let slice = self.queries.select(positions);
        let batch = self.engine.attach((&slice).into())?;
        let in_degrees = batch.in_degrees();
        let forecasts = self.engine.forecast(&batch, self.plans)?;
        let exact = classes(&self.engine.answer(&batch, Plan::Exact)?, &batch);
        let mut plans = Vec::with_capacity(self.plans.len());
        for (&plan, forecast) in self.plans.iter().zip(forecasts) {
            let found = match plan {
                Plan::Exact => exact.clone(),
                _ => classes(&self.engine.answer(&batch, plan)?, &batch),
            };
            let label = |query: usize| slice.labels.as_ref().map(|labels| labels[query]);
            let observe = |query: usize| Observation {
                in_degree: in_degrees[query],
                stale: forecast.stale[query],
                agrees: found[query] == exact[query],
                right: label(query)
                    .filter(|l| *l >= 0)
                    .map(|label| label == found[query]),
            };
            plans.push(MeasuredPlan {
                observations: (0..batch.queries()).map(observe).collect(),
                forecast,
                seconds: None,
            });
        }
        Ok(Measured {
            positions: positions.to_vec(),
            size,
            in_degrees,
            plans,
        })
    }

    /// Takes the time of batches, in rounds: between two runs of one batch others run, so that the
    /// caches hold as much of it as a server's would.
    fn time(&self, mut batches: Vec<&mut Measured>) -> Result<(), GraphError> {
        for _ in 0..REPEATS {
            for batch in &mut batches {
                let slice = self.queries.select(&batch.positions);
                for (&plan, measured) in self.plans.iter().zip(&mut batch.plans) {
                    let attachment = (&slice).into();
                    let start = Instant::now();
                    let attached = self.engine.attach(attachment)?;
                    self.engine.answer(&attached, plan)?;
                    let seconds = start.elapsed().as_secs_f64().max(1e-9);
                    let least = measured.seconds.map_or(seconds, |least| least.min(seconds));
                    measured.seconds = Some(least);
                }
                self.progress.advance(1);
            }
        }
        Ok(())
    }
}

/// Blocks that queries are cut into at least.
const BLOCKS_MIN: usize = 4;

pub(super) fn classes(answer: &Answer, batch: &QueryBatch) -> Vec<i64> {
    let width = answer.outputs.len() / batch.queries();
    answer.outputs.chunks_exact(width).map(argmax).collect()
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
    fn new(plans: &[Plan], measured: &[&Measured]) -> Self {
        let batches = || measured.iter();
        let mut sizes: Vec<usize> = batches().map(|batch| batch.size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let of_size = |plan: usize, size: usize| {
            let of_size = batches().filter(|batch| batch.size == size);
            let observations = of_size.flat_map(|batch| batch.plans[plan].observations.clone());
            SizeClasses {
                batch: size,
                classes: Classes::fit(observations.collect()),
            }
        };
        let of_plan = |plan: usize| PlanProfile {
            plan: plans[plan],
            sizes: sizes.iter().map(|&size| of_size(plan, size)).collect(),
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
    fn check(&self, measured: &[&Measured], coverage: &mut Vec<Coverage>) {
        for measure in [Measure::Accuracy, Measure::Fidelity] {
            for plan in 0..self.plans.len() {
                if self.plans[plan].plan == Plan::Exact && measure == Measure::Fidelity {
                    continue;
                }
                let mut sizes: Vec<usize> = measured.iter().map(|batch| batch.size).collect();
                sizes.sort_unstable();
                sizes.dedup();
                for size in sizes {
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

    fn rows(&self, measured: &[&Measured], sizes: &[usize]) -> Vec<PlanRow> {
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

    fn time_error(&self, measured: &[&Measured]) -> TimeError {
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

impl Measured {
    /// The mean stale share of the queries under a plan.
    fn stale(&self, plan: usize) -> f32 {
        let stale = &self.plans[plan].forecast.stale;
        stale.iter().sum::<f32>() / stale.len() as f32
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
