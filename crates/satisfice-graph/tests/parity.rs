//! Every plan equals the framework that trained the model, for every layer type and option.
//!
//! The reference outputs are made by `bench/parity/make_fixtures.py` in PyTorch Geometric and DGL.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use safetensors::SafeTensors;
use satisfice_graph::Plan;
use satisfice_store::TensorFile;
use std::{fs, path::Path};

/// Largest absolute difference allowed in f32 on unit-scale inputs.
const TOLERANCE: f32 = 1e-4;

struct Case {
    bytes: Vec<u8>,
}

impl Case {
    fn read(dir: &Path) -> Self {
        let bytes = fs::read(dir.join("case.safetensors")).unwrap();
        Self { bytes }
    }

    fn raw(&self, name: &str) -> Option<Vec<u8>> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        tensors.tensor(name).ok().map(|view| view.data().to_vec())
    }

    fn f32(&self, name: &str) -> Vec<f32> {
        let raw = self.raw(name).unwrap_or_else(|| panic!("no tensor {name}"));
        raw.as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect()
    }

    fn i64(&self, name: &str) -> Vec<i64> {
        let raw = self.raw(name).unwrap_or_default();
        raw.as_chunks()
            .0
            .iter()
            .map(|b| i64::from_le_bytes(*b))
            .collect()
    }
}

fn check(dir: &Path) -> Result<(), String> {
    let case = Case::read(dir);
    let ready = support::prepare(dir, &dir.join("graph.safetensors"));
    let batch = ready
        .engine
        .attach(support::case(dir))
        .map_err(|e| e.to_string())?;
    let mut problems = Vec::new();
    for level in 1.. {
        let name = format!("h{level}");
        let path = ready
            .dir
            .path()
            .join(format!("1/embeddings/{name}.safetensors"));
        if case.raw(&name).is_none() {
            assert!(!path.exists(), "level {level} is expected of nobody");
            break;
        }
        let file = TensorFile::open(&path).unwrap();
        let rows = file.rows("h").unwrap();
        let mut values = vec![0.0; rows.len() * rows.width()];
        for (i, row) in values.chunks_exact_mut(rows.width()).enumerate() {
            rows.read(i, row);
        }
        problems.extend(compare(&name, &values, &case.f32(&name)));
    }
    let plans = [
        ("exact", Plan::Exact),
        ("pe", Plan::Precomputed),
        ("recompute_25", Plan::recompute(0.25)),
    ];
    for (name, plan) in plans {
        let answer = ready.engine.answer(&batch, plan).unwrap();
        problems.extend(compare(name, &answer.outputs, &case.f32(name)));
        if name == "recompute_25" {
            let found: Vec<i64> = answer.recomputed.iter().map(|&n| i64::from(n)).collect();
            // A model of one layer reads no embedding that could be computed anew.
            let chosen = match case.raw("h1") {
                Some(_) => case.i64("recompute_ids"),
                None => Vec::new(),
            };
            if found != chosen {
                problems.push("other nodes are recomputed".to_owned());
            }
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("; "))
    }
}

fn compare(what: &str, found: &[f32], wanted: &[f32]) -> Option<String> {
    let difference = support::difference(found, wanted);
    (difference > TOLERANCE).then(|| format!("{what} differs by {difference}"))
}

#[test]
fn every_plan_equals_the_framework() {
    let mut failures = Vec::new();
    for dir in support::fixtures() {
        if let Err(problem) = check(&dir) {
            failures.push(format!("{}: {problem}", dir.file_name().unwrap().display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
