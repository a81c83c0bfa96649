//! A model's signature in the form of Triton's model configuration.

use super::ModelDescription;
use satisfice_core::{DataType, TensorSpec};
use serde::Serialize;

/// The configuration on the wire.
#[derive(Debug, Serialize)]
pub(crate) struct ModelConfig {
    name: String,
    platform: String,
    backend: String,
    /// 0: shapes state every dimension.
    max_batch_size: u32,
    input: Vec<Tensor>,
    output: Vec<Tensor>,
}

#[derive(Debug, Serialize)]
struct Tensor {
    name: String,
    data_type: &'static str,
    dims: Vec<i64>,
}

impl From<TensorSpec> for Tensor {
    fn from(spec: TensorSpec) -> Self {
        Self {
            name: spec.name,
            data_type: data_type(spec.datatype),
            dims: spec.shape,
        }
    }
}

impl From<ModelDescription> for ModelConfig {
    fn from(description: ModelDescription) -> Self {
        let metadata = description.metadata;
        Self {
            name: description.name,
            backend: metadata.platform.clone(),
            platform: metadata.platform,
            max_batch_size: 0,
            input: metadata.inputs.into_iter().map(Tensor::from).collect(),
            output: metadata.outputs.into_iter().map(Tensor::from).collect(),
        }
    }
}

/// Triton's name of a type in configurations.
fn data_type(datatype: DataType) -> &'static str {
    match datatype {
        DataType::Bool => "TYPE_BOOL",
        DataType::Uint8 => "TYPE_UINT8",
        DataType::Uint16 => "TYPE_UINT16",
        DataType::Uint32 => "TYPE_UINT32",
        DataType::Uint64 => "TYPE_UINT64",
        DataType::Int8 => "TYPE_INT8",
        DataType::Int16 => "TYPE_INT16",
        DataType::Int32 => "TYPE_INT32",
        DataType::Int64 => "TYPE_INT64",
        DataType::Fp16 => "TYPE_FP16",
        DataType::Bf16 => "TYPE_BF16",
        DataType::Fp32 => "TYPE_FP32",
        DataType::Fp64 => "TYPE_FP64",
        DataType::Bytes => "TYPE_STRING",
    }
}
