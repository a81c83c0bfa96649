use crate::{element::Element, int8::SCALE_BYTES, prefetch::prefetch};
use bytemuck::cast_slice;
use half::{f16, slice::HalfFloatSliceExt};

/// A read-only table of rows, `[rows, width]`, in the precision in which it is kept.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    pub(crate) data: Data<'a>,
    width: usize,
    len: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Data<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    I8(&'a [i8]),
}

impl<'a> Rows<'a> {
    /// Rows of `width` values each, kept as f32.
    ///
    /// # Panics
    /// When `data` is not a whole number of rows.
    pub fn f32(data: &'a [f32], width: usize) -> Self {
        Self::new(Data::F32(data), data.len(), width)
    }

    /// Rows of `width` values each, kept as f16.
    ///
    /// # Panics
    /// When `data` is not a whole number of rows.
    pub fn f16(data: &'a [f16], width: usize) -> Self {
        Self::new(Data::F16(data), data.len(), width)
    }

    /// Rows of `width` values each, kept as 8-bit integers behind a scale of four bytes, as
    /// [`quantize_row`](crate::quantize_row) makes them.
    ///
    /// # Panics
    /// When `data` is not a whole number of rows.
    pub fn i8(data: &'a [i8], width: usize) -> Self {
        let stride = width + SCALE_BYTES;
        assert!(
            data.len().is_multiple_of(stride),
            "{} bytes are not a whole number of rows of {stride}",
            data.len()
        );
        Self::new(Data::I8(data), data.len() / stride * width, width)
    }

    fn new(data: Data<'a>, values: usize, width: usize) -> Self {
        assert!(
            width > 0 && values.is_multiple_of(width),
            "{values} values are not a whole number of rows of {width}"
        );
        Self {
            data,
            width,
            len: values / width,
        }
    }

    /// Values per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes per row at rest.
    pub fn row_bytes(&self) -> usize {
        match self.data {
            Data::F32(_) => self.width * 4,
            Data::F16(_) => self.width * 2,
            Data::I8(_) => self.width + SCALE_BYTES,
        }
    }

    /// Bytes per value at rest: 4 of f32, 2 of f16, 1 of 8-bit integers.
    pub fn value_bytes(&self) -> usize {
        match self.data {
            Data::F32(_) => 4,
            Data::F16(_) => 2,
            Data::I8(_) => 1,
        }
    }

    /// Row `index` as it is at rest: its values, behind the scale of 8-bit integers.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn bytes(&self, index: usize) -> &'a [u8] {
        let bytes: &[u8] = match self.data {
            Data::F32(data) => cast_slice(data),
            Data::F16(data) => cast_slice(data),
            Data::I8(data) => cast_slice(data),
        };
        &bytes[index * self.row_bytes()..][..self.row_bytes()]
    }

    /// Asks for the cache lines of a row that will be read soon; nothing where there is no such row.
    #[inline]
    pub fn prefetch(&self, index: usize) {
        let range = index * self.width..(index + 1) * self.width;
        match self.data {
            Data::F32(data) => data.get(range).map(prefetch),
            Data::F16(data) => data.get(range).map(prefetch),
            Data::I8(data) => {
                let stride = self.width + SCALE_BYTES;
                data.get(index * stride..(index + 1) * stride).map(prefetch)
            }
        };
    }

    /// Writes row `index` to `out`, `[width]`, as f32.
    ///
    /// # Panics
    /// When there is no such row, or `out` has another width.
    pub fn read(&self, index: usize, out: &mut [f32]) {
        let range = index * self.width..(index + 1) * self.width;
        match self.data {
            Data::F32(data) => out.copy_from_slice(&data[range]),
            Data::F16(data) => data[range].convert_to_f32_slice(out),
            Data::I8(data) => {
                let (scale, values) = i8::row(data, index as u32, self.width);
                assert_eq!(out.len(), values.len(), "width of the row");
                for (out, value) in out.iter_mut().zip(values) {
                    *out = scale * f32::from(*value);
                }
            }
        }
    }
}
