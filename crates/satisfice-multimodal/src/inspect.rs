//! What is in an ONNX file, and a `model.toml` to begin with.

mod guess;
mod huggingface;

pub use huggingface::{Imported, import_huggingface};

use crate::{
    MultimodalError,
    config::RuntimeChoice,
    network::{NetworkLoader, Wanted},
    runtime,
    signature::{Port, Signature, nodes, wrong},
};
use guess::Guess;
use serde::Serialize;
use std::{collections::BTreeMap, path::Path};
use tract_onnx::prelude::Framework;

/// What is in an ONNX file.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// What made it, as it says itself.
    pub producer: String,
    /// Version of ONNX's operators.
    pub opset: i64,
    /// Name, type and axes of each input.
    pub inputs: Vec<String>,
    /// Name, type and axes of each output.
    pub outputs: Vec<String>,
    /// How often each operator stands in it.
    pub operators: BTreeMap<String, usize>,
    /// Files with its weights, beside it.
    pub weight_files: Vec<String>,
    /// The runtime that executed it with the guessed shapes.
    pub runs_in: Option<String>,
    /// What stands in the way of serving it so; nothing when it can be.
    pub problem: Option<String>,
    /// Text of a `model.toml` for it, in which guesses are marked.
    pub model_toml: String,
}

/// Reads an ONNX file, guesses a `model.toml`, and runs the network once as that says. `lengths` are those of
/// free axes by name, where they are known.
///
/// # Errors
/// [`MultimodalError::Io`] and [`MultimodalError::File`] when it is no ONNX file.
pub fn inspect(
    path: &Path,
    lengths: &BTreeMap<String, usize>,
) -> Result<Inspection, MultimodalError> {
    let signature = Signature::read(path)?;
    let model = tract_onnx::onnx().proto_model_for_path(path);
    let model = model.map_err(|error| wrong(path, format!("{error:#}")))?;
    let mut operators = BTreeMap::new();
    for node in nodes(&model) {
        *operators.entry(node.op_type.clone()).or_default() += 1;
    }
    let guess = Guess::of(path, &signature, &model, lengths);
    let tried = try_out(path, &guess);
    let mut opsets = model.opset_import.iter();
    let opset = opsets.find(|o| o.domain.is_empty() || o.domain == "ai.onnx");
    let shape = tried.as_ref().ok().map(|tried| tried.shape.as_slice());
    let model_toml = guess.model_toml(shape);
    Ok(Inspection {
        producer: format!("{} {}", model.producer_name, model.producer_version),
        opset: opset.map_or(0, |opset| opset.version),
        inputs: signature.inputs.iter().map(ToString::to_string).collect(),
        outputs: signature.outputs().collect(),
        operators,
        weight_files: signature.weight_files.iter().cloned().collect(),
        runs_in: tried.as_ref().ok().map(|tried| tried.runtime.clone()),
        problem: tried.err(),
        model_toml,
    })
}

struct Tried {
    runtime: String,
    /// Of a row of the output.
    shape: Vec<usize>,
}

/// Loads the network as the guess says, which runs it.
fn try_out(path: &Path, guess: &Guess) -> Result<Tried, String> {
    let runtime = runtime::choose(RuntimeChoice::Auto, None).map_err(|e| e.to_string())?;
    let loader = NetworkLoader {
        dir: path.parent().unwrap_or(Path::new("")),
        runtime: runtime.as_ref(),
        batch_max: 2,
        constants: guess.constants().collect(),
    };
    let inputs: Vec<Port> = guess.ports().collect();
    let network = loader.load(Wanted {
        file: &guess.file,
        inputs: &inputs,
        output: Some(&guess.output),
        reading: guess.reading(),
        also: &[],
    });
    Ok(Tried {
        shape: network.map_err(|e| e.to_string())?.shape().to_vec(),
        runtime: runtime.name(),
    })
}
