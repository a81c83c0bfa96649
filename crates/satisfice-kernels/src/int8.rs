#![expect(
    clippy::inline_always,
    reason = "a body must be inlined into each of its dispatched versions to be compiled for their instruction set"
)]

//! Rows of 8-bit integers, each with its own scale.
//!
//! A row is its scale, a little-endian f32 in four bytes, then its values: one place in memory a row.

use crate::prefetch::prefetch;
use multiversion::multiversion;

/// Bytes of a row before its values.
pub(crate) const SCALE_BYTES: usize = size_of::<f32>();

/// Rounds a row to 8-bit integers with the scale `max |v| / 127`, and appends scale and values to
/// `out`. No value is off by more than half the scale.
///
/// # Panics
/// When a value is not finite.
pub fn quantize_row(values: &[f32], out: &mut Vec<i8>) {
    let largest = values.iter().fold(0.0_f32, |max, v| max.max(v.abs()));
    assert!(
        largest.is_finite() && values.iter().all(|v| v.is_finite()),
        "rows to be rounded are finite"
    );
    let scale = largest / f32::from(i8::MAX);
    out.extend(scale.to_le_bytes().map(|byte| byte as i8));
    // A row of zeros, or of values too small for a scale, is a row of zeros.
    let inverse = if scale > 0.0 {
        f32::from(i8::MAX) / largest
    } else {
        0.0
    };
    out.extend(values.iter().map(|v| (v * inverse).round() as i8));
}

/// The scale and values of row `id`.
#[inline(always)]
pub(crate) fn row(data: &[i8], id: usize, width: usize) -> (f32, &[i8]) {
    let (scale, values) =
        data[id * (width + SCALE_BYTES)..][..width + SCALE_BYTES].split_at(SCALE_BYTES);
    let bytes = [scale[0], scale[1], scale[2], scale[3]].map(|byte| byte as u8);
    (f32::from_le_bytes(bytes), values)
}

/// Rows ahead of those being added whose cache lines are asked for.
const AHEAD: usize = 8;

#[inline(always)]
fn add_rows(data: &[i8], ids: &[u32], factor: impl Fn(u32) -> f32, sum: &mut [f32]) {
    let width = sum.len();
    let mut fours = ids.chunks_exact(4);
    for (index, four) in (&mut fours).enumerate() {
        for &id in ids.iter().skip(4 * index + AHEAD).take(4) {
            prefetch(row(data, id as usize, width).1);
        }
        let scaled = |i: usize| {
            let (scale, values) = row(data, four[i] as usize, width);
            (scale * factor(four[i]), values)
        };
        let ((sa, a), (sb, b), (sc, c), (sd, d)) = (scaled(0), scaled(1), scaled(2), scaled(3));
        for i in 0..width {
            sum[i] += (sa * f32::from(a[i]) + sb * f32::from(b[i]))
                + (sc * f32::from(c[i]) + sd * f32::from(d[i]));
        }
    }
    for &id in fours.remainder() {
        let (scale, values) = row(data, id as usize, width);
        let scale = scale * factor(id);
        for (sum, value) in sum.iter_mut().zip(values) {
            *sum += scale * f32::from(*value);
        }
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma+f16c+bmi2",
    "x86_64+avx2+fma+f16c+bmi2",
    "aarch64+neon",
))]
pub(crate) fn sum(data: &[i8], ids: &[u32], total: &mut [f32]) {
    add_rows(data, ids, |_| 1.0, total);
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma+f16c+bmi2",
    "x86_64+avx2+fma+f16c+bmi2",
    "aarch64+neon",
))]
pub(crate) fn scaled(data: &[i8], ids: &[u32], scales: &[f32], total: &mut [f32]) {
    add_rows(data, ids, |id| scales[id as usize], total);
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma+f16c+bmi2",
    "x86_64+avx2+fma+f16c+bmi2",
    "aarch64+neon",
))]
pub(crate) fn max(data: &[i8], ids: &[u32], max: &mut [f32]) {
    let width = max.len();
    for &id in ids {
        let (scale, values) = row(data, id as usize, width);
        for (max, value) in max.iter_mut().zip(values) {
            *max = max.max(scale * f32::from(*value));
        }
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma+f16c+bmi2",
    "x86_64+avx2+fma+f16c+bmi2",
    "aarch64+neon",
))]
pub(crate) fn weighted(data: &[i8], ids: &[u32], weights: &[f32], heads: usize, total: &mut [f32]) {
    let width = total.len();
    let channels = width / heads;
    for (&id, weights) in ids.iter().zip(weights.chunks_exact(heads)) {
        let (scale, values) = row(data, id as usize, width);
        let by_head = values.chunks_exact(channels);
        for ((sum, values), &weight) in total.chunks_exact_mut(channels).zip(by_head).zip(weights) {
            let weight = weight * scale;
            for (sum, value) in sum.iter_mut().zip(values) {
                *sum += weight * f32::from(*value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_off_by_more_than_half_the_scale() {
        for values in [
            vec![0.0, -0.0, 0.0],
            vec![1.0, -2.0, 0.003, 1.999],
            vec![f32::MAX, f32::MIN, 1.0],
            vec![f32::MIN_POSITIVE / 8.0, 0.0],
            vec![-7.25],
        ] {
            let mut rows = Vec::new();
            quantize_row(&values, &mut rows);
            let (scale, rounded) = row(&rows, 0, values.len());
            assert_eq!(rounded.len(), values.len());
            for (value, rounded) in values.iter().zip(rounded) {
                let off = (value / 2.0 - scale / 2.0 * f32::from(*rounded)).abs();
                assert!(
                    off <= scale / 4.0 * 1.001 + f32::MIN_POSITIVE,
                    "{value} {rounded} {scale}"
                );
            }
        }
    }

    #[test]
    #[should_panic(expected = "finite")]
    fn what_is_no_number_is_not_rounded() {
        quantize_row(&[1.0, f32::NAN], &mut Vec::new());
    }
}
