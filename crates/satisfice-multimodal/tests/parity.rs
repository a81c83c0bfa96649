//! Answers equal those of ONNX Runtime in Python, for every way to serve a model, every strategy and
//! every batch size.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use satisfice_core::{Batching, Part, PartOutputs};
use support::{Case, MODELS, engine, floats, largest_difference, logits, with_plan};

const SAMPLES: usize = 7;
const TOLERANCE: f32 = 1e-4;
/// Activations are rounded to bytes, and a tie may fall either way.
const TOLERANCE_INT8: f32 = 0.05;

fn tolerance(plan: &str) -> f32 {
    match plan.ends_with("@int8") {
        true => TOLERANCE_INT8,
        false => TOLERANCE,
    }
}

fn modalities(plan: &str) -> &str {
    plan.split('@').next().unwrap()
}

#[test]
fn requests_of_every_plan_and_size() {
    let case = Case::open();
    for model in MODELS {
        let engine = engine(model);
        let plans = case.plans(model);
        assert_eq!(plans.len(), engine.strategies().len());
        for plan in plans {
            let reference = format!("{model}/{plan}");
            for size in 1..=SAMPLES {
                let request = case.request(modalities(&plan), 0..size);
                let found = logits(&engine, &with_plan(request, &plan));
                let wanted = case.tensor(&reference, 0..size);
                let difference = largest_difference(&found, floats(&wanted));
                assert!(
                    difference <= tolerance(&plan),
                    "{reference}, {size}: {difference}"
                );
            }
        }
    }
}

#[test]
fn batches_of_several_requests() {
    let case = Case::open();
    let engine = engine("fused");
    for (strategy, s) in engine.strategies().iter().enumerate() {
        // Requests bring more than the strategy needs, in different orders.
        let jobs = ["image+text+sensor", "sensor+text+image"].map(|modalities| {
            engine
                .prepare(case.request(modalities, 0..SAMPLES))
                .unwrap()
        });
        let parts = [
            Part {
                job: &jobs[0],
                inputs: 5..7,
            },
            Part {
                job: &jobs[1],
                inputs: 0..4,
            },
            Part {
                job: &jobs[0],
                inputs: 1..2,
            },
        ];
        let answers = engine.run(strategy, &parts).unwrap().parts;
        for (part, answer) in parts.iter().zip(answers) {
            let wanted = case.tensor(&format!("fused/{}", s.name), part.inputs.clone());
            assert!(largest_difference(&values(&answer), floats(&wanted)) <= tolerance(&s.name));
        }
    }
}

fn values(outputs: &PartOutputs) -> Vec<f32> {
    floats(&outputs.as_ref().unwrap()[0].tensor).to_vec()
}
