#![expect(
    clippy::inline_always,
    reason = "a body must be inlined into each of its dispatched versions to be compiled for their instruction set"
)]

use crate::{
    dispatch::dispatched,
    element::{Element, fold_row},
    instructions::{CHUNK, Instructions},
    prefetch::prefetch,
    rows::{Data, Rows},
};
use half::f16;

/// Adds rows to `sum`, `[width]`: `sum += Σ_i scale[ids[i]] · rows[ids[i]]`, or without `scales`,
/// `sum += Σ_i rows[ids[i]]`.
///
/// Cost: one pass over the rows named.
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
        (Data::I8(data), None) => sum_i8(data, ids, sum),
        (Data::I8(data), Some(scales)) => scaled_i8(data, ids, scales, sum),
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
        Data::I8(data) => max_i8(data, ids, max),
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
        Data::F32(data) => weighted_f32(data, ids, (weights, heads), sum),
        Data::F16(data) => weighted_f16(data, ids, (weights, heads), sum),
        Data::I8(data) => weighted_i8(data, ids, (weights, heads), sum),
    }
}

/// Chunks of channels whose sums stay in registers while the rows go by.
const CHUNKS: usize = 4;

/// Adds the channels of rows from `first` on, each row times the factor of its place and id, to `sum`: all rows to the first
/// channels, then to the next, so that no sum is written before it is whole.
#[inline(always)]
fn add_rows<T: Element, I: Instructions>(
    rows: &Source<'_, T, I>,
    first: usize,
    factor: impl Fn(usize, u32) -> f32,
    sum: &mut [f32],
) {
    if first == 0 {
        for &id in rows.ids.iter().take(rows.ahead) {
            prefetch(T::at_rest(rows.data, id, rows.width));
        }
    }
    let end = first + sum.len();
    let (chunks, rest) = sum.as_chunks_mut::<CHUNK>();
    let (wide, narrow) = chunks.as_chunks_mut::<CHUNKS>();
    let mut channel = first;
    for sums in wide {
        rows.add(channel, &factor, sums);
        channel += CHUNKS * CHUNK;
    }
    for sums in narrow {
        rows.add(channel, &factor, std::array::from_mut(sums));
        channel += CHUNK;
    }
    if rest.is_empty() {
        return;
    }
    if rows.width >= CHUNK {
        // The last channels, among others that are there already or another head's.
        let from = end.saturating_sub(CHUNK);
        let mut sums = [[0.0; CHUNK]];
        rows.add(from, &factor, &mut sums);
        let last = &sums[0][channel - from..];
        rest.iter_mut().zip(last).for_each(|(sum, v)| *sum += v);
        return;
    }
    for (at, &id) in rows.ids.iter().enumerate() {
        let (scale, row) = T::row(rows.data, id, rows.width);
        let row = &row[channel..end];
        add_row(rows.instructions, (scale * factor(at, id), row), rest);
    }
}

/// Rows to be added.
struct Source<'a, T, I> {
    data: &'a [T],
    instructions: I,
    ids: &'a [u32],
    width: usize,
    /// Rows to ask for ahead.
    ahead: usize,
}

impl<'a, T: Element, I: Instructions> Source<'a, T, I> {
    #[inline(always)]
    fn new(data: &'a [T], instructions: I, ids: &'a [u32], width: usize) -> Self {
        Self {
            data,
            instructions,
            ids,
            width,
            ahead: T::rows_ahead(width),
        }
    }

    /// Adds the channels from `channel` of every row.
    #[inline(always)]
    fn add<const N: usize>(
        &self,
        channel: usize,
        factor: &impl Fn(usize, u32) -> f32,
        sums: &mut [[f32; CHUNK]; N],
    ) {
        let instructions = self.instructions;
        let mut totals = [instructions.splat(0.0); N];
        for (total, sum) in totals.iter_mut().zip(&*sums) {
            *total = instructions.load(sum);
        }
        for (at, &id) in self.ids.iter().enumerate() {
            if channel == 0
                && let Some(&next) = self.ids.get(at + self.ahead)
            {
                prefetch(T::at_rest(self.data, next, self.width));
            }
            let (scale, row) = T::row(self.data, id, self.width);
            let scale = instructions.splat(scale * factor(at, id));
            let Some(values) = row[channel..].as_chunks::<CHUNK>().0.first_chunk::<N>() else {
                unreachable!("invariant: the channels are among the row's");
            };
            for (total, values) in totals.iter_mut().zip(values) {
                let values = T::widen_chunk(instructions, values);
                *total = instructions.multiply_add(values, scale, *total);
            }
        }
        for (sum, total) in sums.iter_mut().zip(totals) {
            instructions.store(total, sum);
        }
    }
}

/// Adds a row, times its factor, to `sum`.
#[inline(always)]
fn add_row<T: Element, I: Instructions>(instructions: I, row: (f32, &[T]), sum: &mut [f32]) {
    let add = (|a, b| instructions.add(a, b), |a: f32, b: f32| a + b);
    fold_row(instructions, row, sum, add);
}

#[inline(always)]
fn sum<T: Element>(data: &[T], instructions: impl Instructions, ids: &[u32], sum: &mut [f32]) {
    let rows = Source::new(data, instructions, ids, sum.len());
    add_rows(&rows, 0, |_, _| 1.0, sum);
}

#[inline(always)]
fn scaled<T: Element>(
    data: &[T],
    instructions: impl Instructions,
    ids: &[u32],
    scales: &[f32],
    sum: &mut [f32],
) {
    let rows = Source::new(data, instructions, ids, sum.len());
    add_rows(&rows, 0, |_, id| scales[id as usize], sum);
}

#[inline(always)]
fn max<T: Element>(data: &[T], instructions: impl Instructions, ids: &[u32], max: &mut [f32]) {
    for &id in ids {
        let row = T::row(data, id, max.len());
        let fold = (|a, b| instructions.max(a, b), f32::max);
        fold_row(instructions, row, max, fold);
    }
}

#[inline(always)]
fn weighted<T: Element>(
    data: &[T],
    instructions: impl Instructions,
    ids: &[u32],
    (weights, heads): (&[f32], usize),
    sum: &mut [f32],
) {
    let rows = Source::new(data, instructions, ids, sum.len());
    let channels = rows.width / heads;
    for (head, sum) in sum.chunks_exact_mut(channels).enumerate() {
        let weight = |at: usize, _| weights[at * heads + head];
        add_rows(&rows, head * channels, weight, sum);
    }
}

dispatched! {
    sum_f32 = sum<f32>(ids: &[u32], total: &mut [f32]);
    sum_f16 = sum<f16>(ids: &[u32], total: &mut [f32]);
    sum_i8 = sum<i8>(ids: &[u32], total: &mut [f32]);
    scaled_f32 = scaled<f32>(ids: &[u32], scales: &[f32], total: &mut [f32]);
    scaled_f16 = scaled<f16>(ids: &[u32], scales: &[f32], total: &mut [f32]);
    scaled_i8 = scaled<i8>(ids: &[u32], scales: &[f32], total: &mut [f32]);
    max_f32 = max<f32>(ids: &[u32], total: &mut [f32]);
    max_f16 = max<f16>(ids: &[u32], total: &mut [f32]);
    max_i8 = max<i8>(ids: &[u32], total: &mut [f32]);
    weighted_f32 = weighted<f32>(ids: &[u32], weights: (&[f32], usize), total: &mut [f32]);
    weighted_f16 = weighted<f16>(ids: &[u32], weights: (&[f32], usize), total: &mut [f32]);
    weighted_i8 = weighted<i8>(ids: &[u32], weights: (&[f32], usize), total: &mut [f32]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize_row;

    const IDS: [u32; 19] = [3, 0, 3, 9, 8, 1, 5, 2, 2, 7, 6, 4, 9, 0, 1, 3, 8, 5, 7];

    fn naive(
        data: &[f32],
        width: usize,
        fold: impl Fn(f32, usize, f32) -> f32,
        start: f32,
    ) -> Vec<f32> {
        (0..width)
            .map(|c| {
                IDS.iter().enumerate().fold(start, |acc, (i, &id)| {
                    fold(acc, i, data[id as usize * width + c])
                })
            })
            .collect()
    }

    fn close(a: &[f32], b: &[f32]) {
        let width = a.len();
        assert_eq!(width, b.len());
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() < 1e-4, "width {width}: {a} {b}");
        }
    }

    #[test]
    fn gathers_equal_the_plain_loop_in_every_precision_and_width() {
        for width in [1, 7, 15, 16, 17, 37, 41, 64, 80, 100, 128, 205] {
            let data: Vec<f32> = (0..10 * width)
                .map(|i| ((i * 7919) % 101) as f32 / 16.0 - 3.0)
                .collect();
            let halves: Vec<f16> = data.iter().map(|&v| f16::from_f32(v)).collect();
            let mut bytes = Vec::new();
            data.chunks_exact(width)
                .for_each(|row| quantize_row(row, &mut bytes));
            for rows in [
                Rows::f32(&data, width),
                Rows::f16(&halves, width),
                Rows::i8(&bytes, width),
            ] {
                equals_the_plain_loop(rows);
            }
        }
    }

    fn equals_the_plain_loop(rows: Rows<'_>) {
        let width = rows.width();
        let scales: Vec<f32> = (0..10).map(|i| 0.25 * i as f32).collect();
        // What is summed is what is kept: the rounded values.
        let mut data = vec![0.0; 10 * width];
        for (index, row) in data.chunks_exact_mut(width).enumerate() {
            rows.read(index, row);
        }
        let mut sum = vec![1.5; width];
        gather_sum(rows, &IDS, None, &mut sum);
        close(&sum, &naive(&data, width, |acc, _, v| acc + v, 1.5));

        let mut sum = vec![1.5; width];
        gather_sum(rows, &IDS, Some(&scales), &mut sum);
        let scaled = |acc: f32, i: usize, v: f32| acc + scales[IDS[i] as usize] * v;
        close(&sum, &naive(&data, width, scaled, 1.5));

        let mut max = vec![f32::NEG_INFINITY; width];
        gather_max(rows, &IDS, &mut max);
        let largest = naive(&data, width, |acc, _, v| acc.max(v), f32::NEG_INFINITY);
        close(&max, &largest);

        for heads in [1, 2, 3, 4, 5, 8]
            .into_iter()
            .filter(|heads| width.is_multiple_of(*heads))
        {
            let weights: Vec<f32> = (0..IDS.len() * heads)
                .map(|i| 1.0 - 0.1 * i as f32)
                .collect();
            let mut sum = vec![0.5; width];
            gather_weighted(rows, &IDS, &weights, heads, &mut sum);
            let mut wanted = vec![0.5; width];
            for (channel, wanted) in wanted.iter_mut().enumerate() {
                let head = channel / (width / heads);
                for (at, &id) in IDS.iter().enumerate() {
                    *wanted += weights[at * heads + head] * data[id as usize * width + channel];
                }
            }
            close(&sum, &wanted);
        }
    }
}
