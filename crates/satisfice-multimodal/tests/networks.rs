//! Networks as exporters leave them answer as ONNX Runtime does in Python, or are refused with the
//! reason; `bench/parity/multimodal/make_networks.py` makes them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use satisfice_core::{Engine, InferRequest, Tensor, TensorData};
use satisfice_multimodal::MultimodalEngine;
use serde::Deserialize;
use std::{collections::BTreeMap, env, fs};
use support::{copy, fixtures, floats, largest_difference, logits, named, open};

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
    let runtimes = runtimes();
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
        let tolerance = match case.name.as_str() {
            // Half precision has three digits.
            "half" => 0.02,
            // Now and then a number is rounded to the next of 256 steps.
            name if name.starts_with("int8-") => 0.1,
            _ => 1e-4,
        };
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

#[test]
fn other_outputs_come_as_they_are() {
    let cases = Case::all();
    let mut case = cases.into_iter().find(|case| case.name == "state").unwrap();
    let output = "name = \"logits\"";
    case.toml = case
        .toml
        .replacen(output, &format!("{output}\nalso = [\"next\"]"), 1);
    for runtime in runtimes() {
        let engine = case.open(runtime).unwrap();
        let outputs = &engine.metadata().outputs;
        assert_eq!(
            (outputs[1].name.as_str(), &*outputs[1].shape),
            ("next", &[-1, 2, 3][..])
        );
        let mut request = case.request(9);
        request.outputs = vec!["next".to_owned(), "class".to_owned()];
        let answer = engine.infer(&request).unwrap();
        assert_eq!(answer.outputs[0].tensor.shape(), [9, 2, 3]);
        let state = request.input("state").unwrap();
        let doubled: Vec<f32> = floats(state).iter().map(|v| 2.0 * v).collect();
        assert_eq!(floats(&answer.outputs[0].tensor), doubled);
    }
}

fn runtimes() -> Vec<&'static str> {
    let mut runtimes = vec!["tract"];
    runtimes.extend(env::var_os("ORT_DYLIB_PATH").map(|_| "onnxruntime"));
    runtimes
}

#[test]
#[cfg(unix)]
fn weights_behind_links() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let files = copy("per_subset");
    let sidecar = fs::read_to_string(files.path().join("model.toml")).unwrap();
    let weights: Vec<_> = fs::read_dir(files.path().join("1"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    // As Hugging Face's cache lays files out: names that are links to what is kept by its hash.
    let (blobs, version) = (dir.path().join("blobs"), dir.path().join("model/1"));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&version).unwrap();
    fs::write(dir.path().join("model/model.toml"), &sidecar).unwrap();
    for (i, file) in weights.iter().enumerate() {
        fs::copy(file, blobs.join(i.to_string())).unwrap();
        symlink(
            format!("../../blobs/{i}"),
            version.join(file.file_name().unwrap()),
        )
        .unwrap();
    }
    for runtime in runtimes() {
        let toml = format!("runtime = \"{runtime}\"\n{sidecar}");
        fs::write(dir.path().join("model/model.toml"), toml).unwrap();
        open(&dir.path().join("model")).unwrap();
    }
    // Weights elsewhere than the network itself.
    for file in &weights {
        let name = file.file_name().unwrap();
        if file.extension().is_some_and(|e| e == "onnx") {
            fs::remove_file(version.join(name)).unwrap();
            fs::copy(file, version.join(name)).unwrap();
        }
    }
    let refusal = open(&dir.path().join("model")).unwrap_err().to_string();
    assert!(
        refusal.contains("a link to") && refusal.contains("cp -L"),
        "{refusal}"
    );
    fs::remove_dir_all(&blobs).unwrap();
    let refusal = open(&dir.path().join("model")).unwrap_err().to_string();
    assert!(refusal.contains("a link to nothing"), "{refusal}");
}
