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
    fn widen_chunk<I: Instructions>(instructions: I, values: &[Self; CHUNK]) -> I::Wide;

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

/// Folds each value of a row, widened and scaled, into its place of `out`: chunks by the first function, what is left by
/// the second.
#[inline(always)]
pub(crate) fn fold_row<T: Element, I: Instructions>(
    instructions: I,
    (scale, row): (f32, &[T]),
    out: &mut [f32],
    (fold_wide, fold): (
        impl Fn(I::Wide, I::Wide) -> I::Wide,
        impl Fn(f32, f32) -> f32,
    ),
) {
    let (chunks, rest) = row.as_chunks::<CHUNK>();
    let (outs, out_rest) = out.as_chunks_mut::<CHUNK>();
    let factor = instructions.splat(scale);
    for (out, chunk) in outs.iter_mut().zip(chunks) {
        let value = instructions.multiply(T::widen_chunk(instructions, chunk), factor);
        instructions.store(fold_wide(instructions.load(out), value), out);
    }
    for (out, value) in out_rest.iter_mut().zip(rest) {
        *out = fold(*out, scale * value.widen());
    }
}

impl Element for f32 {
    const HEAD: usize = 0;

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn widen_chunk<I: Instructions>(instructions: I, values: &[Self; CHUNK]) -> I::Wide {
        instructions.load(values)
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
    fn widen_chunk<I: Instructions>(instructions: I, values: &[Self; CHUNK]) -> I::Wide {
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
    fn widen_chunk<I: Instructions>(instructions: I, values: &[Self; CHUNK]) -> I::Wide {
        instructions.widen_bytes(values)
    }

    #[inline(always)]
    fn scale(head: &[Self]) -> f32 {
        f32::from_le_bytes([head[0], head[1], head[2], head[3]].map(|byte| byte as u8))
    }
}
