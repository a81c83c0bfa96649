//! Directories as Hugging Face's Optimum exports them.

mod picture;
mod text;

use super::guess::Guess;
use crate::{
    MultimodalError,
    config::Pool,
    signature::{Signature, wrong},
};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};
use tract_onnx::prelude::Framework;

/// Where the network is, in the order of preference.
const NETWORKS: [&str; 2] = ["model.onnx", "onnx/model.onnx"];
/// The same network in 8 bits, beside it.
const QUANTISED: [&str; 2] = ["model_quantized.onnx", "model_int8.onnx"];
/// Networks that say that a model writes, step by step.
const GENERATES: [&str; 3] = [
    "decoder_model.onnx",
    "decoder_model_merged.onnx",
    "decoder_with_past_model.onnx",
];
/// Outputs that are an embedding, in the order of preference.
const EMBEDDINGS: [&str; 4] = [
    "sentence_embedding",
    "text_embeds",
    "image_embeds",
    "audio_embeds",
];
const TOKENS: &str = "last_hidden_state";
/// Tokens of a text, where nobody says how many.
const LENGTH: usize = 128;

/// A model directory to be.
#[derive(Debug, Clone)]
pub struct Imported {
    /// Text of its `model.toml`.
    pub model_toml: String,
    /// Files of its version's directory: where they are, and their names there.
    pub files: Vec<(PathBuf, String)>,
    /// What the directory does not say, and what was taken instead.
    pub notes: Vec<String>,
}

/// `config.json`, as far as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    architectures: Option<Vec<String>>,
    id2label: Option<BTreeMap<String, String>>,
    problem_type: Option<String>,
    max_position_embeddings: Option<usize>,
    pad_token_id: Option<u32>,
}

/// Makes a model directory of one that Optimum exported: `config.json`, the network, and the files of its
/// tokenizer and of its preprocessing. `tokens` is the length of texts.
///
/// # Errors
/// [`MultimodalError::Io`] and [`MultimodalError::File`], which name the file and what is not served.
pub fn import_huggingface(dir: &Path, tokens: Option<usize>) -> Result<Imported, MultimodalError> {
    let network = network(dir)?;
    let config: Config = read(&dir.join("config.json"))?.unwrap_or_default();
    let signature = Signature::read(&network)?;
    let model = tract_onnx::onnx().proto_model_for_path(&network);
    let model = model.map_err(|error| wrong(&network, format!("{error:#}")))?;
    let mut notes = Vec::new();
    let mut lengths = BTreeMap::new();
    let name = |at: usize, name: &str| {
        let input = signature.inputs.iter().find(|input| input.name == name)?;
        Some(match input.axes.get(at)? {
            crate::signature::Axis::Named(axis) => axis.clone(),
            _ => format!("dimension {at}"),
        })
    };
    let text = match signature.inputs.iter().any(|input| input.name == text::IDS) {
        true => Some(text::Text::read(dir, &config, tokens)?),
        false => None,
    };
    if let Some(text) = &text {
        lengths.extend(name(1, text::IDS).map(|axis| (axis, text.tokens)));
        notes.extend(text.notes.iter().cloned());
    }
    let picture = match signature
        .inputs
        .iter()
        .any(|input| input.name == picture::PIXELS)
    {
        true => Some(picture::Picture::read(dir)?),
        false => None,
    };
    if let Some(picture) = &picture {
        lengths.extend(name(2, picture::PIXELS).map(|axis| (axis, picture.height)));
        lengths.extend(name(3, picture::PIXELS).map(|axis| (axis, picture.width)));
    }
    let mut guess = Guess::of(&network, &signature, &model, &lengths);
    for (name, tensors) in &guess.modalities() {
        let has = |tensor: &str| tensors.iter().any(|other| other == tensor);
        if let Some(text) = text.as_ref().filter(|_| has(text::IDS)) {
            let how = text.preprocess(tensors).map_err(|m| wrong(&network, m))?;
            guess.take_preprocess(name, &how);
        } else if let Some(picture) = picture.as_ref().filter(|_| has(picture::PIXELS)) {
            guess.take_preprocess(name, &picture.preprocess);
        } else {
            notes.push(format!(
                "{} is brought by requests, ready",
                tensors.join(", ")
            ));
        }
    }
    let answer = Answer::of(dir, &config, &signature, text.is_some(), &mut notes);
    let Answer {
        output,
        pool,
        lines,
    } = answer.map_err(|message| wrong(&network, message))?;
    guess.take_answer(&output, pool, lines);
    let mut model_toml = guess.model_toml(None);
    let mut files = vec![(network.clone(), guess.file.clone())];
    for quantised in QUANTISED.iter().map(|file| network.with_file_name(file)) {
        if quantised.is_file() && files.len() == 1 {
            let file = "model.int8.onnx".to_owned();
            model_toml.push_str(&guess.variant("int8", &file));
            files.push((quantised, file));
        }
    }
    let weights = signature.weight_files.iter();
    files.extend(weights.map(|file| (network.with_file_name(file), file.clone())));
    if text.is_some() {
        files.push((dir.join(text::TOKENIZER), text::TOKENIZER.to_owned()));
    }
    Ok(Imported {
        model_toml,
        files,
        notes,
    })
}

fn network(dir: &Path) -> Result<PathBuf, MultimodalError> {
    let there = |file: &&&str| dir.join(file).is_file() || dir.join("onnx").join(file).is_file();
    if let Some(writer) = GENERATES.iter().find(there) {
        let message = format!("{writer}: models that generate text are not served");
        return Err(wrong(dir, message));
    }
    let found = NETWORKS
        .iter()
        .map(|file| dir.join(file))
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        wrong(
            dir,
            "no model.onnx, here or in onnx/: `optimum-cli export onnx --model NAME DIR` writes one"
                .to_owned(),
        )
    })
}

/// A JSON file, if it is there.
fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, MultimodalError> {
    match fs::read(path) {
        Ok(bytes) => {
            let parsed = serde_json::from_slice(&bytes);
            parsed
                .map(Some)
                .map_err(|error| wrong(path, error.to_string()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(MultimodalError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// What a model answers.
struct Answer {
    output: String,
    pool: Option<Pool>,
    /// Of model.toml's `[output]`, behind its name.
    lines: String,
}

impl Answer {
    fn of(
        dir: &Path,
        config: &Config,
        signature: &Signature,
        is_text: bool,
        notes: &mut Vec<String>,
    ) -> Result<Self, String> {
        let has = |name: &str| {
            signature
                .declared_outputs()
                .any(|output| output.name == name)
        };
        let architecture = config.architectures.iter().flatten().next();
        let classifies = architecture.is_none_or(|name| {
            name.contains("ForSequenceClassification")
                || name.contains("ForImageClassification")
                || name.contains("ForAudioClassification")
                || name.contains("ForMultimodal")
        });
        if has("logits") {
            if !classifies {
                let name = architecture.map_or("", String::as_str);
                return Err(format!(
                    "{name}: the models with `logits` that are imported classify texts, pictures or sounds; \
                     `satisfice inspect` writes a model.toml for others"
                ));
            }
            return Ok(Self::classes(config, notes));
        }
        if let Some(output) = EMBEDDINGS.iter().copied().find(|name| has(name)) {
            return Ok(Self::values(dir, output, None));
        }
        if !is_text && has("pooler_output") {
            return Ok(Self::values(dir, "pooler_output", None));
        }
        if has(TOKENS) {
            let pool = pooling(dir)?.unwrap_or_else(|| {
                let pool = if is_text { Pool::Mean } else { Pool::First };
                notes.push(format!(
                    "nothing says how the vectors of {TOKENS} become one: pool = \"{}\"",
                    pool.name()
                ));
                pool
            });
            return Ok(Self::values(dir, TOKENS, Some(pool)));
        }
        let outputs: Vec<String> = signature.outputs().collect();
        Err(format!(
            "gives {}: none of them is `logits`, {TOKENS} or an embedding",
            outputs.join(", ")
        ))
    }

    fn classes(config: &Config, notes: &mut Vec<String>) -> Self {
        let output = "logits".to_owned();
        let mut labels: Vec<(usize, &String)> = config
            .id2label
            .iter()
            .flatten()
            .filter_map(|(id, label)| Some((id.parse().ok()?, label)))
            .collect();
        labels.sort_unstable();
        let multiple = config.problem_type.as_deref() == Some("multi_label_classification");
        if labels.len() < 2 || multiple {
            if multiple {
                notes.push("several labels may hold: the answer is a logit of each".to_owned());
            }
            let lines = "task = \"values\"\n".to_owned();
            return Self {
                output,
                pool: None,
                lines,
            };
        }
        let classes: Vec<String> = labels.iter().map(|(_, label)| quoted(label)).collect();
        Self {
            output,
            pool: None,
            lines: format!("values = \"logits\"\nclasses = [{}]\n", classes.join(", ")),
        }
    }

    fn values(dir: &Path, output: &str, pool: Option<Pool>) -> Self {
        let mut lines = "task = \"values\"\n".to_owned();
        if let Some(pool) = pool {
            let _ = writeln!(lines, "pool = \"{}\"", pool.name());
        }
        if normalises(dir) {
            lines.push_str("normalise = true\n");
        }
        Self {
            output: output.to_owned(),
            pool,
            lines,
        }
    }
}

/// How Sentence Transformers pools, if it says so.
fn pooling(dir: &Path) -> Result<Option<Pool>, String> {
    let path = dir.join("1_Pooling/config.json");
    let said: Option<Value> = read(&path).map_err(|error| error.to_string())?;
    let Some(said) = said else {
        return Ok(None);
    };
    let is = |key: &str| said.get(key).and_then(Value::as_bool) == Some(true);
    let modes = [
        ("pooling_mode_cls_token", Pool::First),
        ("pooling_mode_mean_tokens", Pool::Mean),
        ("pooling_mode_lasttoken", Pool::Last),
    ];
    let all = said.as_object().into_iter().flatten();
    let on = all.filter(|(key, on)| key.starts_with("pooling_mode_") && **on == Value::Bool(true));
    let on: Vec<&String> = on.map(|(key, _)| key).collect();
    match modes.into_iter().find(|(key, _)| is(key)) {
        Some((_, pool)) if on.len() == 1 => Ok(Some(pool)),
        _ => Err(format!(
            "1_Pooling/config.json: {on:?} is not one of mean, first and last"
        )),
    }
}

/// Whether Sentence Transformers divides vectors by their lengths.
fn normalises(dir: &Path) -> bool {
    let modules: Option<Value> = read(&dir.join("modules.json")).ok().flatten();
    let types = modules
        .as_ref()
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let mut types = types.filter_map(|module| module.get("type")?.as_str());
    types.any(|name| name.ends_with("Normalize"))
}
