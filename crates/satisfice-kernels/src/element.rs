#![expect(
    clippy::inline_always,
    reason = "a body must be inlined into each of its dispatched versions to be compiled for their instruction set"
)]

use crate::{
    instructions::{CHUNK, Instructions, widen_half},
    int8::SCALE_BYTES,
    prefetch::rows_ahead,
};
use half::f16;

/// An element type in which rows are kept.
pub(crate) trait Element: Copy {
    /// Elements of a row at rest before its values: of its scale.
    const HEAD: usize;

    fn widen(self) -> f32;

    /// [`Element::widen`] of each.
    fn widen_chunk(instructions: impl Instructions, values: &[Self; CHUNK]) -> [f32; CHUNK];

    /// What `head`, [`Self::HEAD`] elements, says that the values are to be multiplied by.
    fn scale(head: &[Self]) -> f32;

    /// Rows ahead of the one being read whose cache lines are asked for.
    #[inline(always)]
    fn rows_ahead(width: usize) -> usize {
        rows_ahead((width + Self::HEAD) * size_of::<Self>())
    }

    /// Row `id` as it is kept.
    #[inline(always)]
    fn at_rest(data: &[Self], id: u32, width: usize) -> &[Self] {
        let stride = width + Self::HEAD;
        &data[id as usize * stride..][..stride]
    }

    /// The scale and values of row `id`.
    #[inline(always)]
    fn row(data: &[Self], id: u32, width: usize) -> (f32, &[Self]) {
        let (head, values) = Self::at_rest(data, id, width).split_at(Self::HEAD);
        (Self::scale(head), values)
    }
}

/// Folds each value, widened, into its place of `out`.
#[inline(always)]
pub(crate) fn fold_row<T: Element>(
    instructions: impl Instructions,
    row: &[T],
    out: &mut [f32],
    fold: impl Fn(&mut f32, f32),
) {
    let (chunks, rest) = row.as_chunks();
    let (outs, out_rest) = out.as_chunks_mut::<CHUNK>();
    for (out, chunk) in outs.iter_mut().zip(chunks) {
        let wide = T::widen_chunk(instructions, chunk);
        out.iter_mut().zip(wide).for_each(|(out, v)| fold(out, v));
    }
    for (out, value) in out_rest.iter_mut().zip(rest) {
        fold(out, value.widen());
    }
}

impl Element for f32 {
    const HEAD: usize = 0;

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn widen_chunk(_: impl Instructions, values: &[Self; CHUNK]) -> [f32; CHUNK] {
        *values
    }

    #[inline(always)]
    fn scale(_: &[Self]) -> f32 {
        1.0
    }
}

impl Element for f16 {
    const HEAD: usize = 0;

    #[inline(always)]
    fn widen(self) -> f32 {
        widen_half(self)
    }

    #[inline(always)]
    fn widen_chunk(instructions: impl Instructions, values: &[Self; CHUNK]) -> [f32; CHUNK] {
        instructions.widen_halves(values)
    }

    #[inline(always)]
    fn scale(_: &[Self]) -> f32 {
        1.0
    }
}

impl Element for i8 {
    const HEAD: usize = SCALE_BYTES;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from(self)
    }

    #[inline(always)]
    fn widen_chunk(_: impl Instructions, values: &[Self; CHUNK]) -> [f32; CHUNK] {
        values.map(f32::from)
    }

    #[inline(always)]
    fn scale(head: &[Self]) -> f32 {
        f32::from_le_bytes([head[0], head[1], head[2], head[3]].map(|byte| byte as u8))
    }
}
