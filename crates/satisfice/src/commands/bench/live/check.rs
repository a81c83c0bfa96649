//! The graph and its answers after the updates, against sets and a model that was precomputed anew.

use super::workload::{Workload, edges, row};
use anyhow::Result;
use satisfice_graph::{GraphEngine, ModelDir, Plan};
use satisfice_store::{Check, GraphStore, Queries};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Queries whose answers are compared, and how many are asked at once.
const QUERIES: usize = 512;
const BATCH: usize = 64;

/// How far a value may be off, of the larger of 1 and itself: sums are added in another order.
const TOLERANCE: f32 = 1e-4;

/// Values of some queries, exact and by what is kept.
pub(super) fn answers(engine: &GraphEngine, queries: &Queries) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    let count = QUERIES.min(queries.len());
    for plan in [Plan::Exact, Plan::Refresh, Plan::Precomputed] {
        for from in (0..count).step_by(BATCH) {
            let slice = queries.batch(from..(from + BATCH).min(count));
            values.extend(engine.answer(&engine.attach(&slice)?, plan)?.outputs);
        }
    }
    Ok(values)
}

/// How many edges, features and answers differ. The graph was compacted, and the model precomputed anew.
pub(super) fn mismatches(
    model_dir: &ModelDir,
    writers: &[Workload],
    before: &GraphStore,
    queries: &Queries,
    found: &[f32],
) -> Result<usize> {
    let store = Arc::new(GraphStore::open(&model_dir.store_path(), Check::Checksums)?);
    let expected: HashSet<(u32, u32)> = writers
        .iter()
        .flat_map(|w| w.present.iter().copied())
        .collect();
    let present: HashSet<(u32, u32)> = edges(&store).into_iter().collect();
    let topology = expected.symmetric_difference(&present).count();
    let changed: HashMap<u32, u32> = writers
        .iter()
        .flat_map(|w| w.changed.iter().map(|(&node, &like)| (node, like)))
        .collect();
    let features = (0..store.nodes() as u32)
        .filter(|node| row(&store, *node) != row(before, *changed.get(node).unwrap_or(node)))
        .count();
    let engine = GraphEngine::open(model_dir, store, Check::Structure)?;
    let wanted = answers(&engine, queries)?;
    let differs = |(a, b): &(&f32, &f32)| {
        // Also where one of them is no number.
        let is_close = (*a - *b).abs() <= TOLERANCE * a.abs().max(1.0);
        !is_close
    };
    let answers =
        wanted.iter().zip(found).filter(differs).count() + wanted.len().abs_diff(found.len());
    Ok(topology + features + answers)
}
