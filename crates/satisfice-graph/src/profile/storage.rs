//! What keeping embeddings in fewer bits costs and saves.

use super::measure::{classes, shuffled};
use crate::{
    GraphEngine, GraphError, ModelDir, Plan, Precision, PrecomputeOptions, model::GnnModel,
    precompute,
};
use satisfice_store::{Check, GraphStore, Progress, Queries};
use serde::Serialize;
use std::{fs, path::Path, sync::Arc, time::Instant};

/// How embeddings are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StorageOptions {
    /// Queries in a batch.
    pub batch: usize,
    /// The largest number of queries to use.
    pub limit: usize,
    /// The largest share of answers that may differ for a precision to be recommended.
    pub loss_max: f64,
}

/// The plans whose answers are compared.
const PLANS: [Plan; 3] = [Plan::Precomputed, Plan::Refresh, Plan::Exact];

/// A precision of the embeddings, and the answers of one plan with it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StorageRow {
    /// How the embeddings are kept.
    pub precision: Precision,
    /// Bytes of all tables.
    pub bytes: u64,
    /// The plan.
    pub plan: String,
    /// Share of answers whose class is that of the same plan with f32 embeddings.
    pub fidelity: f64,
    /// Share of right answers among queries with a label.
    pub accuracy: Option<f64>,
    /// Median time of a batch, in milliseconds.
    pub ms: f64,
    /// Whether the precision is the smallest within the loss allowed by every plan.
    pub recommended: bool,
}

/// The precision that a comparison recommends.
pub fn recommended(rows: &[StorageRow]) -> Option<Precision> {
    let row = rows.iter().find(|row| row.recommended)?;
    Some(row.precision)
}

/// Computes the embeddings in every precision, with sums where those that are there have them, beside those that are there and only for the time of
/// the comparison, and answers held-out queries with each by `pe`, `refresh` and `exact`.
///
/// # Errors
/// Those of [`precompute`] and of answering.
pub fn compare_storage(
    model_dir: &ModelDir,
    store: &Arc<GraphStore>,
    queries: &Queries,
    options: StorageOptions,
    progress: &dyn Progress,
) -> Result<Vec<StorageRow>, GraphError> {
    let model = GnnModel::load(model_dir.config(), &model_dir.weights_path())?;
    let trial = model_dir.with_embeddings_in("embeddings.trial");
    let guard = Removed(trial.embeddings_path());
    let order = shuffled(queries.len(), options.limit);
    let mut rows: Vec<StorageRow> = Vec::new();
    let mut full = Vec::new();
    let mut smallest = (u64::MAX, Precision::F32);
    let sums = PrecomputeOptions::kept(model_dir, &model).map_or(true, |kept| kept.sums);
    for precision in [Precision::F32, Precision::F16, Precision::Int8] {
        let kept = PrecomputeOptions { precision, sums };
        let bytes = precompute(&trial, &model, store, kept, progress)?.bytes;
        let engine = GraphEngine::open(&trial, store.clone(), Check::Structure)?;
        let answers = PlanAnswers::of(&engine, queries, &order, options.batch)?;
        if precision == Precision::F32 {
            full.clone_from(&answers);
        }
        let mut lost: f64 = 0.0;
        for ((plan, answers), full) in PLANS.iter().zip(answers).zip(&full) {
            let same = answers.classes.iter().zip(&full.classes);
            let fidelity = share(same, |(a, b)| a == b).unwrap_or(0.0);
            lost = lost.max(1.0 - fidelity);
            rows.push(StorageRow {
                precision,
                bytes,
                plan: plan.to_string(),
                fidelity,
                accuracy: answers.accuracy(queries, &order),
                ms: super::measure::quantile(answers.ms, 0.5).unwrap_or(0.0),
                recommended: false,
            });
        }
        if lost <= options.loss_max && bytes < smallest.0 {
            smallest = (bytes, precision);
        }
    }
    drop(guard);
    for row in &mut rows {
        row.recommended = row.precision == smallest.1;
    }
    Ok(rows)
}

/// A directory that is removed in the end, whatever happened.
struct Removed<P: AsRef<Path>>(P);

impl<P: AsRef<Path>> Drop for Removed<P> {
    fn drop(&mut self) {
        // What is left behind is replaced by the next comparison.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The answers of one engine by one plan.
#[derive(Debug, Clone, Default)]
struct PlanAnswers {
    classes: Vec<i64>,
    /// Of every batch.
    ms: Vec<f64>,
}

impl PlanAnswers {
    /// By each of [`PLANS`].
    fn of(
        engine: &GraphEngine,
        queries: &Queries,
        order: &[u32],
        size: usize,
    ) -> Result<Vec<Self>, GraphError> {
        let mut all = vec![Self::default(); PLANS.len()];
        for positions in order.chunks(size) {
            let batch = engine.attach((&queries.select(positions)).into())?;
            for (plan, answers) in PLANS.into_iter().zip(&mut all) {
                let start = Instant::now();
                let answer = engine.answer(&batch, plan)?;
                answers.ms.push(start.elapsed().as_secs_f64() * 1e3);
                answers.classes.extend(classes(&answer, &batch));
            }
        }
        Ok(all)
    }

    fn accuracy(&self, queries: &Queries, order: &[u32]) -> Option<f64> {
        let labels = queries.labels()?;
        let labels = order.iter().map(|&query| labels[query as usize]);
        let labelled = self
            .classes
            .iter()
            .zip(labels)
            .filter(|(_, label)| *label >= 0);
        share(labelled, |(class, label)| *class == label)
    }
}

/// The share of items of which `is` holds; nothing of nothing.
fn share<T>(items: impl Iterator<Item = T>, is: impl Fn(T) -> bool) -> Option<f64> {
    let (mut count, mut good) = (0_u32, 0_u32);
    for item in items {
        count += 1;
        good += u32::from(is(item));
    }
    (count > 0).then(|| f64::from(good) / f64::from(count))
}
