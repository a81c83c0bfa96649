//! The steps of a row program, as `model.toml` has them.

use super::{one, yes};
use serde::Deserialize;
use std::fmt;

/// One operation on rows, with the rows that it reads and the name of those that it makes.
#[derive(Clone, Deserialize)]
#[serde(try_from = "toml::Table")]
pub(crate) struct StepConfig {
    pub op: RowOpConfig,
    /// Names of the rows that it reads; those of the step before where there are none.
    pub of: Vec<String>,
    /// What the rows that it makes are called.
    pub name: Option<String>,
}

impl From<RowOpConfig> for StepConfig {
    fn from(op: RowOpConfig) -> Self {
        Self {
            op,
            of: Vec::new(),
            name: None,
        }
    }
}

impl TryFrom<toml::Table> for StepConfig {
    type Error = String;

    fn try_from(mut table: toml::Table) -> Result<Self, String> {
        let text = |value: toml::Value| match value {
            toml::Value::String(text) => Ok(text),
            other => Err(format!("{other} is no name of rows")),
        };
        let of = match table.remove("of") {
            None => Vec::new(),
            Some(toml::Value::Array(names)) => {
                names.into_iter().map(text).collect::<Result<_, _>>()?
            }
            Some(name) => vec![text(name)?],
        };
        let name = table.remove("as").map(text).transpose()?;
        let op = toml::Value::Table(table).try_into();
        Ok(Self {
            op: op.map_err(|error: toml::de::Error| error.message().to_owned())?,
            of,
            name,
        })
    }
}

/// Embeddings are known by this text: a step that names no rows is its operation.
impl fmt::Debug for StepConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.of.is_empty() && self.name.is_none() {
            return self.op.fmt(f);
        }
        f.debug_struct("Step")
            .field("op", &self.op)
            .field("of", &self.of)
            .field("name", &self.name)
            .finish()
    }
}

/// Those without fields have braces: only so are unknown fields refused.
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
    Relu {},
    Elu {
        #[serde(default = "one")]
        alpha: f32,
    },
    LeakyRelu {
        #[serde(default = "default_leaky_slope")]
        negative_slope: f32,
    },
    Gelu {},
    Silu {},
    Tanh {},
    Sigmoid {},
    Prelu {
        tensors: String,
    },
    L2Normalize {},
    Residual {},
    LinearResidual {
        tensors: String,
        #[serde(rename = "in")]
        inputs: usize,
        out: usize,
        #[serde(default = "yes")]
        bias: bool,
    },
    /// `x * by + plus`.
    Scale {
        #[serde(default = "one")]
        by: f32,
        #[serde(default)]
        plus: f32,
    },
    Clamp {
        #[serde(default = "lowest")]
        min: f32,
        #[serde(default = "highest")]
        max: f32,
    },
    /// Each value to a power.
    Power {
        exponent: f32,
    },
    /// 0 instead of what is not above `min`.
    Threshold {
        min: f32,
    },
    Exp {},
    /// The natural logarithm.
    Log {},
    /// Over a row's channels.
    Softmax {},
    Slice {
        start: usize,
        width: usize,
    },
    Add {},
    Mul {},
    Max {},
    Cat {},
    /// PyTorch Geometric's `JumpingKnowledge`.
    Lstm {
        tensors: String,
    },
}

impl RowOpConfig {
    /// As `op` says it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Linear { .. } => "linear",
            Self::BatchNorm { .. } => "batch_norm",
            Self::LayerNorm { .. } => "layer_norm",
            Self::Relu {} => "relu",
            Self::Elu { .. } => "elu",
            Self::LeakyRelu { .. } => "leaky_relu",
            Self::Gelu {} => "gelu",
            Self::Silu {} => "silu",
            Self::Tanh {} => "tanh",
            Self::Sigmoid {} => "sigmoid",
            Self::Prelu { .. } => "prelu",
            Self::L2Normalize {} => "l2_normalize",
            Self::Residual {} => "residual",
            Self::LinearResidual { .. } => "linear_residual",
            Self::Scale { .. } => "scale",
            Self::Clamp { .. } => "clamp",
            Self::Power { .. } => "power",
            Self::Threshold { .. } => "threshold",
            Self::Exp {} => "exp",
            Self::Log {} => "log",
            Self::Softmax {} => "softmax",
            Self::Slice { .. } => "slice",
            Self::Add {} => "add",
            Self::Mul {} => "mul",
            Self::Max {} => "max",
            Self::Cat {} => "cat",
            Self::Lstm { .. } => "lstm",
        }
    }
}

fn default_eps() -> f32 {
    1e-5
}

fn default_leaky_slope() -> f32 {
    0.01
}

fn lowest() -> f32 {
    f32::MIN
}

fn highest() -> f32 {
    f32::MAX
}
