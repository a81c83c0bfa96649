//! tract: built in, pure Rust.

mod fold;
mod integers;
mod kernels;
mod mend;
#[cfg(test)]
mod operators;
mod plans;
mod quantise;
mod squeeze;
mod weights;

use super::{Executable, Loaded, Rows, Runtime, cut, unreadable};
use crate::signature::Port;
use plans::Plans;
use satisfice_core::{DataType, Tensor, TensorData};
use std::{
    borrow::Cow,
    fmt,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};
use tract_onnx::{
    Onnx,
    pb::ModelProto,
    prelude::{Datum, InferenceModel, IntoTValue, TValue, TVec, Tensor as TractTensor},
};

#[derive(Debug)]
pub(crate) struct Tract;

impl Runtime for Tract {
    fn name(&self) -> String {
        "tract 0.23".to_owned()
    }

    fn load(&self, network: Loaded<'_>) -> Result<Box<dyn Executable>, String> {
        if network.bound.reads.contains(&DataType::Bf16) {
            return Err(
                "tract does not read BF16: export the network in FP32 or FP16, or run it in ONNX \
                        Runtime"
                    .to_owned(),
            );
        }
        // tract panics on some malformed files.
        catch_unwind(|| Plans::load(network))
            .map_err(|_| "tract panicked on this network".to_owned())?
            .map(|plans| Box::new(Optimised(Arc::new(plans))) as Box<dyn Executable>)
            .map_err(|error| format!("tract cannot execute this network: {error}"))
    }
}

/// An error with its causes.
fn said(error: &dyn fmt::Display) -> String {
    format!("{error:#}")
}

/// tract's reader of ONNX files. Shapes noted between the nodes have the batch as a symbol; in plans it is
/// a number.
fn onnx() -> Onnx {
    let mut onnx = tract_onnx::onnx().with_ignore_value_info(true);
    quantise::register(&mut onnx.op_register);
    squeeze::register(&mut onnx.op_register);
    onnx
}

/// A network whose weights beside it were located.
fn parsed(model: &ModelProto) -> Result<InferenceModel, String> {
    let parsed = onnx()
        .parse(model, Some(weights::ROOT))
        .map_err(|e| said(&e))?;
    match parsed.unresolved_inputs.first() {
        Some(name) => Err(format!("nothing makes `{name}`")),
        None => Ok(parsed.model),
    }
}

#[derive(Debug)]
struct Optimised(Arc<Plans>);

impl Executable for Optimised {
    fn prepare(&self, rows: usize) {
        self.0.make(rows);
    }

    fn run(
        &self,
        inputs: &[Tensor],
        rows: Range<usize>,
        outputs: &mut [Rows],
    ) -> Result<(), String> {
        let mut from = rows.start;
        while from < rows.end {
            let (size, plan) = self.0.next(rows.end - from);
            let ports = self.0.bound.inputs.iter().zip(inputs);
            let batch: Result<TVec<TValue>, String> = ports
                .map(|(port, tensor)| value(port, tensor, from..from + size))
                .collect();
            let batch = batch?;
            // tract asserts what it expects of values.
            let answer = catch_unwind(AssertUnwindSafe(|| plan.run(batch)))
                .map_err(|_| "tract panicked".to_owned())?
                .map_err(|error| said(&error))?;
            for (values, rows) in answer.iter().zip(outputs.iter_mut()) {
                let values = values.cast_to::<f32>().map_err(|e| said(&e))?;
                let numbers = values.try_as_plain_ram().and_then(|v| v.as_slice::<f32>());
                rows.add(size, values.shape(), numbers.map_err(|e| said(&e))?, |v| v)?;
            }
            from += size;
        }
        Ok(())
    }
}

/// Some rows of an input.
fn value(port: &Port, tensor: &Tensor, rows: Range<usize>) -> Result<TValue, String> {
    fn of<T: Datum + Copy>(
        (shape, values): (Vec<usize>, Cow<'_, [T]>),
    ) -> Result<TractTensor, String> {
        TractTensor::from_shape(&shape, &values).map_err(|error| said(&error))
    }
    let made = match tensor.data() {
        TensorData::Fp32(v) => of(cut(port, v, rows)),
        TensorData::Int64(v) => of(cut(port, v, rows)),
        TensorData::Int32(v) => of(cut(port, v, rows)),
        TensorData::Uint8(v) => of(cut(port, v, rows)),
        TensorData::Int8(v) => of(cut(port, v, rows)),
        TensorData::Bool(v) => of(cut(port, v, rows)),
        TensorData::Fp16(v) => of(cut(port, v, rows)),
        TensorData::Fp64(v) => of(cut(port, v, rows)),
        other => Err(unreadable(other.datatype())),
    };
    Ok(made?.into_tvalue())
}
