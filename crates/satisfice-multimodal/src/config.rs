//! `model.toml`: what the ONNX files do not say.

mod check;
pub(crate) use check::{CLASS_OUTPUTS, stays_inside};
mod preprocess;

pub use preprocess::{
    Colours, Filter, ImageConfig, Layout, Luma, PreprocessConfig, Resize, Side, TextConfig,
    TooLong, Transparent,
};

use crate::MultimodalError;
use satisfice_core::DataType;
use serde::{Deserialize, Deserializer, de};
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
    /// Name of the output, FP32 `[batch, classes]`.
    pub name: String,
    /// What its numbers are.
    #[serde(default)]
    pub values: Values,
    /// Names of the classes.
    pub classes: Vec<String>,
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
#[serde(deny_unknown_fields)]
pub struct TensorConfig {
    /// Name of the networks' input and of the request's.
    pub name: String,
    /// Element type.
    #[serde(deserialize_with = "datatype")]
    pub datatype: DataType,
    /// Length of each dimension but the first, which is the batch.
    pub shape: Vec<usize>,
    /// What stands in a joint network's input where the modality is absent.
    #[serde(default)]
    pub fill: f64,
}

impl TensorConfig {
    /// Elements of one input.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

fn datatype<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DataType, D::Error> {
    let name = String::deserialize(deserializer)?;
    match DataType::from_name(&name) {
        Some(
            datatype @ (DataType::Fp32
            | DataType::Int64
            | DataType::Int32
            | DataType::Int8
            | DataType::Uint8
            | DataType::Bool),
        ) => Ok(datatype),
        _ => Err(de::Error::custom(format!(
            "`{name}` is not one of FP32 (which is converted for networks that read FP16, BF16 or FP64), \
             INT64, INT32, INT8, UINT8, BOOL"
        ))),
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
    /// The modality's tensor that says which tokens are pooled; the attention mask of its
    /// preprocessing when absent, else all are.
    pub pool_mask: Option<String>,
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
