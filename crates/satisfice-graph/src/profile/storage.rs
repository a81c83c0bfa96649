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

/// A precision of the embeddings, and its answers by the `exact` plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StorageRow {
    /// How the embeddings are kept.
    pub precision: Precision,
    /// Bytes of all tables.
    pub bytes: u64,
    /// Share of answers whose class is that of `exact` with f32 embeddings.
    pub fidelity: f64,
    /// Share of right answers among queries with a label.
    pub accuracy: Option<f64>,
    /// Median time of a batch by `exact`, in milliseconds.
    pub exact_ms: f64,
    /// Median time of a batch by `pe`, in milliseconds.
    pub pe_ms: f64,
    /// Whether it is the smallest within the loss allowed.
    pub recommended: bool,
}

/// Computes the embeddings in every precision, beside those that are there and only for the time of
/// the comparison, and answers held-out queries with each.
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
    for precision in [Precision::F32, Precision::F16, Precision::Int8] {
        let kept = PrecomputeOptions {
            precision,
            ..PrecomputeOptions::default()
        };
        let summary = precompute(&trial, &model, store, kept, progress)?;
        let engine = GraphEngine::open(&trial, store.clone(), Check::Structure)?;
        let answers = Answers::of(&engine, queries, &order, options.batch)?;
        if precision == Precision::F32 {
            full.clone_from(&answers.classes);
        }
        rows.push(StorageRow {
            precision,
            bytes: summary.bytes,
            fidelity: share(answers.classes.iter().zip(&full), |(a, b)| a == b).unwrap_or(0.0),
            accuracy: answers.accuracy(queries, &order),
            exact_ms: answers.exact_ms,
            pe_ms: answers.pe_ms,
            recommended: false,
        });
    }
    drop(guard);
    let good = rows
        .iter_mut()
        .filter(|row| 1.0 - row.fidelity <= options.loss_max);
    if let Some(smallest) = good.min_by_key(|row| row.bytes) {
        smallest.recommended = true;
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

/// The answers of one engine.
struct Answers {
    classes: Vec<i64>,
    exact_ms: f64,
    pe_ms: f64,
}

impl Answers {
    fn of(
        engine: &GraphEngine,
        queries: &Queries,
        order: &[u32],
        size: usize,
    ) -> Result<Self, GraphError> {
        let mut found = Vec::with_capacity(order.len());
        let (mut exact, mut pe) = (Vec::new(), Vec::new());
        for positions in order.chunks(size) {
            let batch = engine.attach((&queries.select(positions)).into())?;
            let start = Instant::now();
            let answer = engine.answer(&batch, Plan::Exact)?;
            exact.push(start.elapsed().as_secs_f64() * 1e3);
            found.extend(classes(&answer, &batch));
            let start = Instant::now();
            engine.answer(&batch, Plan::Precomputed)?;
            pe.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let median = |values| super::measure::quantile(values, 0.5).unwrap_or(0.0);
        Ok(Self {
            classes: found,
            exact_ms: median(exact),
            pe_ms: median(pe),
        })
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
