//! `model.toml`: what the ONNX files do not say.

mod check;
pub(crate) use check::{CLASS_OUTPUTS, stays_inside};
mod preprocess;
mod shapes;

pub use preprocess::{
    Colours, Filter, ImageConfig, Layout, Luma, Middle, PreprocessConfig, Resize, Side, TextConfig,
    TooLong, Transparent,
};

use crate::MultimodalError;
use satisfice_core::DataType;
use serde::Deserialize;
use std::{fs, path::Path};

/// The sidecar file of a multi-modal model, checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    format: u32,
    kind: String,
    /// What executes the networks.
    #[serde(default)]
    pub runtime: RuntimeChoice,
    /// The subsets of modalities to offer; all when absent.
    pub combinations: Option<Vec<Vec<String>>>,
    /// The answer.
    pub output: OutputConfig,
    /// Bounds of requests and batches.
    #[serde(default)]
    pub limits: Limits,
    /// The modalities; their order is that of masks.
    pub modalities: Vec<ModalityConfig>,
    /// What networks read and no request brings.
    #[serde(default)]
    pub constants: Vec<ConstantConfig>,
    /// The head of a model with one encoder per modality.
    pub fusion: Option<FusionConfig>,
    /// Its encoders.
    #[serde(default)]
    pub encoders: Vec<EncoderConfig>,
    /// One network per subset.
    #[serde(default)]
    pub subsets: Vec<SubsetConfig>,
    /// One network with optional inputs, and its variants.
    #[serde(default)]
    pub joint: Vec<JointConfig>,
}

/// What executes the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeChoice {
    /// ONNX Runtime where its library is named, else tract.
    #[default]
    Auto,
    /// tract.
    Tract,
    /// ONNX Runtime.
    OnnxRuntime,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputConfig {
    /// Name of the output: FP32 `[batch, classes]`, or of any shape without classes.
    pub name: String,
    /// What the answer is.
    #[serde(default)]
    pub task: Task,
    /// What its numbers are.
    #[serde(default)]
    pub values: Values,
    /// Names of the classes.
    #[serde(default)]
    pub classes: Vec<String>,
    /// How several vectors of an input become one.
    pub pool: Option<Pool>,
    /// The tensor that says which tokens are pooled; the attention mask of the preprocessing when absent,
    /// else all are.
    pub pool_mask: Option<String>,
    /// Which dimension of the output is the batch; the one named as the inputs' is when absent, else the
    /// first.
    pub batch_axis: Option<usize>,
    /// Whether each vector is divided by its length.
    #[serde(default)]
    pub normalise: bool,
    /// Other outputs that are given as they are.
    #[serde(default)]
    pub also: Vec<String>,
}

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One of the classes.
    #[default]
    Class,
    /// The output's own numbers: an embedding, a regression, a map.
    Values,
}

/// What the numbers of an answer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Values {
    /// Unnormalised logarithms of probabilities.
    #[default]
    Logits,
    /// Probabilities.
    Probabilities,
}

/// Bounds of requests and batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Inputs of one request.
    pub inputs_max: usize,
    /// Inputs of one batch.
    pub batch_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            inputs_max: 1024,
            batch_max: 32,
        }
    }
}

/// One modality.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModalityConfig {
    /// Its name.
    pub name: String,
    /// What the networks read.
    pub tensors: Vec<TensorConfig>,
    /// How raw bytes become these tensors, if the server is to do that.
    pub preprocess: Option<PreprocessConfig>,
}

/// A tensor that networks read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "shapes::AnyTensor")]
pub struct TensorConfig {
    /// Name of the networks' input and of the request's.
    pub name: String,
    /// Element type.
    pub datatype: DataType,
    /// Length of each dimension but the batch.
    pub shape: Vec<usize>,
    /// Which dimension of the networks' input is the batch; in requests it is the first.
    pub batch_axis: usize,
    /// What stands in a joint network's input where the modality is absent.
    pub fill: f64,
}

/// An input of networks that is the same for every request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "shapes::AnyConstant")]
pub struct ConstantConfig {
    /// Name of the networks' input.
    pub name: String,
    /// Element type.
    pub datatype: DataType,
    /// Length of each dimension; nothing for the batch, if it has one.
    pub shape: Vec<Option<usize>>,
    /// What every element is.
    pub value: f64,
}

impl TensorConfig {
    /// Elements of one input.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The head that joins embeddings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FusionConfig {
    /// The network.
    pub file: String,
    /// Its input that says which modalities take part, FP32 `[batch, modalities]`.
    pub mask: Option<String>,
}

/// The encoder of one modality.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    /// The modality.
    pub modality: String,
    /// Another precision of the same encoder.
    pub variant: Option<String>,
    /// The network.
    pub file: String,
    /// Input of the fusion head that its output feeds; the output's name when absent.
    pub embedding: Option<String>,
    /// The output that is read; the network's only one when absent.
    pub output: Option<String>,
    /// How several vectors of an input become one.
    pub pool: Option<Pool>,
    /// The tensor that says which tokens are pooled; the attention mask of the preprocessing when absent,
    /// else all are.
    pub pool_mask: Option<String>,
    /// Which dimension of the output is the batch; the one named as the inputs' is when absent, else the
    /// first.
    pub batch_axis: Option<usize>,
}

/// How several vectors of an input become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// Their mean; of `[channels, height, width]` the mean of each channel.
    Mean,
    /// The first.
    First,
    /// The last.
    Last,
}

impl Pool {
    /// As model.toml has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::First => "first",
            Self::Last => "last",
        }
    }
}

/// The network of one subset.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubsetConfig {
    /// The modalities that it reads.
    pub modalities: Vec<String>,
    /// Another precision of the same network.
    pub variant: Option<String>,
    /// The network.
    pub file: String,
}

/// A network that reads every modality.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JointConfig {
    /// The network.
    pub file: String,
    /// Its input that says which modalities are present, FP32 `[batch, modalities]`.
    pub presence: Option<String>,
    /// Another precision of the same network.
    pub variant: Option<String>,
}

impl ModelConfig {
    /// Reads and checks `DIR/model.toml`.
    ///
    /// # Errors
    /// [`MultimodalError::Io`] and [`MultimodalError::File`], which name the file and what is wrong.
    pub fn read(dir: &Path) -> Result<Self, MultimodalError> {
        let path = dir.join("model.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(MultimodalError::Io { path, source }),
        };
        Self::parse(&text).map_err(|message| MultimodalError::File { path, message })
    }

    /// Parses and checks the text of a sidecar.
    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    /// The same without the networks of other precisions that are in `files`.
    pub(crate) fn without_variants(mut self, files: &[&str]) -> Self {
        let stays = |variant: &Option<String>, file: &String| {
            variant.is_none() || !files.contains(&file.as_str())
        };
        self.encoders.retain(|e| stays(&e.variant, &e.file));
        self.subsets.retain(|s| stays(&s.variant, &s.file));
        self.joint.retain(|j| stays(&j.variant, &j.file));
        self
    }

    /// Position of the modality of that name.
    pub(crate) fn modality(&self, name: &str) -> Result<usize, String> {
        let position = self.modalities.iter().position(|m| m.name == name);
        position.ok_or_else(|| format!("`{name}` is none of the [[modalities]]"))
    }

    /// The names of the variants, the empty name of the base first.
    pub(crate) fn variants(&self) -> Vec<String> {
        let named = self.encoders.iter().map(|e| &e.variant);
        let named = named.chain(self.subsets.iter().map(|s| &s.variant));
        let named = named.chain(self.joint.iter().map(|j| &j.variant));
        let mut variants = vec![String::new()];
        for variant in named.flatten() {
            if !variants.contains(variant) {
                variants.push(variant.clone());
            }
        }
        variants
    }
}
