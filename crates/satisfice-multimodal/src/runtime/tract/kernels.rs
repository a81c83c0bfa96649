//! Whether this machine multiplies 8-bit integers quicker than F32 in tract: found by trying, because it
//! depends on instructions that tract knows and on those that the machine has.

use super::{parsed, said};
use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};
use tract_onnx::{
    pb::{
        GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
        TypeProto, ValueInfoProto,
        tensor_proto::DataType,
        tensor_shape_proto::{Dimension, dimension::Value as Length},
        type_proto::{self, Value},
    },
    prelude::{InferenceModelExt, IntoRunnable, IntoTValue, Tensor},
};

/// Rows, and rows and columns of the weights.
const ROWS: usize = 32;
const SIDE: usize = 256;
const REPEATS: usize = 9;

/// Whether products of 8-bit integers are worth more than the same in F32.
pub(super) fn integers_pay() -> bool {
    static PAY: OnceLock<bool> = OnceLock::new();
    *PAY.get_or_init(|| {
        let times = product(DataType::Uint8, "MatMulInteger")
            .and_then(|integers| Ok((integers, product(DataType::Float, "MatMul")?)));
        match times {
            Ok((integers, floats)) => {
                tracing::debug!(?integers, ?floats, "tract multiplies matrices");
                integers < floats
            }
            Err(error) => {
                tracing::debug!("tract's products cannot be timed: {error}");
                false
            }
        }
    })
}

/// The time of a product in tract.
fn product(datatype: DataType, op: &str) -> Result<Duration, String> {
    let (weights, input) = match datatype {
        DataType::Float => {
            let zeros = Tensor::zero::<f32>(&[ROWS, SIDE]);
            (DataType::Float, zeros)
        }
        _ => (DataType::Int8, Tensor::zero::<u8>(&[ROWS, SIDE])),
    };
    let bytes = match weights {
        DataType::Float => size_of::<f32>(),
        _ => 1,
    };
    let graph = GraphProto {
        node: vec![NodeProto {
            op_type: op.to_owned(),
            input: vec!["x".to_owned(), "w".to_owned()],
            output: vec!["y".to_owned()],
            ..NodeProto::default()
        }],
        initializer: vec![TensorProto {
            name: "w".to_owned(),
            dims: vec![SIDE as i64; 2],
            data_type: weights.into(),
            raw_data: vec![0; SIDE * SIDE * bytes],
            ..TensorProto::default()
        }],
        input: vec![port("x", datatype, &[ROWS, SIDE])],
        output: vec![port("y", datatype, &[])],
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto {
            version: 17,
            ..OperatorSetIdProto::default()
        }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    let plan = parsed(&model)?.into_optimized();
    let plan = plan
        .and_then(IntoRunnable::into_runnable)
        .map_err(|e| said(&e))?;
    let input = input.map_err(|e| said(&e))?.into_tvalue();
    let mut least = Duration::MAX;
    for _ in 0..REPEATS {
        let start = Instant::now();
        plan.run([input.clone()].into_iter().collect())
            .map_err(|e| said(&e))?;
        least = least.min(start.elapsed());
    }
    Ok(least)
}

fn port(name: &str, datatype: DataType, shape: &[usize]) -> ValueInfoProto {
    let length = |&length: &usize| Dimension {
        value: Some(Length::DimValue(length as i64)),
        ..Dimension::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: datatype.into(),
        shape: (!shape.is_empty()).then(|| TensorShapeProto {
            dim: shape.iter().map(length).collect(),
        }),
    };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value: Some(Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}
