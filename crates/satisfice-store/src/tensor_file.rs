use crate::{StoreError, error::At, parallel::find_first};
use bytemuck::Pod;
use half::f16;
use safetensors::{Dtype, SafeTensors, tensor::TensorInfo};
use satisfice_kernels::{MappedFile, Rows};
use std::{
    collections::BTreeMap,
    marker::PhantomData,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A type of elements that a tensor may be read as.
pub trait Element: Pod {
    /// The tensor's type.
    const DTYPE: Dtype;
}

macro_rules! elements {
    ($($element:ty => $dtype:ident),*) => {
        $(impl Element for $element {
            const DTYPE: Dtype = Dtype::$dtype;
        })*
    };
}

elements!(u8 => U8, i8 => I8, i32 => I32, u32 => U32, i64 => I64, u64 => U64, f16 => F16, f32 => F32, f64 => F64);

/// A safetensors file, mapped into memory.
///
/// The header has been checked against the length of the file: every tensor is there in full.
#[derive(Debug, Clone)]
pub struct TensorFile {
    path: PathBuf,
    map: Arc<MappedFile>,
    /// Bytes of the length prefix and JSON header.
    header: usize,
    tensors: BTreeMap<String, TensorInfo>,
    metadata: BTreeMap<String, String>,
}

impl TensorFile {
    /// Maps the file at `path` and checks its header.
    ///
    /// # Errors
    /// The file cannot be read, or is no whole safetensors file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::from_map(path, Self::map(path)?)
    }

    pub(crate) fn map(path: &Path) -> Result<MappedFile, StoreError> {
        MappedFile::open(path).at(path, "open it")
    }

    pub(crate) fn from_map(path: &Path, map: MappedFile) -> Result<Self, StoreError> {
        let (json, header) = SafeTensors::read_metadata(&map).map_err(|e| StoreError::Header {
            path: path.to_owned(),
            message: e.to_string(),
        })?;
        let tensors = header.tensors();
        Ok(Self {
            path: path.to_owned(),
            map: Arc::new(map),
            header: size_of::<u64>() + json,
            tensors: tensors
                .into_iter()
                .map(|(name, info)| (name, info.clone()))
                .collect(),
            metadata: header
                .metadata()
                .iter()
                .flatten()
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the file in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// Whether everything that was read of the file so far was the file's: whoever gives away what was made of it
    /// looks first. Costs one load as long as no file was lost.
    ///
    /// # Errors
    /// [`StoreError::Lost`] once it was truncated or changed in place.
    pub fn check(&self) -> Result<(), StoreError> {
        Ok(self.map.check()?)
    }

    /// Names of the tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The value of a key of the file's `__metadata__`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Element type of a tensor.
    ///
    /// # Errors
    /// There is no such tensor.
    pub fn dtype(&self, name: &str) -> Result<Dtype, StoreError> {
        Ok(self.info(name)?.dtype)
    }

    /// Shape of a tensor.
    ///
    /// # Errors
    /// There is no such tensor.
    pub fn shape(&self, name: &str) -> Result<&[usize], StoreError> {
        Ok(&self.info(name)?.shape)
    }

    /// A tensor's bytes.
    ///
    /// # Errors
    /// There is no such tensor.
    pub fn bytes(&self, name: &str) -> Result<&[u8], StoreError> {
        Ok(&self.map[self.range(name)?])
    }

    /// A tensor's elements, row-major, not copied.
    ///
    /// # Errors
    /// There is no such tensor, it holds another type, or it is not aligned.
    pub fn slice<T: Element>(&self, name: &str) -> Result<&[T], StoreError> {
        Ok(self.part::<T>(name)?.get(self))
    }

    /// A one-dimensional tensor's elements, not copied.
    ///
    /// # Errors
    /// There is no such tensor, it holds another type or number of elements, or it is not aligned.
    pub fn vector<T: Element>(&self, name: &str, len: usize) -> Result<&[T], StoreError> {
        self.expect_shape(name, &[Some(len)])?;
        self.slice(name)
    }

    /// A tensor `[rows, width]` of f32 or f16, or `[rows, 4 + width]` of 8-bit integers behind each
    /// row's scale, not copied.
    ///
    /// # Errors
    /// There is no such tensor, it holds another type, is no table, has no columns, or is not
    /// aligned.
    pub fn rows(&self, name: &str) -> Result<Rows<'_>, StoreError> {
        Ok(self.rows_part(name)?.get(self))
    }

    /// Refuses a tensor of another shape; `None` stands for any length but the width of rows.
    pub(crate) fn expect_shape(
        &self,
        name: &str,
        expected: &[Option<usize>],
    ) -> Result<(), StoreError> {
        let found = self.shape(name)?;
        let fits = found.len() == expected.len()
            && found
                .iter()
                .zip(expected)
                .all(|(found, wanted)| wanted.is_none_or(|w| w == *found));
        if fits {
            return Ok(());
        }
        let words: Vec<String> = expected
            .iter()
            .map(|wanted| wanted.map_or_else(|| "any".to_owned(), |w| w.to_string()))
            .collect();
        Err(StoreError::TensorShape {
            path: self.path.clone(),
            tensor: name.to_owned(),
            found: found.to_vec(),
            expected: format!("[{}]", words.join(", ")),
        })
    }

    /// An error about the values of a tensor.
    pub(crate) fn inconsistent(&self, tensor: &str, message: impl Into<String>) -> StoreError {
        StoreError::Inconsistent {
            path: self.path.clone(),
            tensor: tensor.to_owned(),
            message: message.into(),
        }
    }

    /// The length prefix and JSON header.
    pub(crate) fn header_bytes(&self) -> &[u8] {
        &self.map[..self.header]
    }

    /// The mapping, and where a tensor's bytes are in it.
    pub(crate) fn mapped(&self, name: &str) -> Result<(Arc<MappedFile>, Range<usize>), StoreError> {
        Ok((self.map.clone(), self.range(name)?))
    }

    /// Where a tensor is, so that it need not be looked up again.
    pub(crate) fn part<T: Element>(&self, name: &str) -> Result<Part<T>, StoreError> {
        let range = self.range(name)?;
        let found = self.dtype(name)?;
        if found != T::DTYPE {
            return Err(self.wrong_type(name, found, &[T::DTYPE]));
        }
        match bytemuck::try_cast_slice::<u8, T>(&self.map[range.clone()]) {
            Ok(_) => Ok(Part(range, PhantomData)),
            Err(_) => Err(StoreError::Misaligned {
                path: self.path.clone(),
                tensor: name.to_owned(),
            }),
        }
    }

    pub(crate) fn rows_part(&self, name: &str) -> Result<RowsPart, StoreError> {
        let values = match self.dtype(name)? {
            Dtype::F32 => Values::F32(self.part(name)?),
            Dtype::F16 => Values::F16(self.part(name)?),
            Dtype::I8 => Values::I8(self.part(name)?),
            other => {
                let known = [Dtype::F32, Dtype::F16, Dtype::I8];
                return Err(self.wrong_type(name, other, &known));
            }
        };
        let before = match values {
            Values::I8(_) => SCALE_BYTES,
            Values::F32(_) | Values::F16(_) => 0,
        };
        match *self.shape(name)? {
            [_, width] if width > before => Ok(RowsPart {
                values,
                width: width - before,
            }),
            ref found => Err(StoreError::TensorShape {
                path: self.path.clone(),
                tensor: name.to_owned(),
                found: found.to_vec(),
                expected: "[rows, one column at least]".to_owned(),
            }),
        }
    }

    pub(crate) fn wrong_type(&self, name: &str, found: Dtype, expected: &[Dtype]) -> StoreError {
        StoreError::TensorType {
            path: self.path.clone(),
            tensor: name.to_owned(),
            found,
            expected: expected.to_vec(),
        }
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, StoreError> {
        self.tensors
            .get(name)
            .ok_or_else(|| StoreError::MissingTensor {
                path: self.path.clone(),
                tensor: name.to_owned(),
                present: self.tensors.keys().cloned().collect(),
            })
    }

    fn range(&self, name: &str) -> Result<Range<usize>, StoreError> {
        let (start, end) = self.info(name)?.data_offsets;
        Ok(self.header + start..self.header + end)
    }
}

/// Where a tensor of `T` is in its file.
#[derive(Debug, Clone)]
pub(crate) struct Part<T>(Range<usize>, PhantomData<T>);

impl<T: Element> Part<T> {
    /// The elements in `file`, of which this is a part.
    pub(crate) fn get<'a>(&self, file: &'a TensorFile) -> &'a [T] {
        bytemuck::cast_slice(&file.map[self.0.clone()])
    }
}

/// Where a tensor of rows is in its file.
#[derive(Debug, Clone)]
pub(crate) struct RowsPart {
    values: Values,
    width: usize,
}

#[derive(Debug, Clone)]
enum Values {
    F32(Part<f32>),
    F16(Part<f16>),
    I8(Part<i8>),
}

/// Bytes of a row of 8-bit integers before its values.
const SCALE_BYTES: usize = size_of::<f32>();

impl RowsPart {
    /// The rows in `file`, of which this is a part.
    pub(crate) fn get<'a>(&self, file: &'a TensorFile) -> Rows<'a> {
        match &self.values {
            Values::F32(part) => Rows::f32(part.get(file), self.width),
            Values::F16(part) => Rows::f16(part.get(file), self.width),
            Values::I8(part) => Rows::i8(part.get(file), self.width),
        }
    }

    /// Position of the first value that is not finite.
    pub(crate) fn find_not_finite(&self, file: &TensorFile) -> Option<usize> {
        match &self.values {
            Values::F32(part) => find_first(part.get(file), |v| !v.is_finite()),
            Values::F16(part) => find_first(part.get(file), |v| !v.is_finite()),
            Values::I8(part) => {
                let mut rows = part.get(file).chunks_exact(SCALE_BYTES + self.width);
                let scale = |row: &[i8]| [row[0], row[1], row[2], row[3]].map(|byte| byte as u8);
                let row = rows.position(|row| !f32::from_le_bytes(scale(row)).is_finite())?;
                Some(row * self.width)
            }
        }
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn dtype(&self) -> Dtype {
        match self.values {
            Values::F32(_) => Dtype::F32,
            Values::F16(_) => Dtype::F16,
            Values::I8(_) => Dtype::I8,
        }
    }
}
