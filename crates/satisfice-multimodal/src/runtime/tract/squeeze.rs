//! `Squeeze` without axes, which leaves out every dimension of length 1: tract reads it from version 13 of
//! ONNX's operators only.

use tract_onnx::{
    model::OnnxOpRegister,
    pb::NodeProto,
    tract_hir::{internal::expand, ops::array::Squeeze},
};

/// The operator, for any version.
const EVERYTHING: &str = "SatisficeSqueezeEverything";

pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert(EVERYTHING, |_, _| Ok((expand(Squeeze::new(None)), vec![])));
}

/// Renames a `Squeeze` that says no axes.
pub(super) fn rename(node: &mut NodeProto) {
    let says_axes = node.input.len() > 1 || node.attribute.iter().any(|a| a.name == "axes");
    if node.op_type == "Squeeze" && !says_axes {
        EVERYTHING.clone_into(&mut node.op_type);
    }
}
