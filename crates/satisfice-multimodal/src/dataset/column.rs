use super::integers;
use crate::config::TensorConfig;
use safetensors::{Dtype, tensor::TensorView};
use satisfice_core::{ByteStrings, DataType, Tensor, TensorData};
use serde::Deserialize;
use std::ops::Range;

/// How bytes stand for numbers: `(byte - zero) * scale`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Affine {
    scale: f32,
    #[serde(default)]
    zero: f32,
}

/// One tensor of every input.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Strings(ByteStrings),
    Ready {
        datatype: DataType,
        /// Of one input.
        shape: Vec<usize>,
        affine: Option<Affine>,
        inputs: usize,
        /// Little-endian.
        bytes: Vec<u8>,
    },
}

impl Column {
    /// The strings that lie end to end in `bytes`, each from one offset to the next.
    pub(super) fn strings(
        name: &str,
        offsets: &TensorView<'_>,
        bytes: &TensorView<'_>,
    ) -> Result<Self, String> {
        if bytes.dtype() != Dtype::U8 {
            return Err(format!("`{name}_bytes` is not U8"));
        }
        let count = offsets.shape().first().copied().unwrap_or(0);
        let offsets = integers(&format!("{name}_offsets"), offsets, count)?;
        let bytes = bytes.data();
        let mut strings = ByteStrings::with_capacity(count.saturating_sub(1));
        for pair in offsets.windows(2) {
            let range = usize::try_from(pair[0])
                .ok()
                .zip(usize::try_from(pair[1]).ok());
            let string = range.and_then(|(from, to)| bytes.get(from..to));
            strings.push(string.ok_or_else(|| {
                format!("`{name}_offsets`: {} to {} is no string", pair[0], pair[1])
            })?);
        }
        Ok(Self {
            name: name.to_owned(),
            values: Values::Strings(strings),
        })
    }

    /// A tensor that networks read, as it is or as bytes.
    pub(super) fn ready(
        config: &TensorConfig,
        view: &TensorView<'_>,
        affine: Option<Affine>,
    ) -> Result<Self, String> {
        let stored = match config.datatype {
            DataType::Fp32 if affine.is_some() => Dtype::U8,
            DataType::Fp32 => Dtype::F32,
            DataType::Int64 => Dtype::I64,
            DataType::Int32 => Dtype::I32,
            DataType::Int8 => Dtype::I8,
            DataType::Uint8 => Dtype::U8,
            _ => Dtype::BOOL,
        };
        let shape = view.shape().split_first();
        let Some((&inputs, _)) = shape.filter(|(_, shape)| *shape == config.shape) else {
            return Err(format!(
                "`{}` has shape {:?} where [inputs] + {:?} is needed",
                config.name,
                view.shape(),
                config.shape
            ));
        };
        if view.dtype() != stored {
            return Err(format!(
                "`{}` is {:?} where {stored:?} is needed",
                config.name,
                view.dtype()
            ));
        }
        Ok(Self {
            name: config.name.clone(),
            values: Values::Ready {
                datatype: config.datatype,
                shape: config.shape.clone(),
                affine,
                inputs,
                bytes: view.data().to_vec(),
            },
        })
    }

    pub(super) fn inputs(&self) -> usize {
        match &self.values {
            Values::Strings(strings) => strings.len(),
            Values::Ready { inputs, .. } => *inputs,
        }
    }

    /// The tensor of some inputs.
    pub(super) fn rows(&self, rows: Range<usize>) -> Tensor {
        let count = rows.len();
        let (shape, data) = match &self.values {
            Values::Strings(strings) => {
                let some = rows.filter_map(|row| strings.get(row)).collect();
                (vec![count], TensorData::Bytes(some))
            }
            Values::Ready {
                datatype,
                shape,
                affine,
                inputs,
                bytes,
            } => {
                let width = bytes.len() / inputs;
                let bytes = &bytes[rows.start * width..rows.end * width];
                let data = match (datatype, affine) {
                    (DataType::Fp32, Some(affine)) => {
                        let value = |&byte: &u8| (f32::from(byte) - affine.zero) * affine.scale;
                        TensorData::Fp32(bytes.iter().map(value).collect())
                    }
                    (DataType::Fp32, None) => TensorData::Fp32(numbers(bytes, f32::from_le_bytes)),
                    (DataType::Int64, _) => TensorData::Int64(numbers(bytes, i64::from_le_bytes)),
                    (DataType::Int32, _) => TensorData::Int32(numbers(bytes, i32::from_le_bytes)),
                    (DataType::Int8, _) => TensorData::Int8(numbers(bytes, i8::from_le_bytes)),
                    (DataType::Uint8, _) => TensorData::Uint8(bytes.to_vec()),
                    _ => TensorData::Bool(bytes.iter().map(|&byte| byte != 0).collect()),
                };
                let shape = std::iter::once(count).chain(shape.iter().copied());
                (shape.collect(), data)
            }
        };
        Tensor::new(shape, data).expect("invariant: rows are cut by the shape")
    }
}

/// Little-endian numbers.
pub(super) fn numbers<T, const N: usize>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (numbers, _) = bytes.as_chunks::<N>();
    numbers.iter().map(|&number| from(number)).collect()
}
