//! A model's signature in the form of Triton's model configuration.

use super::proto::{self, ModelConfig, ModelInput, ModelOutput};
use crate::protocol::ModelDescription;
use satisfice_core::DataType;

/// The configuration of a model whose shapes state every dimension.
pub(super) fn config(description: ModelDescription) -> ModelConfig {
    let metadata = description.metadata;
    let input = |spec: satisfice_core::TensorSpec| ModelInput {
        name: spec.name,
        data_type: data_type(spec.datatype).into(),
        dims: spec.shape,
    };
    let output = |spec: satisfice_core::TensorSpec| ModelOutput {
        name: spec.name,
        data_type: data_type(spec.datatype).into(),
        dims: spec.shape,
    };
    ModelConfig {
        name: description.name,
        backend: metadata.platform.clone(),
        platform: metadata.platform,
        max_batch_size: 0,
        input: metadata.inputs.into_iter().map(input).collect(),
        output: metadata.outputs.into_iter().map(output).collect(),
    }
}

fn data_type(datatype: DataType) -> proto::DataType {
    match datatype {
        DataType::Bool => proto::DataType::TypeBool,
        DataType::Uint8 => proto::DataType::TypeUint8,
        DataType::Uint16 => proto::DataType::TypeUint16,
        DataType::Uint32 => proto::DataType::TypeUint32,
        DataType::Uint64 => proto::DataType::TypeUint64,
        DataType::Int8 => proto::DataType::TypeInt8,
        DataType::Int16 => proto::DataType::TypeInt16,
        DataType::Int32 => proto::DataType::TypeInt32,
        DataType::Int64 => proto::DataType::TypeInt64,
        DataType::Fp16 => proto::DataType::TypeFp16,
        DataType::Bf16 => proto::DataType::TypeBf16,
        DataType::Fp32 => proto::DataType::TypeFp32,
        DataType::Fp64 => proto::DataType::TypeFp64,
        DataType::Bytes => proto::DataType::TypeString,
    }
}
