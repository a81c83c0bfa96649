//! A `model.toml` for a network of which nothing is known but its file.

use crate::signature::{Axis, Declared, Port, Signature};
use satisfice_core::DataType;
use std::{fmt::Write as _, path::Path};
use tract_onnx::pb::ModelProto;

/// Lengths of free axes: tokens, sides of a picture, colours.
const TOKENS: usize = 128;
const SIDE: usize = 224;
const COLOURS: usize = 3;

/// What a network is taken for.
#[derive(Debug)]
pub(super) struct Guess {
    pub(super) file: String,
    pub(super) output: String,
    probabilities: bool,
    modalities: Vec<Modality>,
}

#[derive(Debug)]
struct Modality {
    name: String,
    tensors: Vec<Tensor>,
    preprocess: Option<String>,
}

#[derive(Debug)]
struct Tensor {
    name: String,
    datatype: DataType,
    shape: Vec<usize>,
    /// The axes whose length is a guess.
    guessed: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Picture { channels_last: bool },
    Tokens,
    Other,
}

impl Guess {
    pub(super) fn of(path: &Path, signature: &Signature, model: &ModelProto) -> Self {
        let tokenized = path.with_file_name("tokenizer.json").is_file();
        let output = answering(signature);
        let is_softmax = |node: &&tract_onnx::pb::NodeProto| {
            node.op_type == "Softmax" && node.output.contains(&output)
        };
        let mut nodes = model.graph.iter().flat_map(|graph| &graph.node);
        Self {
            file: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            probabilities: nodes.any(|node| is_softmax(&node)),
            output,
            modalities: modalities(&signature.inputs, tokenized),
        }
    }

    /// The inputs with the guessed shapes.
    pub(super) fn ports(&self) -> impl Iterator<Item = Port> {
        let tensors = self.modalities.iter().flat_map(|m| &m.tensors);
        tensors.map(|t| Port::batch(&t.name, t.datatype, &t.shape))
    }

    /// The sidecar, for an output of so many numbers a row.
    pub(super) fn model_toml(&self, width: usize) -> String {
        let classes = (0..width.max(2)).map(|i| format!("\"class {i}\""));
        let classes: Vec<String> = classes.collect();
        let values = if self.probabilities {
            "probabilities"
        } else {
            "logits"
        };
        let mut toml = format!(
            "format = 1\nkind = \"multimodal\"\n\n[output]\nname = {}\n\
             values = \"{values}\" # guessed\nclasses = [{}] # guessed: their names\n",
            quoted(&self.output),
            classes.join(", "),
        );
        for modality in &self.modalities {
            let _ = write!(
                toml,
                "\n[[modalities]]\nname = \"{}\" # guessed\ntensors = [\n",
                modality.name
            );
            for tensor in &modality.tensors {
                let _ = write!(
                    toml,
                    "    {{ name = {}, datatype = \"{}\", shape = {:?} }},",
                    quoted(&tensor.name),
                    tensor.datatype,
                    tensor.shape
                );
                let _ = match tensor.guessed.as_slice() {
                    [] => writeln!(toml),
                    axes => writeln!(toml, " # guessed: the length of {}", axes.join(", ")),
                };
            }
            toml += "]\n";
            if let Some(preprocess) = &modality.preprocess {
                let _ = writeln!(toml, "preprocess = {{ {preprocess} }} # guessed");
            }
        }
        let names: Vec<String> = self
            .modalities
            .iter()
            .map(|m| format!("\"{}\"", m.name))
            .collect();
        let _ = write!(
            toml,
            "\n[[subsets]]\nmodalities = [{}]\nfile = {}\n",
            names.join(", "),
            quoted(&self.file)
        );
        toml
    }
}

/// The output that is taken for the answer: a row of numbers, if there is one.
fn answering(signature: &Signature) -> String {
    let floats = || {
        let outputs = signature.declared_outputs();
        outputs.filter(|output| output.datatype.is_float())
    };
    let row = floats().find(|output| output.axes.len() == 2);
    let chosen = row.or_else(|| floats().next());
    chosen.map(|output| output.name.clone()).unwrap_or_default()
}

/// Texts' tensors belong to one modality, and every other one is of its own.
fn modalities(inputs: &[Declared], tokenized: bool) -> Vec<Modality> {
    let mut found: Vec<Modality> = Vec::new();
    for input in inputs {
        let kind = kind(input);
        let tensor = tensor(input, kind);
        let there = found
            .iter_mut()
            .find(|m| kind == Kind::Tokens && m.name == "text");
        if let Some(text) = there {
            text.tensors.push(tensor);
            continue;
        }
        let place = found.len();
        found.push(Modality {
            name: match kind {
                Kind::Picture { .. } => numbered("image", place),
                Kind::Tokens => "text".to_owned(),
                Kind::Other => numbered("input", place),
            },
            preprocess: match kind {
                Kind::Picture { channels_last } => picture(&tensor, channels_last, place),
                _ => None,
            },
            tensors: vec![tensor],
        });
    }
    for text in found.iter_mut().filter(|m| m.name == "text" && tokenized) {
        text.preprocess = tokens(&text.tensors);
    }
    found
}

/// `stem`, with a number from the second modality on.
fn numbered(stem: &str, place: usize) -> String {
    match place {
        0 => stem.to_owned(),
        _ => format!("{stem}{}", place + 1),
    }
}

fn kind(input: &Declared) -> Kind {
    let fixed = |i: usize, lengths: &[usize]| matches!(input.axes.get(i), Some(Axis::Fixed(length)) if lengths.contains(length));
    match (input.datatype, input.axes.len()) {
        (DataType::Int64 | DataType::Int32, 2) => Kind::Tokens,
        (DataType::Fp32 | DataType::Fp16 | DataType::Uint8, 4) => {
            let channels_last = fixed(3, &[1, 3]) && !fixed(1, &[1, 3]);
            match channels_last || !matches!(input.axes[1], Axis::Fixed(_)) || fixed(1, &[1, 3]) {
                true => Kind::Picture { channels_last },
                false => Kind::Other,
            }
        }
        _ => Kind::Other,
    }
}

fn tensor(input: &Declared, kind: Kind) -> Tensor {
    let length = |i: usize| match kind {
        Kind::Picture { channels_last } if i == if channels_last { 3 } else { 1 } => COLOURS,
        Kind::Picture { .. } => SIDE,
        Kind::Tokens | Kind::Other => TOKENS,
    };
    let mut guessed = Vec::new();
    let mut shape = Vec::new();
    for (i, axis) in input.axes.iter().enumerate().skip(1) {
        match axis {
            Axis::Fixed(fixed) => shape.push(*fixed),
            Axis::Named(name) => {
                guessed.push(name.clone());
                shape.push(length(i));
            }
            Axis::Free => {
                guessed.push(format!("dimension {i}"));
                shape.push(length(i));
            }
        }
    }
    Tensor {
        name: input.name.clone(),
        datatype: match input.datatype {
            float if float.is_float() => DataType::Fp32,
            other => other,
        },
        shape,
        guessed,
    }
}

fn picture(tensor: &Tensor, channels_last: bool, place: usize) -> Option<String> {
    let input = numbered("picture", place);
    let layout = if channels_last {
        ", layout = \"nhwc\""
    } else {
        ""
    };
    let pictures = matches!(tensor.datatype, DataType::Fp32 | DataType::Uint8);
    pictures.then(|| format!("type = \"image\", input = \"{input}\", resize = \"cover\"{layout}"))
}

/// What tells ids, mask and type ids apart is their names.
fn tokens(tensors: &[Tensor]) -> Option<String> {
    let named = |part: &str| {
        tensors
            .iter()
            .find(|t| t.name.to_lowercase().contains(part))
    };
    let (mask, types) = (named("mask"), named("type"));
    let is_ids = |t: &&Tensor| {
        let other = |named: Option<&Tensor>| named.is_some_and(|n| n.name == t.name);
        !other(mask) && !other(types)
    };
    let mut ids = tensors.iter().filter(is_ids);
    let (Some(ids), None) = (ids.next(), ids.next()) else {
        return None;
    };
    let mut text = format!(
        "type = \"text\", input = \"caption\", ids = {}",
        quoted(&ids.name)
    );
    for (key, tensor) in [("mask", mask), ("type_ids", types)] {
        if let Some(tensor) = tensor {
            let _ = write!(text, ", {key} = {}", quoted(&tensor.name));
        }
    }
    Some(text)
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
