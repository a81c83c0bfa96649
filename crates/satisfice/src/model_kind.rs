//! What kind of model a directory holds.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::{fs, path::Path};

/// Whose model it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ModelKind {
    /// A graph neural network.
    Graph,
    /// ONNX networks over several modalities.
    Multimodal,
}

/// The one key that every `model.toml` has.
#[derive(Deserialize)]
struct Sidecar {
    kind: String,
}

impl ModelKind {
    /// The kind that `DIR/model.toml` names.
    pub(crate) fn of(dir: &Path) -> Result<Self> {
        let path = dir.join("model.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        let sidecar: Sidecar =
            toml::from_str(&text).with_context(|| format!("{}", path.display()))?;
        match sidecar.kind.as_str() {
            "gnn" => Ok(Self::Graph),
            "multimodal" => Ok(Self::Multimodal),
            other => bail!(
                "{}: kind is `{other}`, not `gnn` or `multimodal`",
                path.display()
            ),
        }
    }
}
