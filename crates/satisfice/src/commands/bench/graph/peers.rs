//! Other frameworks, as programs of their own.

use super::Subject;
use anyhow::{Context, Result, bail};
use satisfice_graph::{GraphEngine, Plan, argmax};
use satisfice_store::Queries;
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    process::{Command, Stdio},
};

/// One line of a peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PeerRow {
    pub peer: String,
    /// Queries in a batch.
    pub batch: usize,
    /// Batches answered, all of which count.
    pub batches: usize,
    /// Queries in all.
    pub queries: usize,
    /// Share of queries whose predicted class is their label.
    pub accuracy: f64,
    /// Share of queries whose predicted class is that of our `exact`; computed here.
    #[serde(default)]
    pub agreement: Option<f64>,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Mean time to attach the batch to the graph.
    pub attach_ms: f64,
    /// Mean time to find the computation graph and gather its features.
    pub build_ms: f64,
    /// Mean time of the model's layers.
    pub model_ms: f64,
    /// The class predicted for each query, in order.
    #[serde(skip_serializing)]
    classes: Vec<i64>,
}

#[derive(Deserialize)]
struct Document {
    rows: Vec<PeerRow>,
}

/// Batch size at which `exact` is asked for the classes to compare with.
const REFERENCE_BATCH: usize = 1024;

/// The classes that `exact` predicts for the first `limit` queries, in batches of
/// [`REFERENCE_BATCH`].
pub(super) fn exact_classes(
    engine: &GraphEngine,
    queries: &Queries,
    limit: usize,
) -> Result<Vec<i64>> {
    let count = queries.len().min(limit);
    let mut classes = Vec::with_capacity(count);
    for start in (0..count).step_by(REFERENCE_BATCH) {
        let slice = queries.batch(start..count.min(start + REFERENCE_BATCH));
        let batch = engine.attach((&slice).into())?;
        let outputs = engine.answer(&batch, Plan::Exact)?.outputs;
        let width = outputs.len() / slice.queries();
        classes.extend(outputs.chunks_exact(width).map(argmax));
    }
    Ok(classes)
}

/// Runs every peer on the subject and compares what it predicts with `exact`.
pub(super) fn measure(
    dir: &Path,
    peers: &[String],
    subject: &Subject,
    threads: usize,
    exact: &[i64],
) -> Result<Vec<PeerRow>> {
    let mut rows = Vec::new();
    for peer in peers {
        let document = run(dir, peer, subject, threads)?;
        rows.extend(document.rows.into_iter().map(|row| PeerRow {
            agreement: agreement(&row, exact),
            ..row
        }));
    }
    Ok(rows)
}

/// Queries of another batch size see other queries beside them, so that their exact answers differ.
fn agreement(row: &PeerRow, exact: &[i64]) -> Option<f64> {
    if row.batch != REFERENCE_BATCH || row.classes.is_empty() || row.classes.len() > exact.len() {
        return None;
    }
    let equal = row.classes.iter().zip(exact).filter(|(a, b)| a == b);
    Some(equal.count() as f64 / row.classes.len() as f64)
}

fn run(dir: &Path, peer: &str, subject: &Subject, threads: usize) -> Result<Document> {
    let program = dir.join("run");
    let batches: Vec<String> = subject.batches.iter().map(ToString::to_string).collect();
    let output = Command::new(&program)
        .arg(peer)
        .arg("--model")
        .arg(&subject.model)
        .arg("--queries")
        .arg(&subject.queries)
        .args(["--batches", &batches.join(",")])
        .args(["--limit", &subject.limit.to_string()])
        .args(["--seconds", &subject.seconds.to_string()])
        .args(["--threads", &threads.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        bail!("{} {peer}: {}", program.display(), output.status);
    }
    serde_json::from_slice(&output.stdout).with_context(|| {
        format!(
            "{} {peer} printed something else than rows",
            program.display()
        )
    })
}
