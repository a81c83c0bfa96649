//! What a model is, as JSON.

use super::message::{Bounded, invalid, parse, write};
use crate::clip::clip;
use satisfice_core::{DataType, Error, ModelMetadata, TensorSpec};
use serde::{Deserialize, Serialize};

/// What this server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ServerDescription {
    /// Name of the server.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The protocol's extensions that it serves.
    pub extensions: &'static [&'static str],
}

impl ServerDescription {
    /// The server of this crate.
    pub const THIS: Self = Self {
        name: "satisfice",
        version: env!("CARGO_PKG_VERSION"),
        extensions: &[
            "binary_tensor_data",
            "classification",
            "statistics",
            "model_repository",
            "model_configuration",
            "logging",
            "trace",
        ],
    };
}

/// Name, versions and signature of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelDescription {
    /// The model's name.
    pub name: String,
    /// Its versions, oldest first.
    pub versions: Vec<String>,
    /// The signature of the version asked for, or of the newest.
    pub metadata: ModelMetadata,
}

#[derive(Serialize)]
struct DescriptionOut<'a> {
    name: &'a str,
    versions: &'a [String],
    platform: &'a str,
    inputs: Vec<SpecOut<'a>>,
    outputs: Vec<SpecOut<'a>>,
}

#[derive(Serialize)]
struct SpecOut<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [i64],
}

impl<'a> From<&'a TensorSpec> for SpecOut<'a> {
    fn from(spec: &'a TensorSpec) -> Self {
        Self {
            name: &spec.name,
            datatype: spec.datatype.name(),
            shape: &spec.shape,
        }
    }
}

/// Writes a description.
///
/// # Errors
/// None that a description can cause.
pub fn encode_metadata(description: &ModelDescription) -> Result<Vec<u8>, Error> {
    fn specs(specs: &[TensorSpec]) -> Vec<SpecOut<'_>> {
        specs.iter().map(SpecOut::from).collect()
    }
    let document = DescriptionOut {
        name: &description.name,
        versions: &description.versions,
        platform: &description.metadata.platform,
        inputs: specs(&description.metadata.inputs),
        outputs: specs(&description.metadata.outputs),
    };
    let mut body = Vec::new();
    write(&document, &mut body)?;
    Ok(body)
}

#[derive(Deserialize)]
struct DescriptionMessage {
    name: String,
    versions: Option<Bounded<String, 4096>>,
    platform: String,
    inputs: Bounded<SpecMessage, 4096>,
    outputs: Bounded<SpecMessage, 4096>,
}

#[derive(Deserialize)]
struct SpecMessage {
    name: String,
    datatype: String,
    shape: Bounded<i64, 64>,
}

/// Reads a description.
pub(super) fn decode(body: &[u8]) -> Result<ModelDescription, Error> {
    let message: DescriptionMessage = parse(body)?;
    let specs = |specs: Vec<SpecMessage>| {
        let spec = |spec: SpecMessage| {
            let datatype = DataType::from_name(&spec.datatype).ok_or_else(|| {
                let text = format!("unknown datatype `{}`", clip(&spec.datatype));
                invalid("unknown_datatype", text)
            })?;
            Ok(TensorSpec {
                name: spec.name,
                datatype,
                shape: spec.shape.items,
                labels: None,
            })
        };
        specs.into_iter().map(spec).collect::<Result<Vec<_>, _>>()
    };
    Ok(ModelDescription {
        name: message.name,
        versions: message.versions.map_or_else(Vec::new, |v| v.items),
        metadata: ModelMetadata {
            platform: message.platform,
            inputs: specs(message.inputs.items)?,
            outputs: specs(message.outputs.items)?,
        },
    })
}
