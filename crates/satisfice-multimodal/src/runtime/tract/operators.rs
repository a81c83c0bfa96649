//! ONNX's operator tests, as `bench/parity/multimodal/operators.py` writes them.
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

use super::{mend, onnx, parsed, plans::optimised, said, weights};
use crate::signature::Axis;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::{
    collections::BTreeMap,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::Instant,
};
use tract_onnx::prelude::{DatumType, Framework, InferenceFact, IntoTValue, TValue, TVec, Tensor};

#[test]
#[ignore = "reads what bench/parity/multimodal/operators.py writes"]
fn every_operator_is_right_or_refused() {
    let directory = env::var_os("SATISFICE_OPERATORS").unwrap();
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    names.sort();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    let ways = [true, false];
    for (case, integers_pay) in names.iter().flat_map(|case| ways.map(|way| (case, way))) {
        let name = case.file_name().unwrap().to_string_lossy();
        let outcome = catch_unwind(AssertUnwindSafe(|| run(case, integers_pay)));
        let outcome = outcome.unwrap_or_else(|_| Err("panicked".to_owned()));
        let kind = match &outcome {
            Ok(None) => "right",
            Ok(Some(_)) => "wrong",
            Err(_) => "refused",
        };
        *counts.entry(kind).or_default() += 1;
        match outcome {
            Ok(None) => {}
            Ok(Some(how)) => {
                println!("wrong {name}: {how}");
                wrong.push(name.into_owned());
            }
            Err(why) => println!("refused {name}: {}", why.lines().next().unwrap_or_default()),
        }
    }
    println!("{counts:?}");
    assert!(wrong.is_empty(), "wrong: {}", wrong.join(", "));
}

/// What is wrong with the answer to a case, if anything; or why there is none.
fn run(case: &Path, integers_pay: bool) -> Result<Option<String>, String> {
    let data = fs::read(case.join("data.safetensors")).unwrap();
    let data = SafeTensors::deserialize(&data).unwrap();
    let numbered = |what: &str| {
        let names = (0..).map(|i| format!("{what} {i}"));
        let tensors = names.map_while(|name| data.tensor(&name).ok());
        tensors.collect::<Vec<_>>()
    };
    let proto = onnx().proto_model_for_path(case.join("model.onnx"));
    let mut proto = proto.map_err(|e| said(&e))?;
    mend::mend(&mut proto, integers_pay)?;
    let mut model = parsed(&proto)?;
    let inputs: TVec<TValue> = numbered("input").iter().map(value).collect();
    for (i, input) in inputs.iter().enumerate() {
        let fact = InferenceFact::dt_shape(input.datum_type(), input.shape());
        model.set_input_fact(i, fact).map_err(|e| said(&e))?;
    }
    let found = optimised(model)
        .map_err(|e| said(&e))?
        .run(inputs)
        .map_err(|e| said(&e))?;
    for (i, (found, wanted)) in found.iter().zip(numbered("output")).enumerate() {
        if let Some(how) = differs(found, &value(&wanted)) {
            return Ok(Some(format!("output {i}: {how}")));
        }
    }
    Ok(None)
}

fn value(view: &TensorView<'_>) -> TValue {
    fn of<T, const N: usize>(view: &TensorView<'_>, number: fn([u8; N]) -> T) -> Tensor
    where
        T: tract_onnx::prelude::Datum + Copy,
    {
        let numbers: Vec<T> = view
            .data()
            .as_chunks::<N>()
            .0
            .iter()
            .map(|&b| number(b))
            .collect();
        Tensor::from_shape(view.shape(), &numbers).unwrap()
    }
    let tensor = match view.dtype() {
        Dtype::BOOL => of(view, |[b]| b != 0),
        Dtype::I8 => of(view, i8::from_le_bytes),
        Dtype::U8 => of(view, u8::from_le_bytes),
        Dtype::I16 => of(view, i16::from_le_bytes),
        Dtype::U16 => of(view, u16::from_le_bytes),
        Dtype::I32 => of(view, i32::from_le_bytes),
        Dtype::U32 => of(view, u32::from_le_bytes),
        Dtype::I64 => of(view, i64::from_le_bytes),
        Dtype::U64 => of(view, u64::from_le_bytes),
        Dtype::F16 => of(view, half::f16::from_le_bytes),
        Dtype::F32 => of(view, f32::from_le_bytes),
        Dtype::F64 => of(view, f64::from_le_bytes),
        other => panic!("{other:?}"),
    };
    tensor.into_tvalue()
}

fn differs(found: &TValue, wanted: &TValue) -> Option<String> {
    // tract has integers of its own for shapes.
    let same_type = found.datum_type() == wanted.datum_type() || found.datum_type().is_tdim();
    if !same_type || found.shape() != wanted.shape() {
        return Some(format!("{found:?} where {wanted:?} is right"));
    }
    let numbers = |value: &TValue| -> Option<Vec<f64>> {
        let value = match value.datum_type() {
            DatumType::Bool => value
                .cast_to::<u8>()
                .ok()?
                .into_owned()
                .cast_to::<f64>()
                .ok()?
                .into_owned(),
            _ => value.cast_to::<f64>().ok()?.into_owned(),
        };
        Some(
            value
                .to_plain_array_view::<f64>()
                .ok()?
                .iter()
                .copied()
                .collect(),
        )
    };
    let (Some(a), Some(b)) = (numbers(found), numbers(wanted)) else {
        return Some("cannot be compared".to_owned());
    };
    let close = |a: f64, b: f64| {
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-5 + 2e-3 * b.abs()
    };
    let at = a.iter().zip(&b).position(|(&a, &b)| !close(a, b))?;
    Some(format!(
        "element {at} of {:?} is {} where {} is right",
        wanted.shape(),
        a[at],
        b[at]
    ))
}

/// Milliseconds of a network in tract, with its integers and in F32.
#[test]
#[ignore = "reads the file that SATISFICE_NETWORK names; axes have the lengths of SATISFICE_LENGTHS, as in n=1,words=32"]
fn time_of_a_network() {
    let path = env::var("SATISFICE_NETWORK").unwrap();
    let lengths = env::var("SATISFICE_LENGTHS").unwrap_or_default();
    let lengths: BTreeMap<&str, usize> = lengths
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, length)| (name, length.parse().unwrap()))
        .collect();
    let signature = crate::signature::Signature::read(Path::new(&path)).unwrap();
    println!("integers pay: {}", super::kernels::integers_pay());
    for pay in [true, false] {
        let mut proto = onnx().proto_model_for_path(&path).unwrap();
        mend::mend(&mut proto, pay).unwrap();
        weights::locate(&mut proto, Path::new(&path)).unwrap();
        let mut model = parsed(&proto).unwrap();
        let mut inputs: TVec<TValue> = TVec::new();
        for (i, input) in signature.inputs.iter().enumerate() {
            let length = |axis: &Axis| match axis {
                Axis::Fixed(length) => *length,
                Axis::Named(name) => lengths.get(name.as_str()).copied().unwrap_or(1),
                Axis::Free => 1,
            };
            let shape: Vec<usize> = input.axes.iter().map(length).collect();
            let count: usize = shape.iter().product();
            let made = if input.datatype == satisfice_core::DataType::Int64 {
                Tensor::from_shape(&shape, &vec![1_i64; count])
            } else {
                let values: Vec<f32> = (0..count).map(|i| (i as f32).sin()).collect();
                Tensor::from_shape(&shape, &values)
            };
            let made = made.unwrap();
            let fact = InferenceFact::dt_shape(made.datum_type(), made.shape());
            model.set_input_fact(i, fact).unwrap();
            inputs.push(made.into_tvalue());
        }
        let start = Instant::now();
        let plan = optimised(model).unwrap();
        let made = start.elapsed();
        let mut times = Vec::new();
        for _ in 0..7 {
            let start = Instant::now();
            plan.run(inputs.clone()).unwrap();
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        println!(
            "integers {pay}: made in {made:?}, runs in {:.1} to {:.1} ms, median {:.1}",
            times[0], times[6], times[3]
        );
    }
}
