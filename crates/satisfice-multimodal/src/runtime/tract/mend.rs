//! What tract 0.23 takes otherwise than ONNX says is said so that both agree, or refused. ONNX's operator
//! tests tell what that is: `bench/parity/multimodal/operators.py`.

use super::{integers, squeeze};
use crate::signature::graphs_mut;
use std::collections::BTreeSet;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, attribute_proto::AttributeType,
    tensor_proto::DataType,
};

/// Rewrites a model for tract, or says why it cannot be run. Products of 8-bit integers become those of F32
/// unless they are worth it.
pub(super) fn mend(model: &mut ModelProto, integers_pay: bool) -> Result<(), String> {
    graphs_mut(model, &mut |graph: &mut GraphProto| {
        if !integers_pay {
            integers::in_f32(graph);
        }
        graph.node.iter_mut().for_each(name_value);
        graph.node.iter_mut().for_each(squeeze::rename);
        graph.node.iter().try_for_each(check_direction)?;
        check_extremes(graph)
    })
}

/// `ConstantOfShape` without a value is float 0; tract makes it double.
fn name_value(node: &mut NodeProto) {
    let has_value = node.attribute.iter().any(|a| a.name == "value");
    if node.op_type == "ConstantOfShape" && !has_value {
        node.attribute.push(AttributeProto {
            name: "value".to_owned(),
            r#type: AttributeType::Tensor.into(),
            t: Some(TensorProto {
                dims: vec![1],
                data_type: DataType::Float.into(),
                float_data: vec![0.0],
                ..TensorProto::default()
            }),
            ..AttributeProto::default()
        });
    }
}

/// tract runs recurrent layers of direction `reverse` forward.
fn check_direction(node: &NodeProto) -> Result<(), String> {
    let is_reverse = |a: &AttributeProto| a.name == "direction" && a.s == b"reverse";
    match matches!(node.op_type.as_str(), "LSTM" | "GRU" | "RNN")
        && node.attribute.iter().any(is_reverse)
    {
        true => Err(refusal(
            node,
            "of direction `reverse`, which tract runs forward",
        )),
        false => Ok(()),
    }
}

/// tract takes the largest of minus infinities for the lowest finite number, and the smallest of
/// infinities for the highest: wrong where it is compared with infinity.
fn check_extremes(graph: &GraphProto) -> Result<(), String> {
    let infinite = infinities(graph);
    let is_infinite = |name: &String| infinite.contains(&name.as_str());
    let compares = |node: &&NodeProto| match node.op_type.as_str() {
        "IsInf" => true,
        "Equal" => node.input.iter().any(is_infinite),
        _ => false,
    };
    let extremes = |node: &&NodeProto| matches!(node.op_type.as_str(), "ReduceMax" | "ReduceMin");
    for node in graph.node.iter().filter(extremes) {
        let reads = |other: &NodeProto| other.input.iter().any(|input| node.output.contains(input));
        if graph.node.iter().filter(compares).any(reads) {
            let why =
                "whose result is compared with infinity, of which tract makes a finite number";
            return Err(refusal(node, why));
        }
    }
    Ok(())
}

/// Names of constants that are infinite, also in another type.
fn infinities(graph: &GraphProto) -> BTreeSet<&str> {
    let constants = graph
        .initializer
        .iter()
        .filter(|tensor| is_infinite(tensor));
    let mut found: BTreeSet<&str> = constants.map(|tensor| tensor.name.as_str()).collect();
    for node in &graph.node {
        let is_infinite = match node.op_type.as_str() {
            "Constant" => node
                .attribute
                .iter()
                .any(|a| a.f.is_infinite() || a.t.iter().any(is_infinite)),
            "Cast" | "CastLike" | "Identity" | "Neg" => node
                .input
                .first()
                .is_some_and(|input| found.contains(input.as_str())),
            _ => false,
        };
        if is_infinite {
            found.extend(node.output.iter().map(String::as_str));
        }
    }
    found
}

fn is_infinite(tensor: &TensorProto) -> bool {
    let raw = &tensor.raw_data;
    let any = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => raw
            .as_chunks()
            .0
            .iter()
            .any(|&b| f32::from_le_bytes(b).is_infinite()),
        Ok(DataType::Double) => raw
            .as_chunks()
            .0
            .iter()
            .any(|&b| f64::from_le_bytes(b).is_infinite()),
        Ok(DataType::Float16) => raw
            .as_chunks()
            .0
            .iter()
            .any(|&b| half::f16::from_le_bytes(b).is_infinite()),
        _ => false,
    };
    any || tensor.float_data.iter().any(|v| v.is_infinite())
        || tensor.double_data.iter().any(|v| v.is_infinite())
}

fn refusal(node: &NodeProto, why: &str) -> String {
    let names = std::iter::once(&node.name).chain(&node.output);
    let name = { names }.find(|name| !name.is_empty());
    format!(
        "node `{}` is {} {why}: run the network in ONNX Runtime",
        name.map_or("", String::as_str),
        node.op_type
    )
}
