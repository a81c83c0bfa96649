//! Every layer type and plan, over one worker and over several in one process, against one machine.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use satisfice_cluster::{Counters, Crew, Exchange, Method, WorkerOptions};
use satisfice_graph::{Precision, PrecomputeOptions};
use std::{path::Path, sync::Arc};
use support::PLANS;

/// Relative; sums are added in another order.
const TOLERANCE: f32 = 1e-5;

fn check(dir: &Path, precision: Precision) -> Vec<String> {
    let options = PrecomputeOptions {
        precision,
        ..PrecomputeOptions::default()
    };
    let (ready, batch) = support::fixture_with(dir, options);
    let mut problems = Vec::new();
    for (workers, method) in [(1, Method::Hash), (2, Method::Ldg), (4, Method::Random)] {
        let counters = Arc::new(Counters::default());
        let parts = ready.parts(workers, method);
        let crew = Crew::threads(parts, WorkerOptions::default(), &counters).unwrap();
        for exchange in [Exchange::Partials, Exchange::Rows] {
            for plan in PLANS {
                let wanted = ready.engine.answer(&batch, plan).unwrap();
                let at = format!("{workers} workers, {}, {plan}", exchange.name());
                let found = match crew.answer(&batch, plan, exchange) {
                    Ok(found) => found,
                    Err(error) => {
                        problems.push(format!("{at}: {error}"));
                        continue;
                    }
                };
                let width = ready.model.outputs();
                let difference = support::difference(&found.outputs, &wanted.outputs, width);
                if difference > TOLERANCE {
                    problems.push(format!("{at}: differs by {difference}"));
                }
                // Changes that are rounding, and nothing else, decide among nodes that do not change.
                let sets_differ_by_rounding = plan.to_string().contains("oracle");
                if sets_differ_by_rounding {
                    continue;
                }
                if found.recomputed != wanted.recomputed {
                    problems.push(format!("{at}: other nodes are recomputed"));
                }
                if found.edges != wanted.edges {
                    let (found, wanted) = (found.edges, wanted.edges);
                    problems.push(format!("{at}: {found} edges, not {wanted}"));
                }
                let moves = exchange == Exchange::Rows && workers > 1;
                if (found.rows_moved > 0) != moves {
                    problems.push(format!("{at}: {} rows moved", found.rows_moved));
                }
            }
            if exchange == Exchange::Partials && counters.sent_rows() != 0 {
                problems.push("a row crossed from one worker to another".to_owned());
            }
        }
    }
    problems
}

#[test]
fn every_plan_of_every_layer_type_is_answered_as_on_one_machine() {
    check_all(Precision::F32, 1);
}

#[test]
fn tables_of_fewer_bits_are_cut_as_they_are() {
    check_all(Precision::Int8, 5);
    check_all(Precision::F16, 11);
}

fn check_all(precision: Precision, every: usize) {
    let mut failures = Vec::new();
    for dir in support::fixtures().iter().step_by(every) {
        let problems = check(dir, precision);
        if !problems.is_empty() {
            let name = dir.file_name().unwrap().display();
            failures.push(format!("{name}: {}", problems.join("; ")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn batches_under_way_at_once_do_not_disturb_each_other() {
    let (ready, batch) = support::fixture(&support::fixture_dir("pyg_gcn_3_layers_directed"));
    let counters = Arc::new(Counters::default());
    let parts = ready.parts(3, Method::Hash);
    let crew = Crew::threads(parts, WorkerOptions::default(), &counters).unwrap();
    let (wanted, width) = (
        PLANS.map(|plan| ready.engine.answer(&batch, plan).unwrap()),
        ready.model.outputs(),
    );
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (crew, batch, wanted) = (&crew, &batch, &wanted);
            scope.spawn(move || {
                for turn in 0..40 {
                    let at = (client + turn) % PLANS.len();
                    let exchange = [Exchange::Partials, Exchange::Rows][turn % 2];
                    let found = crew.answer(batch, PLANS[at], exchange).unwrap();
                    let wanted = &wanted[at].outputs;
                    assert!(support::difference(&found.outputs, wanted, width) < TOLERANCE);
                }
            });
        }
    });
}
