use crate::{StoreError, TensorFile};
use half::f16;
use safetensors::Dtype;
use satisfice_kernels::MappedFile;
use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Element type of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F16,
    F32,
    F64,
}

impl Scalar {
    pub(crate) fn size_bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32 | Self::F64)
    }

    fn of(dtype: Dtype) -> Option<Self> {
        Some(match dtype {
            Dtype::I32 => Self::I32,
            Dtype::I64 => Self::I64,
            Dtype::F16 => Self::F16,
            Dtype::F32 => Self::F32,
            _ => return None,
        })
    }
}

/// An array in a mapped file: read in pieces, never as a whole.
///
/// The bytes in `range` are as many as `shape` and `scalar` say.
#[derive(Debug, Clone)]
pub(crate) struct Array {
    /// The file, as errors name it.
    pub path: PathBuf,
    /// The array's name in it.
    pub name: String,
    pub map: Arc<MappedFile>,
    pub range: Range<usize>,
    pub scalar: Scalar,
    pub shape: Vec<usize>,
    /// Whether columns rather than rows stand together.
    pub fortran: bool,
}

/// Elements at equal distances.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strided {
    pub start: usize,
    pub stride: usize,
}

impl Array {
    /// A tensor of one of these types.
    pub(crate) fn of_tensor(
        file: &TensorFile,
        name: &str,
        types: &[Dtype],
    ) -> Result<Self, StoreError> {
        let dtype = file.dtype(name)?;
        let scalar = match Scalar::of(dtype) {
            Some(scalar) if types.contains(&dtype) => scalar,
            _ => return Err(file.wrong_type(name, dtype, types)),
        };
        let (map, range) = file.mapped(name)?;
        Ok(Self {
            path: file.path().to_owned(),
            name: name.to_owned(),
            map,
            range,
            scalar,
            shape: file.shape(name)?.to_vec(),
            fortran: false,
        })
    }

    /// A temporary file of nothing but elements, which errors call `name` of `path`.
    pub(crate) fn of_raw(
        file: &Path,
        scalar: Scalar,
        shape: [usize; 2],
        fortran: bool,
        (path, name): (&Path, &str),
    ) -> Result<Self, StoreError> {
        let map = TensorFile::map(file)?;
        let bytes = shape[0] * shape[1] * scalar.size_bytes();
        let array = Self {
            path: path.to_owned(),
            name: name.to_owned(),
            range: 0..bytes,
            map: Arc::new(map),
            scalar,
            shape: shape.to_vec(),
            fortran,
        };
        if array.map.len() == bytes {
            Ok(array)
        } else {
            Err(array.malformed("its temporary copy has another length"))
        }
    }

    pub(crate) fn malformed(&self, message: impl AsRef<str>) -> StoreError {
        StoreError::Malformed {
            path: self.path.clone(),
            message: format!("`{}`: {}", self.name, message.as_ref()),
        }
    }

    /// Refuses floats.
    pub(crate) fn expect_integers(&self) -> Result<(), StoreError> {
        if self.scalar.is_float() {
            return Err(self.malformed(format!("{:?}, but integers are needed", self.scalar)));
        }
        Ok(())
    }

    /// Row `row` of a table of `width` columns, from `column` on.
    pub(crate) fn along_row(&self, row: usize, column: usize) -> Strided {
        match self.shape[..] {
            [rows, _] if self.fortran => Strided {
                start: column * rows + row,
                stride: rows,
            },
            [_, width] => Strided {
                start: row * width + column,
                stride: 1,
            },
            _ => Strided {
                start: column,
                stride: 1,
            },
        }
    }

    /// Integers from a place on; those above `i64::MAX` as `i64::MAX`.
    pub(crate) fn read_integers(&self, at: Strided, out: &mut [i64]) {
        let bytes = &self.map[self.range.clone()];
        match self.scalar {
            Scalar::I8 => decode(bytes, at, out, |b| i8::from_le_bytes(b).into()),
            Scalar::I16 => decode(bytes, at, out, |b| i16::from_le_bytes(b).into()),
            Scalar::I32 => decode(bytes, at, out, |b| i32::from_le_bytes(b).into()),
            Scalar::I64 => decode(bytes, at, out, i64::from_le_bytes),
            Scalar::U8 => decode(bytes, at, out, |[b]| i64::from(b)),
            Scalar::U16 => decode(bytes, at, out, |b| u16::from_le_bytes(b).into()),
            Scalar::U32 => decode(bytes, at, out, |b| u32::from_le_bytes(b).into()),
            Scalar::U64 => decode(bytes, at, out, |b| {
                i64::try_from(u64::from_le_bytes(b)).unwrap_or(i64::MAX)
            }),
            Scalar::F16 => decode(bytes, at, out, |b| f16::from_le_bytes(b).to_f32() as i64),
            Scalar::F32 => decode(bytes, at, out, |b| f32::from_le_bytes(b) as i64),
            Scalar::F64 => decode(bytes, at, out, |b| f64::from_le_bytes(b) as i64),
        }
    }

    /// Numbers from a place on, as f64.
    pub(crate) fn read_doubles(&self, at: Strided, out: &mut [f64]) {
        let bytes = &self.map[self.range.clone()];
        match self.scalar {
            Scalar::F16 => decode(bytes, at, out, |b| f16::from_le_bytes(b).to_f64()),
            Scalar::F32 => decode(bytes, at, out, |b| f32::from_le_bytes(b).into()),
            Scalar::F64 => decode(bytes, at, out, f64::from_le_bytes),
            _ => {
                let mut integers = vec![0; out.len()];
                self.read_integers(at, &mut integers);
                out.iter_mut()
                    .zip(integers)
                    .for_each(|(out, value)| *out = value as f64);
            }
        }
    }

    /// Numbers from a place on, as f32.
    pub(crate) fn read_floats(&self, at: Strided, out: &mut [f32]) {
        let bytes = &self.map[self.range.clone()];
        match self.scalar {
            Scalar::F16 => decode(bytes, at, out, |b| f16::from_le_bytes(b).to_f32()),
            Scalar::F32 => decode(bytes, at, out, f32::from_le_bytes),
            Scalar::F64 => decode(bytes, at, out, |b| f64::from_le_bytes(b) as f32),
            _ => {
                let mut integers = vec![0; out.len()];
                self.read_integers(at, &mut integers);
                out.iter_mut()
                    .zip(integers)
                    .for_each(|(out, value)| *out = value as f32);
            }
        }
    }

    /// Some rows of a table `[rows, width]`, row-major, as f32.
    pub(crate) fn read_rows(&self, rows: Range<usize>, width: usize, out: &mut [f32]) {
        if !self.fortran {
            return self.read_floats(self.along_row(rows.start, 0), out);
        }
        let mut column = vec![0.0; rows.len()];
        for at in 0..width {
            let start = at * self.shape[0] + rows.start;
            self.read_floats(Strided { start, stride: 1 }, &mut column);
            for (row, value) in out.chunks_exact_mut(width).zip(&column) {
                row[at] = *value;
            }
        }
    }
}

fn decode<const N: usize, T>(
    bytes: &[u8],
    at: Strided,
    out: &mut [T],
    read: impl Fn([u8; N]) -> T,
) {
    let elements = bytes.as_chunks::<N>().0;
    if at.stride == 1 {
        let elements = &elements[at.start..at.start + out.len()];
        out.iter_mut()
            .zip(elements)
            .for_each(|(out, element)| *out = read(*element));
    } else {
        let elements = elements[at.start..].iter().step_by(at.stride);
        out.iter_mut()
            .zip(elements)
            .for_each(|(out, element)| *out = read(*element));
    }
}
