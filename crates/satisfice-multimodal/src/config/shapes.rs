//! Shapes of tensors, in which the batch may be named.

use super::{ConstantConfig, TensorConfig};
use satisfice_core::DataType;
use serde::Deserialize;

/// What stands for the batch in a shape.
const BATCH: &str = "batch";

/// A tensor as model.toml has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AnyTensor {
    name: String,
    datatype: String,
    shape: Vec<Length>,
    #[serde(default)]
    fill: f64,
}

/// A constant as model.toml has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AnyConstant {
    name: String,
    datatype: String,
    #[serde(default)]
    shape: Vec<Length>,
    value: f64,
}

/// Length of a dimension.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a dimension is a length or \"batch\"")]
enum Length {
    Fixed(usize),
    Named(String),
}

impl TryFrom<AnyTensor> for TensorConfig {
    type Error = String;

    fn try_from(any: AnyTensor) -> Result<Self, String> {
        let at = |message| format!("tensor `{}`: {message}", any.name);
        let mut shape = lengths(&any.shape).map_err(at)?;
        let batch_axis = shape.iter().position(Option::is_none);
        if let Some(axis) = batch_axis {
            shape.remove(axis);
        }
        Ok(Self {
            datatype: datatype(&any.datatype).map_err(at)?,
            shape: shape.into_iter().flatten().collect(),
            batch_axis: batch_axis.unwrap_or(0),
            fill: any.fill,
            name: any.name,
        })
    }
}

impl TryFrom<AnyConstant> for ConstantConfig {
    type Error = String;

    fn try_from(any: AnyConstant) -> Result<Self, String> {
        let at = |message| format!("constant `{}`: {message}", any.name);
        Ok(Self {
            datatype: datatype(&any.datatype).map_err(at)?,
            shape: lengths(&any.shape).map_err(at)?,
            value: any.value,
            name: any.name,
        })
    }
}

/// Lengths, and nothing for the batch, which stands there at most once.
fn lengths(shape: &[Length]) -> Result<Vec<Option<usize>>, String> {
    let length = |length: &Length| match length {
        Length::Fixed(length) => Ok(Some(*length)),
        Length::Named(name) if name == BATCH => Ok(None),
        Length::Named(name) => Err(format!(
            "a dimension is a length or \"{BATCH}\", not \"{name}\""
        )),
    };
    let lengths: Vec<_> = shape.iter().map(length).collect::<Result<_, _>>()?;
    match lengths.iter().filter(|length| length.is_none()).count() {
        0 | 1 => Ok(lengths),
        _ => Err(format!("\"{BATCH}\" stands more than once in its shape")),
    }
}

fn datatype(name: &str) -> Result<DataType, String> {
    match DataType::from_name(name) {
        Some(
            datatype @ (DataType::Fp32
            | DataType::Int64
            | DataType::Int32
            | DataType::Int8
            | DataType::Uint8
            | DataType::Bool),
        ) => Ok(datatype),
        _ => Err(format!(
            "`{name}` is not one of FP32 (which is converted for networks that read FP16, BF16 or FP64), \
             INT64, INT32, INT8, UINT8, BOOL"
        )),
    }
}
