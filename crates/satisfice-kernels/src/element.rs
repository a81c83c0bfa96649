#![expect(
    clippy::inline_always,
    reason = "a body must be inlined into each of its dispatched versions to be compiled for their instruction set"
)]

use crate::int8::SCALE_BYTES;
use half::f16;

/// An element type in which rows are kept.
pub(crate) trait Element: Copy {
    /// Elements of a row at rest before its values: of its scale.
    const HEAD: usize;

    fn widen(self) -> f32;

    /// What `head`, [`Self::HEAD`] elements, says that the values are to be multiplied by.
    fn scale(head: &[Self]) -> f32;

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

impl Element for f32 {
    const HEAD: usize = 0;

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn scale(_: &[Self]) -> f32 {
        1.0
    }
}

impl Element for f16 {
    const HEAD: usize = 0;

    /// Shifts the half's exponent and mantissa into place and rescales: three operations that
    /// vectorise everywhere, and treat subnormals right. Exact for every finite value; rows at
    /// rest are finite.
    #[inline(always)]
    fn widen(self) -> f32 {
        let bits = u32::from(self.to_bits());
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
        f32::from_bits(magnitude.to_bits() | ((bits & 0x8000) << 16))
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
    fn scale(head: &[Self]) -> f32 {
        f32::from_le_bytes([head[0], head[1], head[2], head[3]].map(|byte| byte as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_half_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            if half.is_finite() {
                assert_eq!(
                    half.widen().to_bits(),
                    half.to_f32().to_bits(),
                    "{bits:#06x}"
                );
            }
        }
    }
}
