//! `model.toml`: what a state dict does not say.

use crate::{GraphError, Plan};
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Whose tensor names and conventions the weights follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framework {
    /// PyTorch Geometric.
    Pyg,
    /// Deep Graph Library.
    Dgl,
}

/// The whole sidecar file of a graph model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    format: u32,
    kind: String,
    /// Whose tensor names and conventions.
    pub framework: Framework,
    /// The graph store, relative to the model directory.
    pub graph: PathBuf,
    /// Name of the output tensor.
    #[serde(default = "default_output")]
    pub output: String,
    default_plan: Option<String>,
    /// Whether every query gets a self-loop edge.
    #[serde(default)]
    pub query_self_loops: bool,
    /// Row operations before the first layer.
    #[serde(default)]
    pub(crate) input: Vec<RowOpConfig>,
    /// The message-passing layers.
    pub(crate) layers: Vec<LayerConfig>,
    /// Row operations after the last layer and jumping knowledge.
    #[serde(default)]
    pub(crate) head: Vec<RowOpConfig>,
    pub(crate) jumping_knowledge: Option<JumpingConfig>,
    /// Bounds of one request.
    #[serde(default)]
    pub limits: RequestLimits,
}

fn default_output() -> String {
    "logits".to_owned()
}

/// Bounds of one request to a graph model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestLimits {
    /// Queries in one request.
    pub queries_max: usize,
    /// Edges in one request, of every kind together.
    pub edges_max: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            queries_max: 65_536,
            edges_max: 4_000_000,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JumpingConfig {
    pub mode: JumpingMode,
    #[serde(default = "default_jumping_tensors")]
    pub tensors: String,
}

fn default_jumping_tensors() -> String {
    "jk".to_owned()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JumpingMode {
    Cat,
    Max,
    Lstm,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum RowOpConfig {
    Linear {
        tensors: String,
        #[serde(rename = "in")]
        inputs: usize,
        out: usize,
        #[serde(default = "yes")]
        bias: bool,
    },
    BatchNorm {
        tensors: String,
        #[serde(default = "default_eps")]
        eps: f32,
        #[serde(default = "yes")]
        affine: bool,
    },
    LayerNorm {
        tensors: String,
        #[serde(default = "default_eps")]
        eps: f32,
        #[serde(default = "yes")]
        affine: bool,
    },
    Relu,
    Elu {
        #[serde(default = "one")]
        alpha: f32,
    },
    LeakyRelu {
        #[serde(default = "default_leaky_slope")]
        negative_slope: f32,
    },
    Gelu,
    Silu,
    Tanh,
    Sigmoid,
    Prelu {
        tensors: String,
    },
    L2Normalize,
    Residual,
    LinearResidual {
        tensors: String,
        #[serde(rename = "in")]
        inputs: usize,
        out: usize,
        #[serde(default = "yes")]
        bias: bool,
    },
}

fn yes() -> bool {
    true
}

fn one() -> f32 {
    1.0
}

fn one_head() -> usize {
    1
}

fn default_eps() -> f32 {
    1e-5
}

fn default_leaky_slope() -> f32 {
    0.01
}

fn default_attention_slope() -> f32 {
    0.2
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LayerConfig {
    pub tensors: String,
    #[serde(rename = "in")]
    pub inputs: usize,
    pub out: usize,
    #[serde(default)]
    pub after: Vec<RowOpConfig>,
    #[serde(flatten)]
    pub conv: ConvConfig,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ConvConfig {
    Gcn(GcnConfig),
    Sage(SageConfig),
    Gat(GatConfig),
    Gatv2(GatConfig),
    Gin(GinConfig),
    Gcn2(Gcn2Config),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Norm {
    Symmetric,
    Both,
    Right,
    Left,
    InDegree,
    None,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct GcnConfig {
    #[serde(default = "yes")]
    pub bias: bool,
    pub norm: Norm,
    #[serde(default)]
    pub self_loops: Option<bool>,
    #[serde(default = "one")]
    pub self_loop_weight: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Aggregator {
    Mean,
    Max,
    Sum,
    Pool,
    Gcn,
}

#[derive(Debug, Clone, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are the layer's own options"
)]
pub(crate) struct SageConfig {
    pub aggregator: Aggregator,
    #[serde(default = "yes")]
    pub bias: bool,
    #[serde(default = "yes")]
    pub root_weight: bool,
    #[serde(default)]
    pub project: bool,
    #[serde(default)]
    pub normalize: bool,
}

/// `residual = true | false | "identity"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum ResidualConfig {
    Linear(bool),
    Named(IdentityName),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IdentityName {
    Identity,
}

impl Default for ResidualConfig {
    fn default() -> Self {
        Self::Linear(false)
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct GatConfig {
    #[serde(default = "one_head")]
    pub heads: usize,
    #[serde(default = "yes")]
    pub concat: bool,
    #[serde(default = "default_attention_slope")]
    pub negative_slope: f32,
    #[serde(default = "yes")]
    pub bias: bool,
    #[serde(default)]
    pub residual: ResidualConfig,
    #[serde(default)]
    pub share_weights: bool,
    #[serde(default)]
    pub self_loops: Option<bool>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct GinConfig {
    #[serde(default = "sum")]
    pub aggregator: Aggregator,
    pub mlp: Vec<RowOpConfig>,
}

fn sum() -> Aggregator {
    Aggregator::Sum
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Gcn2Config {
    pub alpha: f32,
    pub beta: f32,
    #[serde(default = "yes")]
    pub shared_weights: bool,
    pub norm: Norm,
    #[serde(default)]
    pub self_loops: Option<bool>,
    #[serde(default)]
    pub bias: bool,
}

const FORMAT: u32 = 1;

/// Widest row, and most heads, that a sidecar may speak of.
const WIDTH_MAX: usize = 1 << 20;

impl ModelConfig {
    /// Reads and checks `model.toml` in a model directory.
    pub fn read(model_dir: &Path) -> Result<Self, GraphError> {
        let path = model_dir.join("model.toml");
        let text = fs::read_to_string(&path).map_err(|source| GraphError::Io {
            path: path.clone(),
            source,
        })?;
        Self::parse(&text).map_err(|message| GraphError::Config { path, message })
    }

    /// Checks the text of a `model.toml`.
    ///
    /// # Errors
    /// What is wrong and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        if config.format != FORMAT {
            return Err(format!(
                "format {} is not known: this version reads format {FORMAT}",
                config.format
            ));
        }
        if config.kind != "gnn" {
            return Err(format!(
                "kind `{}` is not a graph model (`gnn`)",
                config.kind
            ));
        }
        if config.layers.is_empty() {
            return Err("no [[layers]]: a graph model has at least one".to_owned());
        }
        for (index, layer) in config.layers.iter().enumerate() {
            let heads = match &layer.conv {
                ConvConfig::Gat(conv) | ConvConfig::Gatv2(conv) => conv.heads,
                _ => 1,
            };
            for (key, value) in [("in", layer.inputs), ("out", layer.out), ("heads", heads)] {
                if !(1..=WIDTH_MAX).contains(&value) {
                    return Err(format!(
                        "layers[{index}]: `{key}` is {value}, but must be 1 to {WIDTH_MAX}"
                    ));
                }
            }
        }
        config.default_plan()?;
        Ok(config)
    }

    /// All that the embeddings depend on, as one text.
    pub(crate) fn architecture(&self) -> String {
        format!("{:?} {:?} {:?}", self.framework, self.input, self.layers)
    }

    /// The plan of requests that name none.
    ///
    /// # Errors
    /// The text that names no plan; [`ModelConfig::read`] has checked it.
    pub fn default_plan(&self) -> Result<Plan, String> {
        match &self.default_plan {
            Some(text) => text.parse().map_err(|e| format!("default_plan: {e}")),
            None => Ok(Plan::Exact),
        }
    }
}
