//! Plans measured on held-out queries, in process or over HTTP alike.

use crate::{cli::Grid, progress::Bars};
use anyhow::{Context, Result};
use satisfice_graph::{Plan, argmax};
use satisfice_store::{Progress, Queries, QuerySlice};
use serde::Serialize;
use std::time::{Duration, Instant};

/// What answers batches: an engine at hand or a server.
pub(crate) trait Answerer {
    /// Answers one batch by a plan.
    fn answer(&mut self, batch: &QuerySlice, plan: Plan) -> Result<BatchAnswer>;
}

/// An answer, and what it cost.
pub(crate) struct BatchAnswer {
    /// `[queries, width]`.
    pub outputs: Vec<f32>,
    /// In-edges of everything computed, over all layers.
    pub edges: u64,
    /// Rows read for them.
    pub rows: u64,
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub plan: String,
    /// Queries in a batch.
    pub batch: usize,
    /// Queries in all.
    pub queries: usize,
    /// Batches answered, all of which count.
    pub batches: usize,
    /// Share of queries whose predicted class is their label; none without labels.
    pub accuracy: Option<f64>,
    /// Share of queries whose predicted class is that of `exact`.
    pub agreement: f64,
    /// Norm of the difference from `exact` over the norm of `exact`, all outputs together.
    pub output_error: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// In-edges of everything computed, over all layers, per batch.
    pub edges: f64,
    /// Rows read for them, per batch.
    pub rows: f64,
    /// Time to move what a batch must at the bandwidth of memory, where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_ms: Option<f64>,
}

/// All answers of one plan at one batch size.
struct Pass {
    outputs: Vec<f32>,
    latencies: Vec<Duration>,
    edges: u64,
    rows: u64,
}

/// The rows of some models, as `--json` prints them.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    pub models: Vec<ModelRows>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ModelRows {
    pub name: String,
    pub rows: Vec<Row>,
}

/// Measures every plan of `grid` at every batch size, under a progress bar that says `task`.
/// `exact` is always run, as what the others are compared with; it has a line when the grid names
/// it.
pub(crate) fn measure(
    answerer: &mut dyn Answerer,
    queries: &Queries,
    grid: &Grid,
    task: &str,
) -> Result<Vec<Row>> {
    let limit = grid.limit.unwrap_or(usize::MAX);
    let count = queries.len().min(limit);
    anyhow::ensure!(count > 0, "there are no queries to measure with");
    let plans = grid.plans();
    let others = plans.iter().filter(|plan| **plan != Plan::Exact).count();
    let passes = grid.batches.len() * (others + 1);
    let bars = Bars::default();
    bars.start(task, Some((count * passes) as u64));
    let mut rows = Vec::new();
    for &batch in &grid.batches {
        let slices: Vec<QuerySlice> = (0..count)
            .step_by(batch)
            .map(|start| queries.batch(start..count.min(start + batch)))
            .collect();
        let exact = pass(answerer, &slices, Plan::Exact, &bars)?;
        for &plan in &plans {
            let row = if plan == Plan::Exact {
                row(plan, batch, &slices, &exact, &exact)
            } else {
                let pass = pass(answerer, &slices, plan, &bars)?;
                row(plan, batch, &slices, &pass, &exact)
            };
            rows.push(row);
        }
    }
    bars.finish();
    Ok(rows)
}

fn pass(
    answerer: &mut dyn Answerer,
    slices: &[QuerySlice],
    plan: Plan,
    progress: &dyn Progress,
) -> Result<Pass> {
    // The first batch once more beforehand: pages and connections are as warm as later ones find
    // them. It counts for nothing; every batch that counts is in the figures.
    answerer.answer(&slices[0], plan)?;
    let mut pass = Pass {
        outputs: Vec::new(),
        latencies: Vec::with_capacity(slices.len()),
        edges: 0,
        rows: 0,
    };
    for slice in slices {
        let start = Instant::now();
        let answer = answerer
            .answer(slice, plan)
            .with_context(|| format!("plan {plan}"))?;
        pass.latencies.push(start.elapsed());
        pass.outputs.extend(answer.outputs);
        pass.edges += answer.edges;
        pass.rows += answer.rows;
        progress.advance(slice.queries() as u64);
    }
    pass.latencies.sort_unstable();
    Ok(pass)
}

fn row(plan: Plan, batch: usize, slices: &[QuerySlice], pass: &Pass, exact: &Pass) -> Row {
    let queries: usize = slices.iter().map(QuerySlice::queries).sum();
    let width = exact.outputs.len() / queries;
    let classes = classes(&pass.outputs, width);
    let labels: Option<Vec<i64>> = slices
        .iter()
        .map(|slice| slice.labels.as_deref())
        .collect::<Option<Vec<_>>>()
        .map(|labels| labels.concat());
    let percentile = |share: f64| {
        let rank = (share * pass.latencies.len() as f64).ceil() as usize;
        pass.latencies[rank.max(1) - 1].as_secs_f64() * 1e3
    };
    Row {
        plan: plan.to_string(),
        batch,
        queries,
        batches: slices.len(),
        accuracy: labels.map(|labels| equal_share(&classes, &labels)),
        agreement: equal_share(&classes, &self::classes(&exact.outputs, width)),
        output_error: relative_error(&pass.outputs, &exact.outputs),
        p50_ms: percentile(0.5),
        p90_ms: percentile(0.9),
        p99_ms: percentile(0.99),
        max_ms: percentile(1.0),
        edges: pass.edges as f64 / slices.len() as f64,
        rows: pass.rows as f64 / slices.len() as f64,
        limit_ms: None,
    }
}

fn classes(outputs: &[f32], width: usize) -> Vec<i64> {
    outputs.chunks_exact(width).map(argmax).collect()
}

fn equal_share(a: &[i64], b: &[i64]) -> f64 {
    let equal = a.iter().zip(b).filter(|(a, b)| a == b).count();
    equal as f64 / a.len() as f64
}

fn relative_error(found: &[f32], exact: &[f32]) -> f64 {
    let square = |v: f32| f64::from(v) * f64::from(v);
    let difference: f64 = found.iter().zip(exact).map(|(a, b)| square(a - b)).sum();
    let norm: f64 = exact.iter().map(|&v| square(v)).sum();
    if norm > 0.0 {
        (difference / norm).sqrt()
    } else {
        difference.sqrt()
    }
}
