//! tract: built in, pure Rust.

use super::{Executable, Runtime, unreadable};
use crate::signature::Signature;
use satisfice_core::{DataType, Tensor, TensorData};
use std::{
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

    fn load(
        &self,
        path: &Path,
        signature: &Signature,
        output: usize,
        rows_max: usize,
    ) -> Result<Box<dyn Executable>, String> {
        // tract panics on some malformed files.
        catch_unwind(|| plans(path, signature, output, rows_max))
            .map_err(|_| "tract panicked on this network".to_owned())?
            .map(|plans| Box::new(Optimised { plans }) as Box<dyn Executable>)
            .map_err(|error| format!("tract cannot execute this network: {error:#}"))
    }
}

type Plan = Arc<TypedRunnableModel>;

fn plans(
    path: &Path,
    signature: &Signature,
    output: usize,
    rows_max: usize,
) -> TractResult<Vec<(usize, Plan)>> {
    // Shapes noted between the nodes have the batch as a symbol; here it is a number.
    let onnx = tract_onnx::onnx().with_ignore_value_info(true);
    let mut model = onnx.model_for_path(path)?;
    let wanted = model.outputs[output];
    model.select_output_outlets(&[wanted])?;
    let sizes = BATCHES.into_iter().filter(|&size| size <= rows_max);
    sizes
        .map(|size| Ok((size, plan(model.clone(), signature, size)?)))
        .collect()
}

/// The network for batches of exactly `rows`.
fn plan(mut model: InferenceModel, signature: &Signature, rows: usize) -> TractResult<Plan> {
    for (i, input) in signature.inputs.iter().enumerate() {
        let shape = input.shape.iter().map(|length| length.unwrap_or(rows));
        let shape: TVec<usize> = shape.collect();
        let datatype = match input.datatype {
            DataType::Int64 => DatumType::I64,
            DataType::Int32 => DatumType::I32,
            DataType::Uint8 => DatumType::U8,
            DataType::Bool => DatumType::Bool,
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
    fn run(&self, inputs: &[Tensor], rows: usize) -> Result<Vec<f32>, String> {
        let mut outputs = Vec::new();
        let mut from = 0;
        while from < rows {
            let fits = |(size, _): &&(usize, Plan)| *size <= rows - from;
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
            let values = answer[0].to_plain_array_view::<f32>();
            let values = values.map_err(|error| format!("{error:#}"))?;
            outputs.extend(values.iter());
            from += size;
        }
        Ok(outputs)
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
        TensorData::Bool(v) => TractTensor::from_shape(&shape, &v[rows]),
        other => return Err(unreadable(other.datatype())),
    };
    Ok(made.map_err(|error| format!("{error:#}"))?.into_tvalue())
}
