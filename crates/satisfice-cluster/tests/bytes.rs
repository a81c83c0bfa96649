//! What crosses between workers on a real graph, against what is predicted.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use satisfice_cluster::{
    Counters, Crew, Exchange, LinkCosts, Method, Part, Wire, WorkerOptions, predict,
};
use satisfice_graph::{Attachment, Plan};
use satisfice_store::Queries;
use std::sync::Arc;
use support::Ready;

const COSTS: LinkCosts = LinkCosts {
    bytes_per_second: 125e6,
    round_seconds: 3e-4,
};

#[test]
fn bytes_are_those_predicted() {
    let bundle = support::bundle();
    let queries = Queries::open(&bundle.join("queries.safetensors")).unwrap();
    let ready = Ready::new(
        &bundle.join("models/gcn2"),
        &bundle.join("graph.safetensors"),
    );
    for workers in [2, 4, 8] {
        let parts = ready.parts(workers, Method::Hash);
        let first = Arc::clone(&parts[0]);
        let crew = Crew::threads(
            parts,
            WorkerOptions::default(),
            &Arc::new(Counters::default()),
        );
        let crew = crew.unwrap();
        for queries_of_batch in [64, 1_024] {
            let slice = queries.batch(0..queries_of_batch);
            let batch = ready.engine.attach(Attachment::from(&slice)).unwrap();
            for exchange in [Exchange::Partials, Exchange::Rows] {
                for plan in [Plan::Precomputed, Plan::recompute(0.25)] {
                    let cost =
                        predict(&first, (&batch, plan), exchange, (Wire::F32, COSTS)).unwrap();
                    let answer = crew.answer(&batch, plan, exchange).unwrap();
                    let measured = answer.layer_bytes as f64;
                    let ratio = measured / cost.bytes;
                    println!(
                        "P={workers} B={queries_of_batch} {plan} {}: {measured} bytes, {ratio:.3} of those predicted",
                        exchange.name()
                    );
                    // Counted for the queries; expected of degrees for nodes that are computed anew.
                    let error = match plan {
                        Plan::Precomputed => 0.01,
                        _ => 0.25,
                    };
                    let predicted = cost.bytes;
                    assert!((ratio - 1.0).abs() < error, "{measured}, not {predicted}");
                    // (P - 1) (B + R) d a layer, whatever the degrees.
                    let targets = queries_of_batch + answer.recomputed.len();
                    let widths: usize = (0..ready.model.layers())
                        .map(|layer| ready.model.split_layer(layer).partial_width())
                        .sum();
                    let whole = (workers - 1) * targets * widths * 4;
                    if exchange == Exchange::Partials {
                        assert!(measured < 1.1 * whole as f64, "{measured} over {whole}");
                    }
                }
            }
        }
    }
}

#[test]
fn kept_sums_are_brought_up_to_date_by_what_changed() {
    let bundle = support::bundle();
    let queries = Queries::open(&bundle.join("queries.safetensors")).unwrap();
    let ready = Ready::new(
        &bundle.join("models/sage2"),
        &bundle.join("graph.safetensors"),
    );
    let parts = ready.parts(4, Method::Hash);
    let own_terms = |part: &Arc<Part>| {
        let mut tables = part.manifest().tables.iter();
        tables.any(|table| table.name == "o1.safetensors")
    };
    assert!(parts.iter().all(own_terms), "they are cut too");
    let crew = Crew::threads(
        parts,
        WorkerOptions::default(),
        &Arc::new(Counters::default()),
    );
    let crew = crew.unwrap();
    let slice = queries.batch(0..256);
    let batch = ready.engine.attach(Attachment::from(&slice)).unwrap();
    let width = ready.model.outputs();
    for plan in [Plan::recompute(0.5), Plan::recompute(1.0), Plan::Exact] {
        let wanted = ready.engine.answer(&batch, plan).unwrap();
        for exchange in [Exchange::Partials, Exchange::Rows] {
            let found = crew.answer(&batch, plan, exchange).unwrap();
            let difference = support::difference(&found.outputs, &wanted.outputs, width);
            assert!(difference < 1e-5, "{plan}: differs by {difference}");
            assert_eq!(found.edges, wanted.edges, "{plan}");
            let (rows, edges) = (found.rows, found.edges);
            assert!(rows < edges, "{plan}: {rows} rows read for {edges} edges");
        }
    }
}
