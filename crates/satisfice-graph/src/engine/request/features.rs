//! Features of new nodes, whatever type of number they come in.

use super::wrong_datatype;
use crate::GraphError;
use satisfice_core::{Tensor, TensorData};
use std::borrow::Cow;

const TAKEN: &str = "FP32, FP16, BF16 or FP64, or integers or BOOL that FP32 holds exactly";

/// The elements of `x` as f32. FP64 is rounded, as `PyTorch` rounds it; integers must be exact.
pub(crate) fn single(tensor: &Tensor) -> Result<Cow<'_, [f32]>, GraphError> {
    let converted = match tensor.data() {
        TensorData::Fp32(values) => return Ok(values.into()),
        TensorData::Fp64(values) => values.iter().map(|&v| v as f32).collect(),
        TensorData::Fp16(values) => values.iter().map(|v| v.to_f32()).collect(),
        TensorData::Bf16(values) => values.iter().map(|v| v.to_f32()).collect(),
        TensorData::Bool(values) => values.iter().map(|&v| f32::from(u8::from(v))).collect(),
        TensorData::Uint8(values) => values.iter().map(|&v| v.into()).collect(),
        TensorData::Int8(values) => values.iter().map(|&v| v.into()).collect(),
        TensorData::Uint16(values) => values.iter().map(|&v| v.into()).collect(),
        TensorData::Int16(values) => values.iter().map(|&v| v.into()).collect(),
        TensorData::Uint32(values) => exact(tensor, values.iter().map(|&v| v.into()))?,
        TensorData::Int32(values) => exact(tensor, values.iter().map(|&v| v.into()))?,
        TensorData::Uint64(values) => exact(tensor, values.iter().map(|&v| v.into()))?,
        TensorData::Int64(values) => exact(tensor, values.iter().map(|&v| v.into()))?,
        TensorData::Bytes(_) => return Err(wrong_datatype("x", tensor, TAKEN)),
    };
    Ok(converted.into())
}

fn exact(tensor: &Tensor, values: impl Iterator<Item = i128>) -> Result<Vec<f32>, GraphError> {
    let convert = |(at, value): (usize, i128)| {
        let converted = value as f32;
        if converted as i128 == value {
            return Ok(converted);
        }
        Err(GraphError::request_hint(
            "inexact_feature",
            format!(
                "`x`: element {at} is {value}, which FP32 does not hold exactly (datatype {})",
                tensor.datatype()
            ),
            "scale features as they were scaled for training, or send them as FP32",
        ))
    };
    values.enumerate().map(convert).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

    use super::*;
    use half::{bf16, f16};
    use satisfice_core::ByteStrings;

    fn read(data: TensorData) -> Result<Vec<f32>, GraphError> {
        let tensor = Tensor::new(vec![1, data.len()], data).unwrap();
        single(&tensor).map(Cow::into_owned)
    }

    #[test]
    fn every_type_of_number_is_read() {
        let cases = [
            (TensorData::Fp32(vec![0.1, -2.0]), [0.1, -2.0]),
            (TensorData::Fp64(vec![0.1, -2.0]), [0.1, -2.0]),
            (
                TensorData::Fp16([0.5, -2.0].map(f16::from_f32).into()),
                [0.5, -2.0],
            ),
            (
                TensorData::Bf16([0.5, -3e38].map(bf16::from_f32).into()),
                [0.5, bf16::from_f32(-3e38).to_f32()],
            ),
            (TensorData::Bool(vec![true, false]), [1.0, 0.0]),
            (TensorData::Uint8(vec![255, 1]), [255.0, 1.0]),
            (TensorData::Int8(vec![-128, 1]), [-128.0, 1.0]),
            (TensorData::Uint16(vec![65_535, 1]), [65_535.0, 1.0]),
            (TensorData::Int16(vec![-32_768, 1]), [-32_768.0, 1.0]),
            (TensorData::Uint32(vec![1 << 31, 1]), [2_147_483_648.0, 1.0]),
            (
                TensorData::Int32(vec![-16_777_216, 1]),
                [-16_777_216.0, 1.0],
            ),
            (
                TensorData::Uint64(vec![1 << 63, 1]),
                [9_223_372_036_854_775_808.0, 1.0],
            ),
            (
                TensorData::Int64(vec![i64::MIN, 3]),
                [-9_223_372_036_854_775_808.0, 3.0],
            ),
        ];
        for (data, wanted) in cases {
            assert_eq!(read(data.clone()).unwrap(), wanted, "{data:?}");
        }
    }

    #[test]
    fn integers_that_would_be_rounded_are_refused() {
        for data in [
            TensorData::Int64(vec![0, 16_777_217]),
            TensorData::Int32(vec![0, -16_777_217]),
            TensorData::Uint32(vec![0, u32::MAX]),
            TensorData::Uint64(vec![0, u64::MAX]),
            TensorData::Int64(vec![0, i64::MAX]),
        ] {
            let message = read(data).unwrap_err().to_string();
            assert!(message.contains("element 1"), "{message}");
        }
        let strings = ByteStrings::from_iter(["1", "2"]);
        let error = read(TensorData::Bytes(strings)).unwrap_err();
        let GraphError::Request { code, hint, .. } = error else {
            unreachable!()
        };
        assert_eq!(code, "wrong_datatype");
        assert!(hint.unwrap().contains("BF16"));
    }
}
