//! Tensor elements as little-endian bytes.

use bytemuck::cast_slice;
use bytes::{Buf, Bytes};
use half::{bf16, f16};
use satisfice_core::{ByteStrings, DataType, TensorData};

#[cfg(target_endian = "big")]
compile_error!("tensors are sent as they lie in memory, which has to be little-endian");

/// Length of the prefix of each `BYTES` element.
const PREFIX_BYTES: usize = 4;

/// `elements` elements of `datatype` from `raw`.
///
/// The message of the error lacks only the tensor's name.
pub(crate) fn decode(
    mut raw: impl Buf,
    datatype: DataType,
    elements: usize,
) -> Result<TensorData, String> {
    let length = raw.remaining();
    if let Some(size) = datatype.size_bytes()
        && elements.checked_mul(size) != Some(length)
    {
        return Err(format!(
            "binary data has {length} bytes, but {elements} elements of {datatype} take {size} bytes each"
        ));
    }
    Ok(match datatype {
        DataType::Bool => TensorData::Bool(booleans(&raw.copy_to_bytes(length))?),
        DataType::Uint8 => TensorData::Uint8(numbers(raw, u8::from_le_bytes)),
        DataType::Uint16 => TensorData::Uint16(numbers(raw, u16::from_le_bytes)),
        DataType::Uint32 => TensorData::Uint32(numbers(raw, u32::from_le_bytes)),
        DataType::Uint64 => TensorData::Uint64(numbers(raw, u64::from_le_bytes)),
        DataType::Int8 => TensorData::Int8(numbers(raw, i8::from_le_bytes)),
        DataType::Int16 => TensorData::Int16(numbers(raw, i16::from_le_bytes)),
        DataType::Int32 => TensorData::Int32(numbers(raw, i32::from_le_bytes)),
        DataType::Int64 => TensorData::Int64(numbers(raw, i64::from_le_bytes)),
        DataType::Fp16 => TensorData::Fp16(numbers(raw, f16::from_le_bytes)),
        DataType::Bf16 => TensorData::Bf16(numbers(raw, bf16::from_le_bytes)),
        DataType::Fp32 => TensorData::Fp32(numbers(raw, f32::from_le_bytes)),
        DataType::Fp64 => TensorData::Fp64(numbers(raw, f64::from_le_bytes)),
        DataType::Bytes => TensorData::Bytes(strings(&raw.copy_to_bytes(length), elements)?),
    })
}

/// The numbers that `raw` is made of, in whatever pieces it is.
fn numbers<const N: usize, T>(mut raw: impl Buf, read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let mut values = Vec::with_capacity(raw.remaining() / N);
    while raw.remaining() >= N {
        let (whole, _) = raw.chunk().as_chunks::<N>();
        values.extend(whole.iter().map(|bytes| read(*bytes)));
        raw.advance(whole.as_flattened().len());
        // One that lies across pieces.
        if raw.chunk().len() < N && raw.remaining() >= N {
            let mut bytes = [0; N];
            raw.copy_to_slice(&mut bytes);
            values.push(read(bytes));
        }
    }
    values
}

fn booleans(raw: &[u8]) -> Result<Vec<bool>, String> {
    match raw.iter().position(|&byte| byte > 1) {
        None => Ok(raw.iter().map(|&byte| byte == 1).collect()),
        Some(index) => Err(format!(
            "element {index} is the byte {}, but BOOL is 0 or 1",
            raw[index]
        )),
    }
}

fn strings(mut raw: &[u8], elements: usize) -> Result<ByteStrings, String> {
    let mut strings = ByteStrings::with_capacity(elements.min(raw.len() / PREFIX_BYTES));
    for index in 0..elements {
        let Some((prefix, rest)) = raw.split_first_chunk() else {
            return Err(format!(
                "binary data ends before element {index} of {elements}"
            ));
        };
        let length = u32::from_le_bytes(*prefix) as usize;
        let Some((string, rest)) = rest.split_at_checked(length) else {
            return Err(format!(
                "element {index} is to have {length} bytes, but only {} follow",
                rest.len()
            ));
        };
        strings.push(string);
        raw = rest;
    }
    match raw.len() {
        0 => Ok(strings),
        left => Err(format!("{left} bytes are left after {elements} elements")),
    }
}

/// Bytes that `data` takes; `None` when a `BYTES` element is too long for its prefix.
pub(crate) fn size(data: &TensorData) -> Option<usize> {
    match data {
        TensorData::Bytes(strings) => strings.iter().try_fold(0, |size, string| {
            u32::try_from(string.len()).ok()?;
            Some(size + PREFIX_BYTES + string.len())
        }),
        _ => Some(data.len() * data.datatype().size_bytes()?),
    }
}

/// Appends `data` to `out`; only for data that has a [`size`].
pub(crate) fn encode(data: &TensorData, out: &mut Vec<u8>) {
    match data {
        TensorData::Bytes(strings) => {
            for string in strings.iter() {
                out.extend_from_slice(&(string.len() as u32).to_le_bytes());
                out.extend_from_slice(string);
            }
        }
        numbers => out.extend_from_slice(view(numbers)),
    }
}

/// The bytes of `data`, without copying numbers; only for data that has a [`size`].
pub(crate) fn into_bytes(data: TensorData) -> Bytes {
    if let TensorData::Bytes(_) = data {
        let mut bytes = Vec::with_capacity(size(&data).unwrap_or(0));
        encode(&data, &mut bytes);
        return bytes.into();
    }
    Bytes::from_owner(Numbers(data))
}

struct Numbers(TensorData);

impl AsRef<[u8]> for Numbers {
    fn as_ref(&self) -> &[u8] {
        view(&self.0)
    }
}

/// Numbers as they lie in memory; nothing of strings.
fn view(data: &TensorData) -> &[u8] {
    match data {
        TensorData::Bool(v) => cast_slice(v),
        TensorData::Uint8(v) => cast_slice(v),
        TensorData::Uint16(v) => cast_slice(v),
        TensorData::Uint32(v) => cast_slice(v),
        TensorData::Uint64(v) => cast_slice(v),
        TensorData::Int8(v) => cast_slice(v),
        TensorData::Int16(v) => cast_slice(v),
        TensorData::Int32(v) => cast_slice(v),
        TensorData::Int64(v) => cast_slice(v),
        TensorData::Fp16(v) => cast_slice(v),
        TensorData::Bf16(v) => cast_slice(v),
        TensorData::Fp32(v) => cast_slice(v),
        TensorData::Fp64(v) => cast_slice(v),
        TensorData::Bytes(_) => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Pieces;

    #[test]
    fn sizes_must_agree() {
        let decode = |raw: &[u8], datatype, elements| decode(raw, datatype, elements);
        assert!(decode(&[0; 8], DataType::Fp32, 2).is_ok());
        assert!(decode(&[0; 7], DataType::Fp32, 2).is_err());
        assert!(decode(&[0; 12], DataType::Fp32, 2).is_err());
        assert!(decode(&[], DataType::Fp64, usize::MAX).is_err());
        assert!(decode(&[0, 1], DataType::Bool, 2).is_ok());
        assert!(decode(&[0, 2], DataType::Bool, 2).is_err());
    }

    #[test]
    fn numbers_may_lie_across_pieces() {
        let values: Vec<f64> = (0..50).map(|i| f64::from(i) * 0.7).collect();
        let whole = into_bytes(TensorData::Fp64(values.clone()));
        for length in 1..30 {
            let mut pieces = Pieces::default();
            let parts = whole.chunks(length);
            parts.for_each(|part| pieces.push(Bytes::copy_from_slice(part)));
            let decoded = decode(pieces, DataType::Fp64, 50);
            assert_eq!(decoded, Ok(TensorData::Fp64(values.clone())), "{length}");
        }
    }

    #[test]
    fn strings_are_checked() {
        let good = [1, 0, 0, 0, b'a', 0, 0, 0, 0];
        assert!(decode(&good[..], DataType::Bytes, 2).is_ok());
        assert!(decode(&good[..], DataType::Bytes, 1).is_err());
        assert!(decode(&good[..], DataType::Bytes, 3).is_err());
        assert!(decode(&good[..7], DataType::Bytes, 2).is_err());
        assert!(decode(&[255; 8][..], DataType::Bytes, 1).is_err());
        assert!(decode(&[][..], DataType::Bytes, usize::MAX).is_err());
    }
}
