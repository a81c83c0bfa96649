//! What keeping embeddings in fewer bits costs and saves.

use super::{
    fitted::quantile,
    measure::{classes, shuffled},
};
use crate::{
    GraphEngine, GraphError, ModelDir, Plan, Precision, PrecomputeOptions, model::GnnModel,
    precompute, precompute::lock,
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

/// Precisions side by side. The embeddings in the one that is recommended are still there, until this goes.
pub struct StorageComparison {
    /// Every plan with every precision.
    pub rows: Vec<StorageRow>,
    best: Trial,
}

impl StorageComparison {
    /// Makes the recommended embeddings those of the model version, and says what they are kept as.
    ///
    /// # Errors
    /// [`GraphError::Io`] where the directory cannot be replaced.
    pub fn keep(self, model_dir: &ModelDir) -> Result<Precision, GraphError> {
        let from = self.best.model_dir.embeddings_path();
        let to = model_dir.embeddings_path();
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| GraphError::Io { path, source }
        };
        let _lock = lock(&to)?;
        let replaced = from.with_extension("replaced");
        if to.exists() {
            fs::rename(&to, &replaced).map_err(failed(&to))?;
        }
        if let Err(source) = fs::rename(&from, &to) {
            // The first error is the one to tell; what was there is put back where it can be.
            let _ = fs::rename(&replaced, &to);
            return Err(failed(&from)(source));
        }
        // What is left behind is in nobody's way.
        let _ = fs::remove_dir_all(&replaced);
        Ok(self.best.precision)
    }
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
) -> Result<StorageComparison, GraphError> {
    let model = GnnModel::load(model_dir.config(), &model_dir.weights_path())?;
    let held_out = HeldOut {
        queries,
        order: shuffled(queries.len(), options.limit),
        batch: options.batch,
    };
    let sums = PrecomputeOptions::kept(model_dir, &model).map_or(true, |kept| kept.sums);
    let trial = |precision| {
        let kept = PrecomputeOptions { precision, sums };
        let trial = Trial::new(model_dir, &model, store, kept, progress)?;
        let engine = GraphEngine::open(&trial.model_dir, store.clone(), Check::Structure)?;
        let answers = held_out.answered(&engine)?;
        Ok::<_, GraphError>((trial, answers))
    };
    let (mut best, full) = trial(Precision::F32)?;
    let mut rows = held_out.rows(&best, &full, &full);
    for precision in [Precision::F16, Precision::Int8] {
        let (trial, answers) = trial(precision)?;
        let of_trial = held_out.rows(&trial, &answers, &full);
        let within = |row: &StorageRow| 1.0 - row.fidelity <= options.loss_max;
        let good = of_trial.iter().all(within);
        rows.extend(of_trial);
        if good && trial.bytes < best.bytes {
            best = trial;
        }
    }
    for row in &mut rows {
        row.recommended = row.precision == best.precision;
    }
    Ok(StorageComparison { rows, best })
}

/// Embeddings in some precision, beside those of the model version. They are removed in the end, whatever happened.
struct Trial {
    model_dir: ModelDir,
    precision: Precision,
    bytes: u64,
}

impl Trial {
    fn new(
        model_dir: &ModelDir,
        model: &GnnModel,
        store: &GraphStore,
        kept: PrecomputeOptions,
        progress: &dyn Progress,
    ) -> Result<Self, GraphError> {
        let directory = match kept.precision {
            Precision::F32 => "embeddings.trial.f32",
            Precision::F16 => "embeddings.trial.f16",
            Precision::Int8 => "embeddings.trial.int8",
        };
        let mut trial = Self {
            model_dir: model_dir.with_embeddings_in(directory),
            precision: kept.precision,
            bytes: 0,
        };
        trial.bytes = precompute(&trial.model_dir, model, store, kept, progress)?.bytes;
        Ok(trial)
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // What is left behind is replaced by the next comparison; what is kept has moved.
        let _ = fs::remove_dir_all(self.model_dir.embeddings_path());
    }
}

/// What is asked of every precision.
struct HeldOut<'a> {
    queries: &'a Queries,
    order: Vec<u32>,
    batch: usize,
}

/// The answers of one engine by one plan.
#[derive(Debug, Clone, Default)]
struct PlanAnswers {
    classes: Vec<i64>,
    /// Of every batch.
    ms: Vec<f64>,
}

impl HeldOut<'_> {
    /// By each of [`PLANS`].
    fn answered(&self, engine: &GraphEngine) -> Result<Vec<PlanAnswers>, GraphError> {
        let mut all = vec![PlanAnswers::default(); PLANS.len()];
        for positions in self.order.chunks(self.batch) {
            let batch = engine.attach(&self.queries.select(positions))?;
            for (plan, answers) in PLANS.into_iter().zip(&mut all) {
                let start = Instant::now();
                let answer = engine.answer(&batch, plan)?;
                answers.ms.push(start.elapsed().as_secs_f64() * 1e3);
                answers.classes.extend(classes(&answer, &batch));
            }
        }
        Ok(all)
    }

    /// The answers of a precision beside those of f32.
    fn rows(
        &self,
        trial: &Trial,
        answers: &[PlanAnswers],
        full: &[PlanAnswers],
    ) -> Vec<StorageRow> {
        let row = |((plan, answers), full): ((&Plan, &PlanAnswers), &PlanAnswers)| {
            let same = answers.classes.iter().zip(&full.classes);
            StorageRow {
                precision: trial.precision,
                bytes: trial.bytes,
                plan: plan.to_string(),
                fidelity: share(same, |(a, b)| a == b).unwrap_or(0.0),
                accuracy: self.accuracy(answers),
                ms: quantile(answers.ms.clone(), 0.5).unwrap_or(0.0),
                recommended: false,
            }
        };
        PLANS.iter().zip(answers).zip(full).map(row).collect()
    }

    fn accuracy(&self, answers: &PlanAnswers) -> Option<f64> {
        let labels = self.queries.labels()?;
        let labels = self.order.iter().map(|&query| labels[query as usize]);
        let labelled = answers
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
