//! Typed tensor elements.

use super::proto::InferTensorContents;
use satisfice_core::{ByteStrings, DataType, TensorData};

/// The elements in the field of `datatype`; no other field may have any.
///
/// The message of the error lacks only the tensor's name.
pub(super) fn decode(
    mut contents: InferTensorContents,
    datatype: DataType,
) -> Result<TensorData, String> {
    let data = take(&mut contents, datatype)?;
    if contents == InferTensorContents::default() {
        Ok(data)
    } else {
        Err(format!(
            "`contents` has elements of another datatype than {datatype}"
        ))
    }
}

fn take(contents: &mut InferTensorContents, datatype: DataType) -> Result<TensorData, String> {
    use std::mem::take;
    Ok(match datatype {
        DataType::Bool => TensorData::Bool(take(&mut contents.bool_contents)),
        DataType::Int8 => TensorData::Int8(narrow(&take(&mut contents.int_contents), datatype)?),
        DataType::Int16 => TensorData::Int16(narrow(&take(&mut contents.int_contents), datatype)?),
        DataType::Int32 => TensorData::Int32(take(&mut contents.int_contents)),
        DataType::Int64 => TensorData::Int64(take(&mut contents.int64_contents)),
        DataType::Uint8 => TensorData::Uint8(narrow(&take(&mut contents.uint_contents), datatype)?),
        DataType::Uint16 => {
            TensorData::Uint16(narrow(&take(&mut contents.uint_contents), datatype)?)
        }
        DataType::Uint32 => TensorData::Uint32(take(&mut contents.uint_contents)),
        DataType::Uint64 => TensorData::Uint64(take(&mut contents.uint64_contents)),
        DataType::Fp32 => TensorData::Fp32(take(&mut contents.fp32_contents)),
        DataType::Fp64 => TensorData::Fp64(take(&mut contents.fp64_contents)),
        DataType::Bytes => TensorData::Bytes(take(&mut contents.bytes_contents).iter().collect()),
        DataType::Fp16 | DataType::Bf16 => {
            return Err(format!("{datatype} travels only in `raw_input_contents`"));
        }
    })
}

fn narrow<W: Copy + std::fmt::Display, N: TryFrom<W>>(
    wide: &[W],
    datatype: DataType,
) -> Result<Vec<N>, String> {
    let element = |(index, &value): (usize, &W)| {
        N::try_from(value).map_err(|_| format!("element {index} is {value}, no {datatype}"))
    };
    wide.iter().enumerate().map(element).collect()
}

/// Whether elements of `datatype` have a typed form.
pub(super) fn is_typed(datatype: DataType) -> bool {
    !matches!(datatype, DataType::Fp16 | DataType::Bf16)
}

/// The elements in the field of their datatype; none of a datatype that has no typed form.
pub(super) fn encode(data: &TensorData) -> InferTensorContents {
    let mut contents = InferTensorContents::default();
    match data {
        TensorData::Bool(v) => contents.bool_contents.clone_from(v),
        TensorData::Int8(v) => contents.int_contents = widen(v),
        TensorData::Int16(v) => contents.int_contents = widen(v),
        TensorData::Int32(v) => contents.int_contents.clone_from(v),
        TensorData::Int64(v) => contents.int64_contents.clone_from(v),
        TensorData::Uint8(v) => contents.uint_contents = widen(v),
        TensorData::Uint16(v) => contents.uint_contents = widen(v),
        TensorData::Uint32(v) => contents.uint_contents.clone_from(v),
        TensorData::Uint64(v) => contents.uint64_contents.clone_from(v),
        TensorData::Fp32(v) => contents.fp32_contents.clone_from(v),
        TensorData::Fp64(v) => contents.fp64_contents.clone_from(v),
        TensorData::Bytes(v) => contents.bytes_contents = strings(v),
        TensorData::Fp16(_) | TensorData::Bf16(_) => {}
    }
    contents
}

fn widen<N: Copy, W: From<N>>(narrow: &[N]) -> Vec<W> {
    narrow.iter().map(|&value| W::from(value)).collect()
}

fn strings(strings: &ByteStrings) -> Vec<bytes::Bytes> {
    strings.iter().map(bytes::Bytes::copy_from_slice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_elements_come_back() {
        for data in [
            TensorData::Bool(vec![true, false]),
            TensorData::Int8(vec![i8::MIN, i8::MAX]),
            TensorData::Int16(vec![i16::MIN, i16::MAX]),
            TensorData::Int32(vec![i32::MIN, i32::MAX]),
            TensorData::Int64(vec![i64::MIN, i64::MAX]),
            TensorData::Uint8(vec![0, u8::MAX]),
            TensorData::Uint16(vec![0, u16::MAX]),
            TensorData::Uint32(vec![0, u32::MAX]),
            TensorData::Uint64(vec![0, u64::MAX]),
            TensorData::Fp32(vec![0.5, f32::MAX]),
            TensorData::Fp64(vec![0.5, f64::MAX]),
            TensorData::Bytes([&b"\xff"[..], b""].into_iter().collect()),
        ] {
            assert!(is_typed(data.datatype()));
            assert_eq!(decode(encode(&data), data.datatype()), Ok(data));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let wide = encode(&TensorData::Int32(vec![0, 128]));
        let error = decode(wide.clone(), DataType::Int8).unwrap_err();
        assert_eq!(error, "element 1 is 128, no INT8");
        assert!(decode(wide.clone(), DataType::Fp32).is_err());
        assert!(decode(wide, DataType::Fp16).is_err());
        let two = InferTensorContents {
            fp64_contents: vec![1.0],
            ..encode(&TensorData::Fp32(vec![1.0]))
        };
        assert!(decode(two, DataType::Fp32).is_err());
    }
}
