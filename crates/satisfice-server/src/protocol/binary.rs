//! Tensor elements as little-endian bytes.

use half::{bf16, f16};
use satisfice_core::{ByteStrings, DataType, TensorData};

/// Length of the prefix of each `BYTES` element.
const PREFIX_BYTES: usize = 4;

/// Elements that are made bytes at once.
const BLOCK: usize = 512;

/// `elements` elements of `datatype` from `raw`.
///
/// The message of the error lacks only the tensor's name.
pub(crate) fn decode(
    raw: &[u8],
    datatype: DataType,
    elements: usize,
) -> Result<TensorData, String> {
    if let Some(size) = datatype.size_bytes()
        && elements.checked_mul(size) != Some(raw.len())
    {
        return Err(format!(
            "binary data has {} bytes, but {elements} elements of {datatype} take {size} bytes each",
            raw.len()
        ));
    }
    Ok(match datatype {
        DataType::Bool => TensorData::Bool(booleans(raw)?),
        DataType::Uint8 => TensorData::Uint8(raw.to_vec()),
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
        DataType::Bytes => TensorData::Bytes(strings(raw, elements)?),
    })
}

fn numbers<const N: usize, T>(raw: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = raw.as_chunks::<N>();
    chunks.iter().map(|chunk| read(*chunk)).collect()
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
        TensorData::Bool(v) => out.extend(v.iter().map(|&v| u8::from(v))),
        TensorData::Uint8(v) => out.extend_from_slice(v),
        TensorData::Uint16(v) => append(out, v, u16::to_le_bytes),
        TensorData::Uint32(v) => append(out, v, u32::to_le_bytes),
        TensorData::Uint64(v) => append(out, v, u64::to_le_bytes),
        TensorData::Int8(v) => append(out, v, i8::to_le_bytes),
        TensorData::Int16(v) => append(out, v, i16::to_le_bytes),
        TensorData::Int32(v) => append(out, v, i32::to_le_bytes),
        TensorData::Int64(v) => append(out, v, i64::to_le_bytes),
        TensorData::Fp16(v) => append(out, v, f16::to_le_bytes),
        TensorData::Bf16(v) => append(out, v, bf16::to_le_bytes),
        TensorData::Fp32(v) => append(out, v, f32::to_le_bytes),
        TensorData::Fp64(v) => append(out, v, f64::to_le_bytes),
        TensorData::Bytes(v) => {
            for string in v.iter() {
                out.extend_from_slice(&(string.len() as u32).to_le_bytes());
                out.extend_from_slice(string);
            }
        }
    }
}

fn append<const N: usize, T: Copy>(out: &mut Vec<u8>, values: &[T], write: impl Fn(T) -> [u8; N]) {
    // By blocks in cache: the place of large tensors is written to once.
    let mut block = [[0; N]; BLOCK];
    out.reserve(values.len() * N);
    for values in values.chunks(BLOCK) {
        for (bytes, value) in block.iter_mut().zip(values) {
            *bytes = write(*value);
        }
        out.extend_from_slice(block[..values.len()].as_flattened());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_must_agree() {
        assert!(decode(&[0; 8], DataType::Fp32, 2).is_ok());
        assert!(decode(&[0; 7], DataType::Fp32, 2).is_err());
        assert!(decode(&[0; 12], DataType::Fp32, 2).is_err());
        assert!(decode(&[], DataType::Fp64, usize::MAX).is_err());
        assert!(decode(&[0, 1], DataType::Bool, 2).is_ok());
        assert!(decode(&[0, 2], DataType::Bool, 2).is_err());
    }

    #[test]
    fn strings_are_checked() {
        let good = [1, 0, 0, 0, b'a', 0, 0, 0, 0];
        assert!(decode(&good, DataType::Bytes, 2).is_ok());
        assert!(decode(&good, DataType::Bytes, 1).is_err());
        assert!(decode(&good, DataType::Bytes, 3).is_err());
        assert!(decode(&good[..7], DataType::Bytes, 2).is_err());
        assert!(decode(&[255; 8], DataType::Bytes, 1).is_err());
        assert!(decode(&[], DataType::Bytes, usize::MAX).is_err());
    }
}
