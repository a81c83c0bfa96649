//! The models of `fixtures/`, which `bench/parity/multimodal` makes.
#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "each test file uses a part of it; a test may panic"
)]

use safetensors::{Dtype, SafeTensors};
use satisfice_core::{
    ByteStrings, Engine, InferRequest, InferResponse, NamedTensor, Parameter, Tensor, TensorData,
};
use satisfice_multimodal::{ModelDir, MultimodalEngine, MultimodalError, OpenOptions};
use std::{
    fs,
    path::{Path, PathBuf},
};

pub const MODELS: [&str; 3] = ["fused", "per_subset", "joint"];

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

pub fn open(dir: &Path) -> Result<MultimodalEngine, MultimodalError> {
    MultimodalEngine::open(&ModelDir::open(dir, None)?, &OpenOptions::default())
}

pub fn engine(model: &str) -> MultimodalEngine {
    open(&fixtures().join(model)).unwrap()
}

/// A copy of a model that a test may change.
pub fn copy(model: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&fixtures().join(model), dir.path());
    dir
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_dir(&path, &to),
            false => drop(fs::copy(&path, to).unwrap()),
        }
    }
}

/// Replaces a piece of the sidecar, which must be there.
pub fn edit(dir: &Path, from: &str, to: &str) {
    let path = dir.join("model.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// The inputs and reference answers of ONNX Runtime.
pub struct Case(Vec<u8>);

impl Case {
    pub fn open() -> Self {
        Self(fs::read(fixtures().join("case.safetensors")).unwrap())
    }

    /// Names of the reference answers of a model, such as `fused/image+text`.
    pub fn plans(&self, model: &str) -> Vec<String> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let names = tensors.names().into_iter().filter_map(|name| {
            name.strip_prefix(model)?
                .strip_prefix('/')
                .map(str::to_owned)
        });
        names.collect()
    }

    /// Some rows of a tensor.
    pub fn tensor(&self, name: &str, rows: std::ops::Range<usize>) -> Tensor {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let view = tensors.tensor(name).unwrap();
        let width = view.data().len() / view.shape()[0];
        let bytes = &view.data()[rows.start * width..rows.end * width];
        let data = match view.dtype() {
            Dtype::F32 => TensorData::Fp32(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&b| f32::from_le_bytes(b))
                    .collect(),
            ),
            _ => TensorData::Int64(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&b| i64::from_le_bytes(b))
                    .collect(),
            ),
        };
        let mut shape = view.shape().to_vec();
        shape[0] = rows.len();
        Tensor::new(shape, data).unwrap()
    }

    /// A request of some rows with these modalities, joined by `+`.
    pub fn request(&self, modalities: &str, rows: std::ops::Range<usize>) -> InferRequest {
        let tensors = modalities.split('+').flat_map(|modality| match modality {
            "text" => vec!["ids", "ids_mask"],
            other => vec![other],
        });
        let inputs = tensors.map(|name| named(name, self.tensor(name, rows.clone())));
        InferRequest {
            inputs: inputs.collect(),
            ..InferRequest::default()
        }
    }
}

pub fn named(name: &str, tensor: Tensor) -> NamedTensor {
    NamedTensor {
        name: name.to_owned(),
        tensor,
    }
}

pub fn bytes<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Tensor {
    let strings: ByteStrings = strings.into_iter().collect();
    Tensor::new(vec![strings.len()], TensorData::Bytes(strings)).unwrap()
}

pub fn with_plan(mut request: InferRequest, plan: &str) -> InferRequest {
    request
        .parameters
        .insert("plan".to_owned(), Parameter::from(plan));
    request
}

pub fn floats(tensor: &Tensor) -> &[f32] {
    match tensor.data() {
        TensorData::Fp32(values) => values,
        other => panic!("{}", other.datatype()),
    }
}

pub fn logits(engine: &MultimodalEngine, request: &InferRequest) -> Vec<f32> {
    floats(&engine.infer(request).unwrap().outputs[0].tensor).to_vec()
}

pub fn parameter(response: &InferResponse, name: &str) -> String {
    match &response.parameters[name] {
        Parameter::String(text) => text.clone(),
        other => panic!("{other:?}"),
    }
}

pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}
