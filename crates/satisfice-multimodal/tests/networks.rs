//! Networks as exporters leave them answer as ONNX Runtime does in Python, or are refused with the
//! reason; `bench/parity/multimodal/make_networks.py` makes them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use satisfice_core::{InferRequest, Tensor, TensorData};
use satisfice_multimodal::MultimodalEngine;
use serde::Deserialize;
use std::{collections::BTreeMap, env, fs};
use support::{copy, fixtures, largest_difference, logits, named, open};

#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    toml: String,
    inputs: BTreeMap<String, Numbers>,
    expected: Option<Vec<Vec<f32>>>,
    refused: String,
    only: String,
}

#[derive(Debug, Deserialize)]
struct Numbers {
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Case {
    fn all() -> Vec<Self> {
        let json = fs::read(fixtures().join("networks/cases.json")).unwrap();
        serde_json::from_slice(&json).unwrap()
    }

    fn open(&self, runtime: &str) -> Result<MultimodalEngine, String> {
        let dir = tempfile::tempdir().unwrap();
        let files = copy(&format!("networks/{}", self.name));
        fs::rename(files.path(), dir.path().join("1")).unwrap();
        let toml = format!("runtime = \"{runtime}\"\n{}", self.toml);
        fs::write(dir.path().join("model.toml"), toml).unwrap();
        open(dir.path()).map_err(|error| error.to_string())
    }

    fn request(&self, rows: usize) -> InferRequest {
        let input = |(name, numbers): (&String, &Numbers)| {
            let mut shape = numbers.shape.clone();
            let width = numbers.data.len() / shape[0];
            shape[0] = rows;
            let data = numbers.data[..rows * width].iter().copied();
            let before = format!("name = \"{name}\", datatype = \"");
            let entry = self.toml.split(&before).nth(1).unwrap();
            let datatype = entry.split('"').next().unwrap();
            let data = match datatype {
                "INT64" => TensorData::Int64(data.map(|v| v as i64).collect()),
                "INT8" => TensorData::Int8(data.map(|v| v as i8).collect()),
                "UINT8" => TensorData::Uint8(data.map(|v| v as u8).collect()),
                _ => TensorData::Fp32(data.map(|v| v as f32).collect()),
            };
            named(name, Tensor::new(shape, data).unwrap())
        };
        InferRequest {
            inputs: self.inputs.iter().map(input).collect(),
            ..InferRequest::default()
        }
    }
}

#[test]
fn networks_as_exporters_leave_them() {
    let mut runtimes = vec!["tract"];
    runtimes.extend(env::var_os("ORT_DYLIB_PATH").map(|_| "onnxruntime"));
    for (case, runtime) in Case::all()
        .iter()
        .flat_map(|c| runtimes.iter().map(move |r| (c, *r)))
    {
        if !case.only.is_empty() && case.only != runtime {
            continue;
        }
        let at = format!("{} in {runtime}", case.name);
        let engine = match case.open(runtime) {
            Ok(engine) => engine,
            Err(refusal) => {
                let expected = !case.refused.is_empty() && refusal.contains(&case.refused);
                assert!(expected, "{at}: {refusal}");
                continue;
            }
        };
        let Some(wanted) = &case.expected else {
            panic!("{at}: opened, though {}", case.refused)
        };
        // Half precision has three digits.
        let tolerance = if case.name == "half" { 0.02 } else { 1e-4 };
        for rows in [1, 2, 3, 9] {
            let found = logits(&engine, &case.request(rows));
            let off = largest_difference(&found, &wanted[..rows].concat());
            assert!(
                off <= tolerance,
                "{at}, {rows} rows: off by {off}\n{}",
                case.toml
            );
        }
    }
}
