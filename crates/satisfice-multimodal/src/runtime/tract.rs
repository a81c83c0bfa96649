//! tract: built in, pure Rust.

mod mend;
#[cfg(test)]
mod operators;

use super::{Executable, Loaded, Rows, Runtime, unreadable};
use crate::signature::Bound;
use satisfice_core::{DataType, Tensor, TensorData};
use std::{
    fmt,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable,
    IntoTValue, TValue, TVec, Tensor as TractTensor, TractResult, TypedRunnableModel,
};

/// Batch sizes for which a network is optimised, largest first. A batch of another size is cut:
/// larger batches gain nothing on a CPU, and padding would compute rows that nobody wants.
const BATCHES: [usize; 4] = [8, 4, 2, 1];

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
        catch_unwind(|| plans(network))
            .map_err(|_| "tract panicked on this network".to_owned())?
            .map(|plans| Box::new(Optimised { plans }) as Box<dyn Executable>)
            .map_err(|error| format!("tract cannot execute this network: {error}"))
    }
}

type Plan = Arc<TypedRunnableModel>;

/// An error with its causes.
fn said(error: &dyn fmt::Display) -> String {
    format!("{error:#}")
}

fn plans(network: Loaded<'_>) -> Result<Vec<(usize, Plan)>, String> {
    // Shapes noted between the nodes have the batch as a symbol; here it is a number.
    let onnx = tract_onnx::onnx().with_ignore_value_info(true);
    let mut proto = onnx
        .proto_model_for_path(network.path)
        .map_err(|e| said(&e))?;
    mend::mend(&mut proto)?;
    let dir = network.path.parent().and_then(Path::to_str);
    let parsed = onnx.parse(&proto, dir).map_err(|e| said(&e))?;
    if let Some(name) = parsed.unresolved_inputs.first() {
        return Err(format!("nothing makes `{name}`"));
    }
    let mut model = parsed.model;
    let wanted = model.outputs[network.output];
    model
        .select_output_outlets(&[wanted])
        .map_err(|e| said(&e))?;
    let sizes = BATCHES.into_iter().filter(|&size| size <= network.rows_max);
    sizes
        .map(|size| {
            Ok((
                size,
                plan(model.clone(), network.bound, size).map_err(|e| said(&e))?,
            ))
        })
        .collect()
}

/// The network for batches of exactly `rows`.
fn plan(mut model: InferenceModel, bound: &Bound, rows: usize) -> TractResult<Plan> {
    for (i, (input, reads)) in bound.inputs.iter().zip(&bound.reads).enumerate() {
        let shape = input.shape.iter().map(|length| length.unwrap_or(rows));
        let shape: TVec<usize> = shape.collect();
        let datatype = match reads {
            DataType::Int64 => DatumType::I64,
            DataType::Int32 => DatumType::I32,
            DataType::Int8 => DatumType::I8,
            DataType::Uint8 => DatumType::U8,
            DataType::Bool => DatumType::Bool,
            DataType::Fp16 => DatumType::F16,
            DataType::Fp64 => DatumType::F64,
            _ => DatumType::F32,
        };
        model.set_input_fact(i, InferenceFact::dt_shape(datatype, shape))?;
    }
    model.into_optimized()?.into_runnable()
}

#[derive(Debug)]
struct Optimised {
    /// Largest batch first, down to 1.
    plans: Vec<(usize, Plan)>,
}

impl Executable for Optimised {
    fn run(&self, inputs: &[Tensor], rows: Range<usize>, outputs: &mut Rows) -> Result<(), String> {
        let mut from = rows.start;
        while from < rows.end {
            let fits = |(size, _): &&(usize, Plan)| *size <= rows.end - from;
            let (size, plan) = self
                .plans
                .iter()
                .find(fits)
                .expect("invariant: there is a plan for 1");
            let batch: Result<TVec<TValue>, String> = inputs
                .iter()
                .map(|tensor| cut(tensor, from, *size))
                .collect();
            let batch = batch?;
            // tract asserts what it expects of values.
            let answer = catch_unwind(AssertUnwindSafe(|| plan.run(batch)))
                .map_err(|_| "tract panicked".to_owned())?
                .map_err(|error| format!("{error:#}"))?;
            let values = answer[0].cast_to::<f32>().map_err(|e| format!("{e:#}"))?;
            let values = values
                .to_plain_array_view::<f32>()
                .map_err(|error| format!("{error:#}"))?;
            outputs.add(*size, values.shape(), values.iter().copied())?;
            from += size;
        }
        Ok(())
    }
}

/// Rows `from .. from + count` of a batch.
fn cut(tensor: &Tensor, from: usize, count: usize) -> Result<TValue, String> {
    let width: usize = tensor.shape()[1..].iter().product();
    let mut shape = tensor.shape().to_vec();
    shape[0] = count;
    let rows = from * width..(from + count) * width;
    let made = match tensor.data() {
        TensorData::Fp32(v) => TractTensor::from_shape(&shape, &v[rows]),
        TensorData::Int64(v) => TractTensor::from_shape(&shape, &v[rows]),
        TensorData::Int32(v) => TractTensor::from_shape(&shape, &v[rows]),
        TensorData::Uint8(v) => TractTensor::from_shape(&shape, &v[rows]),
        TensorData::Int8(v) => TractTensor::from_shape(&shape, &v[rows]),
        TensorData::Bool(v) => TractTensor::from_shape(&shape, &v[rows]),
        TensorData::Fp16(v) => TractTensor::from_shape(&shape, &v[rows]),
        TensorData::Fp64(v) => TractTensor::from_shape(&shape, &v[rows]),
        other => return Err(unreadable(other.datatype())),
    };
    Ok(made.map_err(|error| format!("{error:#}"))?.into_tvalue())
}
