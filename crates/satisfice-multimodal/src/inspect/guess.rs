//! A `model.toml` for a network of which nothing is known but its file.

use crate::{
    config::Pool,
    network::Reading,
    signature::{Axis, Declared, Port, Signature},
};
use satisfice_core::DataType;
use std::{collections::BTreeMap, fmt::Write as _, path::Path};
use tract_onnx::pb::ModelProto;

/// Lengths of free axes: tokens, sides of a picture, colours.
const TOKENS: usize = 128;
const SIDE: usize = 224;
const COLOURS: usize = 3;
/// Of recorded speech.
const SAMPLES_A_SECOND: f64 = 16_000.0;

/// What a network is taken for.
#[derive(Debug)]
pub(super) struct Guess {
    pub(super) file: String,
    pub(super) output: String,
    probabilities: bool,
    /// How the vectors of a row become one, where they are those of a text's tokens.
    pool: Option<Pool>,
    /// What is known of the answer.
    answer: Option<String>,
    modalities: Vec<Modality>,
    constants: Vec<Constant>,
}

#[derive(Debug)]
struct Modality {
    name: String,
    tensors: Vec<Tensor>,
    /// As model.toml has it, and whether it is a guess.
    preprocess: Option<(String, bool)>,
}

#[derive(Debug)]
struct Tensor {
    name: String,
    datatype: DataType,
    batch_axis: usize,
    /// Without the batch.
    shape: Vec<usize>,
    /// The axes whose length is a guess.
    guessed: Vec<String>,
}

/// An input that is taken for the same in every request.
#[derive(Debug)]
struct Constant {
    name: String,
    datatype: DataType,
    shape: Vec<usize>,
    value: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Picture { channels_last: bool },
    Tokens,
    Other,
}

impl Guess {
    pub(super) fn of(
        path: &Path,
        signature: &Signature,
        model: &ModelProto,
        lengths: &BTreeMap<String, usize>,
    ) -> Self {
        let tokenized = path.with_file_name("tokenizer.json").is_file();
        let output = answering(signature);
        let is_softmax = |node: &&tract_onnx::pb::NodeProto| {
            node.op_type == "Softmax" && node.output.contains(&output)
        };
        let mut nodes = model.graph.iter().flat_map(|graph| &graph.node);
        let inputs = signature.inputs.iter();
        let (brought, constant): (Vec<_>, Vec<_>) = inputs
            .map(|input| (input, batch_axis(input, &signature.inputs)))
            .partition(|(_, axis)| axis.is_some());
        let brought = brought
            .into_iter()
            .filter_map(|(input, axis)| Some((input, axis?)));
        let brought: Vec<(&Declared, usize)> = brought.collect();
        let modalities = modalities(&brought, tokenized, lengths);
        let is_text = modalities.iter().any(|m| m.name == "text");
        let mut outputs = signature.declared_outputs();
        let declared = outputs.find(|declared| declared.name == output);
        Self {
            file: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            probabilities: nodes.any(|node| is_softmax(&node)),
            pool: declared
                .filter(|declared| is_text && declared.axes.len() == 3)
                .map(|_| Pool::Mean),
            answer: None,
            output,
            modalities,
            constants: constant
                .into_iter()
                .map(|(input, _)| constant_of(input))
                .collect(),
        }
    }

    /// Takes what is known of the answer: its output, how vectors of it become one, and the lines of
    /// model.toml's `[output]` behind its name.
    pub(super) fn take_answer(&mut self, output: &str, pool: Option<Pool>, lines: String) {
        output.clone_into(&mut self.output);
        self.pool = pool;
        self.answer = Some(lines);
    }

    /// Takes what is known of a modality's preprocessing.
    pub(super) fn take_preprocess(&mut self, modality: &str, how: &str) {
        for of in self.modalities.iter_mut().filter(|m| m.name == modality) {
            of.preprocess = Some((how.to_owned(), false));
        }
    }

    /// Names of the modalities, and of their tensors.
    pub(super) fn modalities(&self) -> Vec<(String, Vec<String>)> {
        let names = |m: &Modality| m.tensors.iter().map(|t| t.name.clone()).collect();
        let modalities = self.modalities.iter();
        modalities.map(|m| (m.name.clone(), names(m))).collect()
    }

    /// The inputs with the guessed shapes.
    pub(super) fn ports(&self) -> impl Iterator<Item = Port> {
        let tensors = self.modalities.iter().flat_map(|m| &m.tensors);
        tensors.map(|t| Port::along(t.batch_axis, &t.name, t.datatype, &t.shape))
    }

    /// The inputs that are the same in every request.
    pub(super) fn constants(&self) -> impl Iterator<Item = Port> {
        self.constants.iter().map(|constant| Port {
            name: constant.name.clone(),
            datatype: constant.datatype,
            shape: constant.shape.iter().map(|&length| Some(length)).collect(),
            constant: Some(constant.value),
        })
    }

    /// How the output is read.
    pub(super) fn reading(&self) -> Reading {
        match self.pool {
            Some(pool) => Reading {
                pool: Some(pool),
                mask: self.mask().map(str::to_owned),
                ..Reading::default()
            },
            None => Reading::whole(),
        }
    }

    /// The input that says which tokens count.
    fn mask(&self) -> Option<&str> {
        let text = self.modalities.iter().find(|m| m.name == "text")?;
        let mut tensors = text.tensors.iter();
        let mask = tensors.find(|tensor| tensor.name.to_lowercase().contains("mask"));
        mask.map(|tensor| tensor.name.as_str())
    }

    /// The sidecar, for an output of that shape a row, if it was seen.
    pub(super) fn model_toml(&self, shape: Option<&[usize]>) -> String {
        let mut toml = format!(
            "format = 1\nkind = \"multimodal\"\n\n[output]\nname = {}\n{}",
            quoted(&self.output),
            self.answer(shape),
        );
        for modality in &self.modalities {
            let _ = write!(
                toml,
                "\n[[modalities]]\nname = \"{}\" # guessed\ntensors = [\n",
                modality.name
            );
            for tensor in &modality.tensors {
                let mut shape: Vec<String> = tensor.shape.iter().map(ToString::to_string).collect();
                if tensor.batch_axis > 0 {
                    shape.insert(tensor.batch_axis, "\"batch\"".to_owned());
                }
                let _ = write!(
                    toml,
                    "    {{ name = {}, datatype = \"{}\", shape = [{}] }},",
                    quoted(&tensor.name),
                    tensor.datatype,
                    shape.join(", ")
                );
                let _ = match tensor.guessed.as_slice() {
                    [] => writeln!(toml),
                    axes => writeln!(toml, " # guessed: the length of {}", axes.join(", ")),
                };
            }
            toml += "]\n";
            if let Some((preprocess, guessed)) = &modality.preprocess {
                let mark = if *guessed { " # guessed" } else { "" };
                let _ = writeln!(toml, "preprocess = {{ {preprocess} }}{mark}");
            }
        }
        for constant in &self.constants {
            let _ = write!(
                toml,
                "\n[[constants]]\nname = {}\ndatatype = \"{}\"\nshape = {:?}\nvalue = {:?} # guessed\n",
                quoted(&constant.name),
                constant.datatype,
                constant.shape,
                constant.value
            );
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

    /// Lines of the sidecar for another precision of the network.
    pub(super) fn variant(&self, name: &str, file: &str) -> String {
        let names: Vec<String> = self
            .modalities
            .iter()
            .map(|m| format!("\"{}\"", m.name))
            .collect();
        format!(
            "\n[[subsets]]\nmodalities = [{}]\nvariant = \"{name}\"\nfile = {}\n",
            names.join(", "),
            quoted(file)
        )
    }

    /// What the answer is: one of some classes where a row is a vector of several numbers.
    fn answer(&self, shape: Option<&[usize]>) -> String {
        if let Some(known) = &self.answer {
            return known.clone();
        }
        let classes = match shape {
            None => Some(2),
            Some(&[width]) if width > 1 && self.pool.is_none() => Some(width),
            Some(_) => None,
        };
        let Some(classes) = classes else {
            let mut answer = "task = \"values\" # guessed\n".to_owned();
            if self.pool.is_some() {
                answer += "pool = \"mean\" # guessed\n";
                if let Some(mask) = self.mask() {
                    let _ = writeln!(answer, "pool_mask = {} # guessed", quoted(mask));
                }
            }
            return answer;
        };
        let values = match self.probabilities {
            true => "probabilities",
            false => "logits",
        };
        let classes = (0..classes).map(|i| format!("\"class {i}\""));
        let classes: Vec<String> = classes.collect();
        format!(
            "values = \"{values}\" # guessed\nclasses = [{}] # guessed: their names\n",
            classes.join(", ")
        )
    }
}

/// Which dimension of an input is the batch: the first, unless that is fixed to more than 1. Without any the
/// input is the same for all rows.
fn batch_axis(input: &Declared, all: &[Declared]) -> Option<usize> {
    match input.axes.first()? {
        Axis::Fixed(1) | Axis::Named(_) | Axis::Free => return Some(0),
        Axis::Fixed(_) => {}
    }
    let of_others = |axis: &Axis| all.iter().any(|other| other.axes.first() == Some(axis));
    let is_batch = |axis: &Axis| matches!(axis, Axis::Named(_)) && of_others(axis);
    let is_free = |axis: &Axis| matches!(axis, Axis::Named(_) | Axis::Free);
    let named = input.axes.iter().position(is_batch);
    let free = || input.axes.iter().position(is_free);
    let one = || input.axes.iter().position(|axis| *axis == Axis::Fixed(1));
    let found = named.or_else(free).or_else(one);
    // Where no input says otherwise, a length is that of a fixed batch.
    let elsewhere = all.iter().any(|other| match other.axes.first() {
        Some(axis) => *axis == Axis::Fixed(1) || is_free(axis),
        None => false,
    });
    found.or((!elsewhere).then_some(0))
}

/// A rate is one of sound that people speak; what else is given once is taken for 1.
fn constant_of(input: &Declared) -> Constant {
    let fixed = |axis: &Axis| match axis {
        Axis::Fixed(length) => *length,
        _ => 1,
    };
    let name = input.name.to_lowercase();
    Constant {
        name: input.name.clone(),
        datatype: served(input.datatype),
        shape: input.axes.iter().map(fixed).collect(),
        value: match name == "sr" || name.contains("rate") {
            true => SAMPLES_A_SECOND,
            false => 1.0,
        },
    }
}

/// The type in which model.toml has an input.
fn served(datatype: DataType) -> DataType {
    match datatype {
        float if float.is_float() => DataType::Fp32,
        other => other,
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
fn modalities(
    inputs: &[(&Declared, usize)],
    tokenized: bool,
    lengths: &BTreeMap<String, usize>,
) -> Vec<Modality> {
    let mut found: Vec<Modality> = Vec::new();
    for &(input, batch_axis) in inputs {
        let kind = kind(input);
        let tensor = tensor(input, batch_axis, kind, lengths);
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
                Kind::Picture { channels_last } => {
                    picture(&tensor, channels_last, place).map(|how| (how, true))
                }
                _ => None,
            },
            tensors: vec![tensor],
        });
    }
    for text in found.iter_mut().filter(|m| m.name == "text" && tokenized) {
        text.preprocess = tokens(&text.tensors).map(|how| (how, true));
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

fn tensor(
    input: &Declared,
    batch_axis: usize,
    kind: Kind,
    lengths: &BTreeMap<String, usize>,
) -> Tensor {
    let length = |i: usize| match kind {
        Kind::Picture { channels_last } if i == if channels_last { 3 } else { 1 } => COLOURS,
        Kind::Picture { .. } => SIDE,
        Kind::Tokens | Kind::Other => TOKENS,
    };
    let mut guessed = Vec::new();
    let mut shape = Vec::new();
    for (i, axis) in input
        .axes
        .iter()
        .enumerate()
        .filter(|&(i, _)| i != batch_axis)
    {
        let name = match axis {
            Axis::Fixed(fixed) => {
                shape.push(*fixed);
                continue;
            }
            Axis::Named(name) => name.clone(),
            Axis::Free => format!("dimension {i}"),
        };
        if let Some(&known) = lengths.get(&name) {
            shape.push(known);
        } else {
            shape.push(length(i));
            guessed.push(name);
        }
    }
    Tensor {
        name: input.name.clone(),
        datatype: served(input.datatype),
        batch_axis,
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
