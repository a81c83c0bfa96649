//! `model.toml`: what a state dict does not say.

mod steps;

pub(crate) use steps::{RowOpConfig, StepConfig};

use crate::{GraphError, Plan};
use serde::Deserialize;
use std::{
    fmt, fs,
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
    /// Width of the features, where it is not that of the first linear of `input` or of the first layer.
    pub(crate) features: Option<usize>,
    /// Row operations before the first layer.
    #[serde(default)]
    pub(crate) input: Vec<StepConfig>,
    /// The message-passing layers.
    pub(crate) layers: Vec<LayerConfig>,
    /// Row operations after the last layer and jumping knowledge.
    #[serde(default)]
    pub(crate) head: Vec<StepConfig>,
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

impl JumpingConfig {
    /// The operation that joins the layers.
    pub(crate) fn op(&self) -> RowOpConfig {
        match self.mode {
            JumpingMode::Cat => RowOpConfig::Cat {},
            JumpingMode::Max => RowOpConfig::Max {},
            JumpingMode::Lstm => RowOpConfig::Lstm {
                tensors: self.tensors.clone(),
            },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JumpingMode {
    Cat,
    Max,
    Lstm,
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

fn default_attention_slope() -> f32 {
    0.2
}

#[derive(Clone, Deserialize)]
pub(crate) struct LayerConfig {
    #[serde(default)]
    pub tensors: String,
    #[serde(rename = "in")]
    pub inputs: usize,
    pub out: usize,
    #[serde(default)]
    pub reads: Reads,
    /// Row operations on what it reads.
    #[serde(default)]
    pub before: Vec<StepConfig>,
    #[serde(default)]
    pub after: Vec<StepConfig>,
    #[serde(flatten)]
    pub conv: ConvConfig,
}

/// What a layer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reads {
    /// The level below.
    #[default]
    Below,
    /// Level 0, as the first layer does.
    Initial,
}

/// Embeddings are known by this text: what is not said stands nowhere in it.
impl fmt::Debug for LayerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("LayerConfig");
        text.field("tensors", &self.tensors)
            .field("inputs", &self.inputs)
            .field("out", &self.out);
        if self.reads != Reads::Below {
            text.field("reads", &self.reads);
        }
        if !self.before.is_empty() {
            text.field("before", &self.before);
        }
        text.field("after", &self.after)
            .field("conv", &self.conv)
            .finish()
    }
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
    Propagate(PropagateConfig),
    Edge(EdgeConfig),
    Message(MessageConfig),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Norm {
    Symmetric,
    Both,
    Right,
    Left,
    InDegree,
    Average,
    OutDegree,
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
    pub mlp: Vec<StepConfig>,
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

/// The sources of each node, reduced: a layer without tensors.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PropagateConfig {
    #[serde(default = "sum")]
    pub aggregator: Aggregator,
    #[serde(default = "plain")]
    pub norm: Norm,
    #[serde(default)]
    pub self_loops: Option<bool>,
    #[serde(default = "one")]
    pub self_loop_weight: f32,
}

fn plain() -> Norm {
    Norm::None
}

/// What the ends of an edge make of it together: a layer without tensors.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct EdgeConfig {
    pub message: EdgeMessage,
    #[serde(default = "one_head")]
    pub heads: usize,
    /// Of attention: slope below 0 of a leaky `ReLU` of its logits; none where there is no such thing.
    pub negative_slope: Option<f32>,
    #[serde(default)]
    pub self_loops: bool,
    /// Of messages that are no attention.
    #[serde(default = "sum")]
    pub aggregator: Aggregator,
    /// Of `film`: an activation of each message.
    pub activation: Option<RowOpConfig>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EdgeMessage {
    /// Attention by `q_t · k_s`.
    Dot,
    /// Attention by `(a_t + a_s) σ(v_t · v_s)`.
    GatedDot,
    /// Attention by logits that the source brings, one a head.
    Source,
    /// `σ(k_t + q_s) v_s`.
    Gate,
    /// `act(γ_t m_s + β_t)`.
    Film,
}

/// Any message of both ends of an edge, as a row program makes it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct MessageConfig {
    /// How many of the values read a node brings as a target; it sends the rest.
    #[serde(default)]
    pub target: usize,
    /// Makes what is reduced, of `source` and `target`.
    #[serde(default)]
    pub program: Vec<StepConfig>,
    pub aggregator: MessageAggregator,
    /// Of a softmax: its logits are the first values that the program makes, one a head.
    #[serde(default = "one_head")]
    pub heads: usize,
    #[serde(default)]
    pub self_loops: SelfLoops,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MessageAggregator {
    Sum,
    Mean,
    Max,
    Softmax,
}

/// What becomes of edges from a node to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SelfLoops {
    /// They count as they are.
    #[default]
    Kept,
    /// There is one more for each node.
    Added,
    /// There is exactly one for each node.
    Replaced,
    /// There is none.
    Removed,
}

const FORMAT: u32 = 1;

/// Widest row, and most heads, that a sidecar may speak of.
pub(crate) const WIDTH_MAX: usize = 1 << 20;

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
                ConvConfig::Edge(conv) => conv.heads,
                ConvConfig::Message(conv) => conv.heads,
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
        if let Some(features) = config.features.filter(|f| !(1..=WIDTH_MAX).contains(f)) {
            return Err(format!(
                "`features` is {features}, but must be 1 to {WIDTH_MAX}"
            ));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_of_a_sidecar_without_row_programs_are_known_as_before() {
        let config = ModelConfig::parse(
            r#"
            format = 1
            kind = "gnn"
            framework = "pyg"
            graph = "graph"
            input = [{ op = "linear", tensors = "enc", in = 4, out = 4 }]
            [[layers]]
            type = "gcn"
            tensors = "a"
            in = 4
            out = 4
            norm = "symmetric"
            after = [{ op = "relu" }, { op = "residual" }]
            "#,
        );
        assert_eq!(
            config.unwrap().architecture(),
            "Pyg [Linear { tensors: \"enc\", inputs: 4, out: 4, bias: true }] \
             [LayerConfig { tensors: \"a\", inputs: 4, out: 4, after: [Relu, Residual], \
             conv: Gcn(GcnConfig { bias: true, norm: Symmetric, self_loops: None, self_loop_weight: 1.0 }) }]"
        );
    }
}
