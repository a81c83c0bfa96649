//! Weights that are kept small are made F32 once. tract makes constants of constants too, but not of
//! those that grow beyond 4 MB: it would make them anew in every run.

use tract_onnx::tract_core::{
    internal::{
        Arc, IntoArcTensor, IntoTValue, TValue, TVec, Tensor, ToDim, TractResult, TypedModel,
        TypedModelPatch,
    },
    ops::konst::Const,
};

/// Replaces what is computed of constants alone, element by element, by the constants it is.
pub(super) fn fold(model: &mut TypedModel) -> TractResult<()> {
    for id in model.eval_order()? {
        if let Some(values) = constant(model, id)? {
            let mut patch = TypedModelPatch::default();
            let made = patch.wire_node(&model.node(id).name, Const::new(values)?, &[])?;
            patch.shunt_outside(model, id.into(), made[0])?;
            patch.apply(model)?;
        }
    }
    Ok(())
}

/// What a node gives, where that is as many elements as its largest constant has.
fn constant(model: &TypedModel, id: usize) -> TractResult<Option<Arc<Tensor>>> {
    let node = model.node(id);
    if node.op_is::<Const>() || node.inputs.is_empty() || node.outputs.len() != 1 {
        return Ok(None);
    }
    let facts = model.node_input_facts(id)?;
    let inputs: Option<TVec<TValue>> = facts
        .iter()
        .map(|fact| fact.konst.clone().map(IntoTValue::into_tvalue))
        .collect();
    let Some(inputs) = inputs else {
        return Ok(None);
    };
    let largest = inputs.iter().map(|input| input.len()).max().unwrap_or(0);
    let elements = node.outputs[0].fact.shape.volume();
    if elements != largest.to_dim() {
        return Ok(None);
    }
    // What cannot be computed now is computed when the network runs.
    let values = node.op.eval_out_of_plan(inputs).ok().flatten();
    Ok(values.map(|mut values| values.remove(0).into_arc_tensor()))
}
