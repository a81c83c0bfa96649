//! Measuring a profile on held-out queries.

use super::{
    calibration::Observation,
    cost::Timing,
    file::{FORMAT, Origin, Profile},
    fitted::{CLASSES, Coverage, Fitted, PlanRow, TimeError},
};
use crate::{
    Answer, GraphEngine, GraphError, ModelDir, Plan, QueryBatch, argmax,
    run::{Forecast, Work},
};
use satisfice_core::Cores;
use satisfice_store::{Progress, Queries};
use serde::Serialize;
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
    let (mut coverage, mut time_errors) = (Vec::new(), Vec::new());
    for seed in 0..SPLITS {
        let (first, second) = split(&blocks, seed);
        let trial = Fitted::new(&plans, &first);
        trial.check(&second, &mut coverage);
        time_errors.extend(trial.time_errors(&second));
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
        time_error: TimeError::of(time_errors),
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
pub(super) struct Measured {
    positions: Vec<u32>,
    pub(super) size: usize,
    pub(super) in_degrees: Vec<u32>,
    pub(super) plans: Vec<MeasuredPlan>,
}

pub(super) struct MeasuredPlan {
    pub(super) forecast: Forecast,
    pub(super) observations: Vec<Observation>,
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
        let total = (order.len() + timed * REPEATS * self.plans.len()) * sizes.len();
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
        let batch = self.engine.attach(&slice)?;
        let in_degrees = batch.in_degrees();
        let forecasts =
            self.engine
                .forecast(&self.engine.view(), &batch, self.plans, &Cores::default())?;
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

    /// Takes the time of batches, plan by plan and in rounds: between two runs of one batch others run by the
    /// same plan, so that the caches hold as much of it as a server's would.
    fn time(&self, mut batches: Vec<&mut Measured>) -> Result<(), GraphError> {
        for (index, &plan) in self.plans.iter().enumerate() {
            for _ in 0..REPEATS {
                for batch in &mut batches {
                    let slice = self.queries.select(&batch.positions);
                    let start = Instant::now();
                    let attached = self.engine.attach(&slice)?;
                    self.engine.answer(&attached, plan)?;
                    let seconds = start.elapsed().as_secs_f64().max(1e-9);
                    let measured = &mut batch.plans[index];
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

impl Measured {
    /// The mean stale share of the queries under a plan.
    pub(super) fn stale(&self, plan: usize) -> f32 {
        let stale = &self.plans[plan].forecast.stale;
        stale.iter().sum::<f32>() / stale.len() as f32
    }
}

impl MeasuredPlan {
    pub(super) fn timing(&self) -> Option<Timing> {
        let work: Work = self.forecast.work;
        self.seconds.map(|seconds| Timing { work, seconds })
    }
}
