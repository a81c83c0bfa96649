#![expect(
    unsafe_code,
    reason = "calling code of an instruction set that was looked for is unsafe: see the blocks"
)]

use half::f16;

/// Adds four rows of halves to `sum`, each times its factor where there are `scales`, with the
/// processor's own conversion; false, and nothing added, where it has none.
///
/// In the order of the plain loop, `sum += (a + b) + (c + d)`, so that both give the same numbers.
#[inline]
pub(crate) fn add_four(rows: [&[f16]; 4], scales: Option<[f32; 4]>, sum: &mut [f32]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx") && std::arch::is_x86_feature_detected!("f16c") {
        // SAFETY: the processor has AVX and F16C, which is all that these functions need.
        unsafe {
            match scales {
                None => x86::add_four::<false>(rows, [1.0; 4], sum),
                Some(scales) => x86::add_four::<true>(rows, scales, sum),
            }
        }
        return true;
    }
    let _ = (rows, scales, sum);
    false
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use bytemuck::cast;
    use half::f16;
    use std::arch::x86_64::{
        __m128i, __m256, _mm256_add_ps, _mm256_cvtph_ps, _mm256_mul_ps, _mm256_set1_ps,
    };

    /// Values that one register holds as f32.
    const LANES: usize = 8;

    #[target_feature(enable = "avx,f16c")]
    pub(super) fn add_four<const SCALED: bool>(
        rows: [&[f16]; 4],
        scales: [f32; 4],
        sum: &mut [f32],
    ) {
        let blocks = rows.map(|row| row.as_chunks::<LANES>().0);
        let len = blocks
            .map(<[_]>::len)
            .into_iter()
            .fold(sum.len() / LANES, usize::min);
        let factors = scales.map(|scale| _mm256_set1_ps(scale));
        let term = |row: usize, block: usize| {
            let wide = _mm256_cvtph_ps(cast::<[f16; LANES], __m128i>(blocks[row][block]));
            match SCALED {
                true => _mm256_mul_ps(factors[row], wide),
                false => wide,
            }
        };
        let (sums, rest) = sum.as_chunks_mut::<LANES>();
        for (block, sum) in sums[..len].iter_mut().enumerate() {
            let added = _mm256_add_ps(
                _mm256_add_ps(term(0, block), term(1, block)),
                _mm256_add_ps(term(2, block), term(3, block)),
            );
            let total = _mm256_add_ps(cast::<[f32; LANES], __m256>(*sum), added);
            *sum = cast(total);
        }
        if rest.is_empty() {
            return;
        }
        // The last values, in a register of their own.
        let mut last = [[f16::ZERO; LANES]; 4];
        for (last, row) in last.iter_mut().zip(rows) {
            let tail = row.as_chunks::<LANES>().1;
            last[..tail.len()].copy_from_slice(tail);
        }
        let term = |row: usize| {
            let wide = _mm256_cvtph_ps(cast::<[f16; LANES], __m128i>(last[row]));
            match SCALED {
                true => _mm256_mul_ps(factors[row], wide),
                false => wide,
            }
        };
        let added = _mm256_add_ps(
            _mm256_add_ps(term(0), term(1)),
            _mm256_add_ps(term(2), term(3)),
        );
        for (sum, value) in rest.iter_mut().zip(cast::<__m256, [f32; LANES]>(added)) {
            *sum += value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_and_every_half_comes_out_as_the_plain_loop_has_it() {
        for width in [1, 7, 8, 9, 16, 37, 602] {
            let row = |seed: usize| -> Vec<f16> {
                let bits = (0..width).map(|i| ((i * 7919 + seed * 104_729) % 0x7bff) as u16);
                bits.map(|b| f16::from_bits(b | ((b & 1) << 15))).collect()
            };
            let rows: [Vec<f16>; 4] = [row(0), row(1), row(2), row(3)];
            for scales in [None, Some([0.5, -1.25, 3.0, 0.0625])] {
                let mut found = vec![1.0; width];
                if !add_four(rows.each_ref().map(Vec::as_slice), scales, &mut found) {
                    return;
                }
                let [sa, sb, sc, sd] = scales.unwrap_or([1.0; 4]);
                for (i, found) in found.iter().enumerate() {
                    let [a, b, c, d] = rows.each_ref().map(|row| row[i].to_f32());
                    let expected = 1.0 + ((sa * a + sb * b) + (sc * c + sd * d));
                    assert_eq!(
                        found.to_bits(),
                        expected.to_bits(),
                        "width {width}, value {i}"
                    );
                }
            }
        }
    }
}
