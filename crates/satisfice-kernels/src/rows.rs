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
        }
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
        }
    }
}
