use half::{bf16, f16};
use std::fmt;

/// Element type of a tensor, with the Open Inference Protocol's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum DataType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

impl DataType {
    /// Every data type.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// Whether it is a type of floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Self::Fp16 | Self::Bf16 | Self::Fp32 | Self::Fp64)
    }

    /// The protocol's name, such as `"FP32"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// The data type of that protocol name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }

    /// Bytes per element; `None` for `BYTES`, whose elements have any length.
    pub fn size_bytes(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Strings of bytes, end to end in one buffer: no allocation per element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByteStrings {
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl ByteStrings {
    /// No strings, with room for `count` of them.
    pub fn with_capacity(count: usize) -> Self {
        Self {
            ends: Vec::with_capacity(count),
            bytes: Vec::new(),
        }
    }

    /// Appends a string.
    pub fn push(&mut self, string: &[u8]) {
        self.bytes.extend_from_slice(string);
        self.ends.push(self.bytes.len());
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no string.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string at `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = match index {
            0 => 0,
            _ => self.ends[index - 1],
        };
        Some(&self.bytes[start..end])
    }

    /// The strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|i| self.get(i))
    }
}

impl<S: AsRef<[u8]>> FromIterator<S> for ByteStrings {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut all = Self::default();
        for string in strings {
            all.push(string.as_ref());
        }
        all
    }
}

/// Elements of a tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum TensorData {
    Bool(Vec<bool>),
    Uint8(Vec<u8>),
    Uint16(Vec<u16>),
    Uint32(Vec<u32>),
    Uint64(Vec<u64>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Fp16(Vec<f16>),
    Bf16(Vec<bf16>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
    Bytes(ByteStrings),
}

impl TensorData {
    /// So many zeros, `false`s or empty strings.
    pub fn zeros(datatype: DataType, elements: usize) -> Self {
        match datatype {
            DataType::Bool => Self::Bool(vec![false; elements]),
            DataType::Uint8 => Self::Uint8(vec![0; elements]),
            DataType::Uint16 => Self::Uint16(vec![0; elements]),
            DataType::Uint32 => Self::Uint32(vec![0; elements]),
            DataType::Uint64 => Self::Uint64(vec![0; elements]),
            DataType::Int8 => Self::Int8(vec![0; elements]),
            DataType::Int16 => Self::Int16(vec![0; elements]),
            DataType::Int32 => Self::Int32(vec![0; elements]),
            DataType::Int64 => Self::Int64(vec![0; elements]),
            DataType::Fp16 => Self::Fp16(vec![half::f16::ZERO; elements]),
            DataType::Bf16 => Self::Bf16(vec![half::bf16::ZERO; elements]),
            DataType::Fp32 => Self::Fp32(vec![0.0; elements]),
            DataType::Fp64 => Self::Fp64(vec![0.0; elements]),
            DataType::Bytes => Self::Bytes(std::iter::repeat_n(b"", elements).collect()),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Bool(v) => v.len(),
            Self::Uint8(v) => v.len(),
            Self::Uint16(v) => v.len(),
            Self::Uint32(v) => v.len(),
            Self::Uint64(v) => v.len(),
            Self::Int8(v) => v.len(),
            Self::Int16(v) => v.len(),
            Self::Int32(v) => v.len(),
            Self::Int64(v) => v.len(),
            Self::Fp16(v) => v.len(),
            Self::Bf16(v) => v.len(),
            Self::Fp32(v) => v.len(),
            Self::Fp64(v) => v.len(),
            Self::Bytes(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends elements of the same type; false, and nothing is done, where the type is another.
    pub fn append(&mut self, more: &Self) -> bool {
        match (self, more) {
            (Self::Bool(a), Self::Bool(b)) => a.extend_from_slice(b),
            (Self::Uint8(a), Self::Uint8(b)) => a.extend_from_slice(b),
            (Self::Uint16(a), Self::Uint16(b)) => a.extend_from_slice(b),
            (Self::Uint32(a), Self::Uint32(b)) => a.extend_from_slice(b),
            (Self::Uint64(a), Self::Uint64(b)) => a.extend_from_slice(b),
            (Self::Int8(a), Self::Int8(b)) => a.extend_from_slice(b),
            (Self::Int16(a), Self::Int16(b)) => a.extend_from_slice(b),
            (Self::Int32(a), Self::Int32(b)) => a.extend_from_slice(b),
            (Self::Int64(a), Self::Int64(b)) => a.extend_from_slice(b),
            (Self::Fp16(a), Self::Fp16(b)) => a.extend_from_slice(b),
            (Self::Bf16(a), Self::Bf16(b)) => a.extend_from_slice(b),
            (Self::Fp32(a), Self::Fp32(b)) => a.extend_from_slice(b),
            (Self::Fp64(a), Self::Fp64(b)) => a.extend_from_slice(b),
            (Self::Bytes(a), Self::Bytes(b)) => b.iter().for_each(|string| a.push(string)),
            _ => return false,
        }
        true
    }

    /// Element type.
    pub fn datatype(&self) -> DataType {
        match self {
            Self::Bool(_) => DataType::Bool,
            Self::Uint8(_) => DataType::Uint8,
            Self::Uint16(_) => DataType::Uint16,
            Self::Uint32(_) => DataType::Uint32,
            Self::Uint64(_) => DataType::Uint64,
            Self::Int8(_) => DataType::Int8,
            Self::Int16(_) => DataType::Int16,
            Self::Int32(_) => DataType::Int32,
            Self::Int64(_) => DataType::Int64,
            Self::Fp16(_) => DataType::Fp16,
            Self::Bf16(_) => DataType::Bf16,
            Self::Fp32(_) => DataType::Fp32,
            Self::Fp64(_) => DataType::Fp64,
            Self::Bytes(_) => DataType::Bytes,
        }
    }
}

/// The number of elements does not follow from the shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeMismatch {
    /// The shape given.
    pub shape: Vec<usize>,
    /// The number of elements given.
    pub elements: usize,
}

impl fmt::Display for ShapeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "shape {:?} does not hold {} elements",
            self.shape, self.elements
        )
    }
}

impl std::error::Error for ShapeMismatch {}

/// A dense, row-major tensor whose shape and elements agree.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: TensorData,
}

impl Tensor {
    /// A tensor of `shape` with `data`.
    ///
    /// # Errors
    /// [`ShapeMismatch`] when the product of `shape` is not the number of elements, or overflows.
    pub fn new(shape: Vec<usize>, data: TensorData) -> Result<Self, ShapeMismatch> {
        let elements = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d));
        if elements == Some(data.len()) {
            Ok(Self { shape, data })
        } else {
            Err(ShapeMismatch {
                elements: data.len(),
                shape,
            })
        }
    }

    /// Length of each dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, row-major.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// The elements alone.
    pub fn into_data(self) -> TensorData {
        self.data
    }

    /// Element type.
    pub fn datatype(&self) -> DataType {
        self.data.datatype()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for datatype in DataType::ALL {
            assert_eq!(DataType::from_name(datatype.name()), Some(datatype));
        }
        assert_eq!(DataType::from_name("FP8"), None);
    }

    #[test]
    fn shape_and_elements_must_agree() {
        assert!(Tensor::new(vec![2, 2], TensorData::Int64(vec![1; 4])).is_ok());
        assert!(Tensor::new(vec![0, 7], TensorData::Int64(vec![])).is_ok());
        assert!(Tensor::new(vec![2, 2], TensorData::Int64(vec![1; 3])).is_err());
        assert!(Tensor::new(vec![usize::MAX, 2], TensorData::Int64(vec![])).is_err());
    }

    #[test]
    fn elements_of_one_type_are_appended() {
        let mut data = TensorData::Fp32(vec![1.0]);
        assert!(data.append(&TensorData::Fp32(vec![2.0])));
        assert!(!data.append(&TensorData::Fp64(vec![2.0])));
        assert_eq!(data, TensorData::Fp32(vec![1.0, 2.0]));
        let strings = |strings: &[&str]| TensorData::Bytes(strings.iter().collect());
        let mut data = strings(&["a"]);
        assert!(data.append(&strings(&["", "b"])));
        assert_eq!(data, strings(&["a", "", "b"]));
    }

    #[test]
    fn byte_strings_keep_empty_and_binary_ones() {
        let strings: ByteStrings = [&b"a"[..], b"", b"\xff\x00"].into_iter().collect();
        assert_eq!(strings.len(), 3);
        assert_eq!(strings.get(1), Some(&b""[..]));
        assert_eq!(strings.get(2), Some(&b"\xff\x00"[..]));
        assert_eq!(strings.get(3), None);
        assert_eq!(strings.iter().count(), 3);
    }
}
