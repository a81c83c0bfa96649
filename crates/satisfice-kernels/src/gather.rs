#![expect(
    clippy::inline_always,
    reason = "a body must be inlined into each of its dispatched versions to be compiled for their instruction set"
)]

use crate::{
    halves, int8,
    prefetch::prefetch,
    rows::{Data, Rows},
};
use half::f16;
use multiversion::multiversion;

/// An element type in which rows are kept.
trait Element: Copy {
    fn widen(self) -> f32;

    /// Adds four rows to `sum`, all of the same length.
    #[inline(always)]
    fn add_four([a, b, c, d]: [&[Self]; 4], sum: &mut [f32]) {
        for i in 0..sum.len() {
            sum[i] += (a[i].widen() + b[i].widen()) + (c[i].widen() + d[i].widen());
        }
    }

    /// As [`add_four`](Self::add_four), each row times its factor.
    #[inline(always)]
    fn add_four_scaled([a, b, c, d]: [&[Self]; 4], [sa, sb, sc, sd]: [f32; 4], sum: &mut [f32]) {
        for i in 0..sum.len() {
            sum[i] +=
                (sa * a[i].widen() + sb * b[i].widen()) + (sc * c[i].widen() + sd * d[i].widen());
        }
    }
}

impl Element for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Element for f16 {
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
    fn add_four(rows: [&[Self]; 4], sum: &mut [f32]) {
        if !halves::add_four(rows, None, sum) {
            add_four_widened(rows, [1.0; 4], sum);
        }
    }

    #[inline(always)]
    fn add_four_scaled(rows: [&[Self]; 4], scales: [f32; 4], sum: &mut [f32]) {
        if !halves::add_four(rows, Some(scales), sum) {
            add_four_widened(rows, scales, sum);
        }
    }
}

/// Four rows of halves where the processor does not convert them itself. A factor of 1 changes nothing.
#[inline(always)]
fn add_four_widened([a, b, c, d]: [&[f16]; 4], scales: [f32; 4], sum: &mut [f32]) {
    let [sa, sb, sc, sd] = scales;
    for i in 0..sum.len() {
        sum[i] += (sa * a[i].widen() + sb * b[i].widen()) + (sc * c[i].widen() + sd * d[i].widen());
    }
}

/// Adds rows to `sum`, `[width]`: `sum += Σ_i scale[ids[i]] · rows[ids[i]]`, or without `scales`,
/// `sum += Σ_i rows[ids[i]]`.
///
/// Cost: one pass over the rows named, streamed four at a time.
///
/// # Panics
/// When `sum` has another width, or an id has no row or no scale.
pub fn gather_sum(rows: Rows<'_>, ids: &[u32], scales: Option<&[f32]>, sum: &mut [f32]) {
    assert_eq!(sum.len(), rows.width(), "width of the sum");
    match (rows.data, scales) {
        (Data::F32(data), None) => sum_f32(data, ids, sum),
        (Data::F16(data), None) => sum_f16(data, ids, sum),
        (Data::F32(data), Some(scales)) => scaled_f32(data, ids, scales, sum),
        (Data::F16(data), Some(scales)) => scaled_f16(data, ids, scales, sum),
        (Data::I8(data), None) => int8::sum(data, ids, sum),
        (Data::I8(data), Some(scales)) => int8::scaled(data, ids, scales, sum),
    }
}

/// Raises `max`, `[width]`, channel by channel to the largest value among the rows named.
///
/// # Panics
/// When `max` has another width, or an id has no row.
pub fn gather_max(rows: Rows<'_>, ids: &[u32], max: &mut [f32]) {
    assert_eq!(max.len(), rows.width(), "width of the maximum");
    match rows.data {
        Data::F32(data) => max_f32(data, ids, max),
        Data::F16(data) => max_f16(data, ids, max),
        Data::I8(data) => int8::max(data, ids, max),
    }
}

/// Adds rows to `sum`, `[heads * channels]`, each head with its own weight:
/// `sum[h, c] += Σ_i weights[i, h] · rows[ids[i]][h, c]`; `weights` is `[ids.len(), heads]`.
///
/// # Panics
/// When a width or the number of weights does not fit, or an id has no row.
pub fn gather_weighted(
    rows: Rows<'_>,
    ids: &[u32],
    weights: &[f32],
    heads: usize,
    sum: &mut [f32],
) {
    assert_eq!(sum.len(), rows.width(), "width of the sum");
    assert_eq!(
        weights.len(),
        ids.len() * heads,
        "one weight an edge and head"
    );
    match rows.data {
        Data::F32(data) => weighted_f32(data, ids, weights, heads, sum),
        Data::F16(data) => weighted_f16(data, ids, weights, heads, sum),
        Data::I8(data) => int8::weighted(data, ids, weights, heads, sum),
    }
}

#[inline(always)]
fn row<T>(data: &[T], id: u32, width: usize) -> &[T] {
    &data[id as usize * width..][..width]
}

/// Rows ahead of those being added whose cache lines are asked for: random rows are far apart, and
/// the processor cannot guess the next.
const AHEAD: usize = 8;

/// Asks for the cache lines of the four rows from `at`.
#[inline(always)]
fn prefetch_rows<T>(data: &[T], ids: &[u32], at: usize, width: usize) {
    for &id in ids.iter().skip(at).take(4) {
        prefetch(row(data, id, width));
    }
}

#[inline(always)]
fn sum<T: Element>(data: &[T], ids: &[u32], sum: &mut [f32]) {
    let width = sum.len();
    let mut fours = ids.chunks_exact(4);
    for (index, four) in (&mut fours).enumerate() {
        prefetch_rows(data, ids, 4 * index + AHEAD, width);
        T::add_four([0, 1, 2, 3].map(|i| row(data, four[i], width)), sum);
    }
    for &id in fours.remainder() {
        for (sum, value) in sum.iter_mut().zip(row(data, id, width)) {
            *sum += value.widen();
        }
    }
}

#[inline(always)]
fn scaled<T: Element>(data: &[T], ids: &[u32], scales: &[f32], sum: &mut [f32]) {
    let width = sum.len();
    let mut fours = ids.chunks_exact(4);
    for (index, four) in (&mut fours).enumerate() {
        prefetch_rows(data, ids, 4 * index + AHEAD, width);
        let factors = [0, 1, 2, 3].map(|i| scales[four[i] as usize]);
        T::add_four_scaled(
            [0, 1, 2, 3].map(|i| row(data, four[i], width)),
            factors,
            sum,
        );
    }
    for &id in fours.remainder() {
        let scale = scales[id as usize];
        for (sum, value) in sum.iter_mut().zip(row(data, id, width)) {
            *sum += scale * value.widen();
        }
    }
}

#[inline(always)]
fn max<T: Element>(data: &[T], ids: &[u32], max: &mut [f32]) {
    let width = max.len();
    for &id in ids {
        for (max, value) in max.iter_mut().zip(row(data, id, width)) {
            *max = max.max(value.widen());
        }
    }
}

#[inline(always)]
fn weighted<T: Element>(data: &[T], ids: &[u32], weights: &[f32], heads: usize, sum: &mut [f32]) {
    let width = sum.len();
    let channels = width / heads;
    for (&id, weights) in ids.iter().zip(weights.chunks_exact(heads)) {
        let row = row(data, id, width).chunks_exact(channels);
        for ((sum, row), &weight) in sum.chunks_exact_mut(channels).zip(row).zip(weights) {
            for (sum, value) in sum.iter_mut().zip(row) {
                *sum += weight * value.widen();
            }
        }
    }
}

/// One compiled version for each instruction set, chosen when first called.
macro_rules! dispatched {
    ($($name:ident = $body:ident<$element:ty>($($argument:ident: $type:ty),*);)*) => {$(
        #[multiversion(targets(
            "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma+f16c+bmi2",
            "x86_64+avx2+fma+f16c+bmi2",
            "aarch64+neon",
        ))]
        fn $name(data: &[$element], ids: &[u32], $($argument: $type),*) {
            $body(data, ids, $($argument),*);
        }
    )*};
}

dispatched! {
    sum_f32 = sum<f32>(total: &mut [f32]);
    sum_f16 = sum<f16>(total: &mut [f32]);
    scaled_f32 = scaled<f32>(scales: &[f32], total: &mut [f32]);
    scaled_f16 = scaled<f16>(scales: &[f32], total: &mut [f32]);
    max_f32 = max<f32>(total: &mut [f32]);
    max_f16 = max<f16>(total: &mut [f32]);
    weighted_f32 = weighted<f32>(weights: &[f32], heads: usize, total: &mut [f32]);
    weighted_f16 = weighted<f16>(weights: &[f32], heads: usize, total: &mut [f32]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize_row;

    const WIDTH: usize = 37;
    const IDS: [u32; 7] = [3, 0, 3, 9, 8, 1, 5];

    fn table() -> Vec<f32> {
        (0..10 * WIDTH)
            .map(|i| ((i * 7919) % 101) as f32 / 16.0 - 3.0)
            .collect()
    }

    fn naive(data: &[f32], fold: impl Fn(f32, usize, f32) -> f32, start: f32) -> Vec<f32> {
        (0..WIDTH)
            .map(|c| {
                IDS.iter().enumerate().fold(start, |acc, (i, &id)| {
                    fold(acc, i, data[id as usize * WIDTH + c])
                })
            })
            .collect()
    }

    fn close(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }

    #[test]
    fn gathers_equal_the_plain_loop_in_every_precision() {
        let data = table();
        let halves: Vec<f16> = data.iter().map(|&v| f16::from_f32(v)).collect();
        let mut bytes = Vec::new();
        data.chunks_exact(WIDTH)
            .for_each(|row| quantize_row(row, &mut bytes));
        let eighths = Rows::i8(&bytes, WIDTH);
        let scales: Vec<f32> = (0..10).map(|i| 0.25 * i as f32).collect();
        for rows in [Rows::f32(&data, WIDTH), Rows::f16(&halves, WIDTH), eighths] {
            // What is summed is what is kept: the rounded values.
            let mut data = vec![0.0; data.len()];
            for (index, row) in data.chunks_exact_mut(WIDTH).enumerate() {
                rows.read(index, row);
            }
            let mut sum = vec![0.0; WIDTH];
            gather_sum(rows, &IDS, None, &mut sum);
            close(&sum, &naive(&data, |acc, _, v| acc + v, 0.0));

            let mut sum = vec![0.0; WIDTH];
            gather_sum(rows, &IDS, Some(&scales), &mut sum);
            let scaled = |acc: f32, i: usize, v: f32| acc + scales[IDS[i] as usize] * v;
            close(&sum, &naive(&data, scaled, 0.0));

            let mut max = vec![f32::NEG_INFINITY; WIDTH];
            gather_max(rows, &IDS, &mut max);
            close(
                &max,
                &naive(&data, |acc, _, v| acc.max(v), f32::NEG_INFINITY),
            );

            let weights: Vec<f32> = (0..IDS.len()).map(|i| 1.0 - 0.1 * i as f32).collect();
            let mut sum = vec![0.0; WIDTH];
            gather_weighted(rows, &IDS, &weights, 1, &mut sum);
            close(&sum, &naive(&data, |acc, i, v| acc + weights[i] * v, 0.0));
        }
    }

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
