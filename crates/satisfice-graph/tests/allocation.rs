//! What a request allocates follows from its batch, not from the graph.
//!
//! One test alone in its binary: the counter sees every thread.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use satisfice_graph::{Attachment, Plan, PrecomputeOptions};
use satisfice_store::Queries;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The example's hidden channels and classes, with what each layer sends and sums.
const CHANNELS: usize = 128 + 128 + 32;

#[test]
fn a_second_request_allocates_what_its_batch_needs() {
    let queries = Queries::open(&support::bundle().join("queries.safetensors")).unwrap();
    let plans = ["pe", "refresh", "recompute:50%", "exact"].map(|p| p.parse::<Plan>().unwrap());
    for model in ["gcn2", "sage2"] {
        let ready = support::debian(model, PrecomputeOptions::default());
        let nodes = ready.store.nodes();
        for plan in plans {
            for size in [1, 64] {
                let slice = queries.batch(0..size);
                let request = || {
                    let batch = ready.engine.attach(Attachment::from(&slice)).unwrap();
                    let answer = ready.engine.answer(&batch, plan).unwrap();
                    (batch.edges(), answer)
                };
                request();
                let region = Region::new(ALLOCATOR);
                let (edges, answer) = request();
                let allocated = region.change().bytes_allocated;
                let computed = size + answer.recomputed.len();
                // A row of every level, its message, sum and partial results, some of them twice, for
                // each node computed; ids, for each edge of the batch and each row listed; and the
                // features, for each query.
                let bound = 64 * 1024
                    + computed * CHANNELS * 4 * 8
                    + (edges + answer.rows as usize) * 64
                    + slice.x.len() * 4 * 8;
                assert!(
                    allocated < bound,
                    "{model}, {plan}, {size} queries: {allocated} bytes, {computed} nodes \
                     computed, {} rows read",
                    answer.rows
                );
                // Nothing of the size of the graph: less than one byte a stored node.
                if size == 1 && plan != Plan::Exact {
                    assert!(allocated < nodes, "{model}, {plan}: {allocated} of {nodes}");
                }
            }
        }
    }
}
