#![expect(
    clippy::inline_always,
    reason = "a body must be inlined into each of its dispatched versions to be compiled for their instruction set"
)]

use crate::{
    dispatch::dispatched,
    element::Element,
    instructions::{CHUNK, Instructions},
    prefetch::prefetch,
    rows::{Data, Rows},
};
use half::f16;
use std::ops::Range;

/// Rows, and for each the sums that it is added to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readers<'a> {
    sums: &'a [u32],
    first: u32,
    rows: Vec<Reader>,
}

/// A row, and where in the list its sums are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reader {
    id: u32,
    start: u32,
    end: u32,
}

impl<'a> Readers<'a> {
    /// For no row so far, of which each has a part of the list `sums`; sum `first` comes first in memory.
    pub fn new(sums: &'a [u32], first: u32) -> Self {
        Self {
            sums,
            first,
            rows: Vec::new(),
        }
    }

    /// Lists row `id` for a part of the sums; not at all where that is empty.
    #[inline]
    pub fn push(&mut self, id: u32, sums: Range<usize>) {
        if !sums.is_empty() {
            self.rows.push(Reader {
                id,
                start: sums.start as u32,
                end: sums.end as u32,
            });
        }
    }

    /// Takes all rows off the list.
    pub fn clear(&mut self) {
        self.rows.clear();
    }

    /// Number of rows listed.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no row is listed.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Values from one sum to the next of [`scatter_sum`] over rows of `width` values.
pub fn scatter_stride(width: usize) -> usize {
    width.next_multiple_of(CHUNK)
}

/// Adds each row listed to each of its sums, `[sums, scatter_stride(width)]`, of which the last values stay 0 where the
/// width is less: `sums[t] += scale[id] · rows[id]`, or without
/// `scales`, `sums[t] += rows[id]`, in the order of the list.
///
/// Cost: every row is read and widened once, however many sums it is added to. Quick where the sums stay in
/// cache, and rows are listed in the order in which they lie.
///
/// # Panics
/// When `sums` is not a whole number of rows, or an id has no row, no scale or no sum.
pub fn scatter_sum(
    rows: Rows<'_>,
    readers: &Readers<'_>,
    scales: Option<&[f32]>,
    sums: &mut [f32],
) {
    let stride = scatter_stride(rows.width());
    let (chunks, rest) = sums.as_chunks_mut::<CHUNK>();
    assert!(
        rest.is_empty() && chunks.len().is_multiple_of(stride / CHUNK),
        "the values are not a whole number of sums of {stride}"
    );
    let sums = Sums {
        width: rows.width(),
        chunks,
    };
    match rows.data {
        Data::F32(data) => scatter_f32(data, readers, scales, sums),
        Data::F16(data) => scatter_f16(data, readers, scales, sums),
        Data::I8(data) => scatter_i8(data, readers, scales, sums),
    }
}

/// What rows are added to.
struct Sums<'a> {
    width: usize,
    /// `[sums, stride]`.
    chunks: &'a mut [[f32; CHUNK]],
}

/// Chunks of a row that are kept in registers while they are added to its sums.
const CHUNKS: usize = 4;

#[inline(always)]
fn scatter<T: Element, I: Instructions>(
    data: &[T],
    instructions: I,
    readers: &Readers<'_>,
    scales: Option<&[f32]>,
    mut sums: Sums<'_>,
) {
    let width = sums.width;
    let ahead = T::rows_ahead(width);
    for (at, &Reader { id, start, end }) in readers.rows.iter().enumerate() {
        if let Some(next) = readers.rows.get(at + ahead) {
            prefetch(T::at_rest(data, next.id, width));
        }
        let (scale, row) = T::row(data, id, width);
        let scale = scale * scales.map_or(1.0, |scales| scales[id as usize]);
        let of_row = (&readers.sums[start as usize..end as usize], readers.first);
        let (chunks, rest) = row.as_chunks::<CHUNK>();
        let (whole, others) = chunks.as_chunks::<CHUNKS>();
        let mut chunk = 0;
        for group in whole {
            let mut values = [instructions.splat(0.0); CHUNKS];
            scale_chunks(instructions, (scale, group), &mut values);
            sums.add(instructions, &values, of_row, chunk);
            chunk += CHUNKS;
        }
        let mut last = [instructions.splat(0.0); CHUNKS];
        let mut len = others.len();
        scale_chunks(instructions, (scale, others), &mut last);
        if !rest.is_empty() {
            let mut padded = [0.0; CHUNK];
            for (padded, value) in padded.iter_mut().zip(rest) {
                *padded = scale * value.widen();
            }
            last[len] = instructions.load(&padded);
            len += 1;
        }
        match last {
            [a, ..] if len == 1 => sums.add(instructions, &[a], of_row, chunk),
            [a, b, ..] if len == 2 => sums.add(instructions, &[a, b], of_row, chunk),
            [a, b, c, _] if len == 3 => sums.add(instructions, &[a, b, c], of_row, chunk),
            all if len == CHUNKS => sums.add(instructions, &all, of_row, chunk),
            _ => {}
        }
    }
}

/// Chunks of a row, widened and scaled.
#[inline(always)]
fn scale_chunks<T: Element, I: Instructions>(
    instructions: I,
    (scale, chunks): (f32, &[[T; CHUNK]]),
    out: &mut [I::Wide; CHUNKS],
) {
    let factor = instructions.splat(scale);
    for (out, chunk) in out.iter_mut().zip(chunks) {
        *out = instructions.multiply(T::widen_chunk(instructions, chunk), factor);
    }
}

impl Sums<'_> {
    /// Adds some chunks of a row, from `chunk` on, to those of its sums, of which `first` comes first in memory.
    #[inline(always)]
    fn add<I: Instructions, const N: usize>(
        &mut self,
        instructions: I,
        values: &[I::Wide; N],
        (of_row, first): (&[u32], u32),
        chunk: usize,
    ) {
        let stride = self.width.div_ceil(CHUNK);
        for &sum in of_row {
            let start = sum.wrapping_sub(first) as usize * stride + chunk;
            for (sum, &value) in self.chunks[start..start + N].iter_mut().zip(values) {
                let total = instructions.add(instructions.load(sum), value);
                instructions.store(total, sum);
            }
        }
    }
}

dispatched! {
    scatter_f32 = scatter<f32>(
        readers: &Readers<'_>,
        scales: Option<&[f32]>,
        sums: Sums<'_>,
    );
    scatter_f16 = scatter<f16>(
        readers: &Readers<'_>,
        scales: Option<&[f32]>,
        sums: Sums<'_>,
    );
    scatter_i8 = scatter<i8>(
        readers: &Readers<'_>,
        scales: Option<&[f32]>,
        sums: Sums<'_>,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize_row;

    #[test]
    fn every_row_is_added_to_each_of_its_sums_in_every_precision() {
        for width in [1, 16, 37, 41, 48, 64, 100, 128] {
            let values: Vec<f32> = (0..30 * width)
                .map(|i| ((i * 7919) % 101) as f32 / 16.0 - 3.0)
                .collect();
            let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
            let mut bytes = Vec::new();
            values
                .chunks_exact(width)
                .for_each(|row| quantize_row(row, &mut bytes));
            let listed: Vec<(u32, Vec<u32>)> = (0..25)
                .map(|i| (i * 7 % 30, (0..i % 5).map(|t| (t * 3 + i) % 6).collect()))
                .collect();
            let first = 7;
            let all: Vec<u32> = listed
                .iter()
                .flat_map(|(_, sums)| sums.iter().map(|sum| sum + first))
                .collect();
            let mut readers = Readers::new(&all, first);
            let mut start = 0;
            for (id, sums) in &listed {
                readers.push(*id, start..start + sums.len());
                start += sums.len();
            }
            assert_eq!(readers.len(), 20, "rows for no sum are not listed");
            let factors: Vec<f32> = (0..30).map(|i| 0.25 * i as f32 - 2.0).collect();
            for rows in [
                Rows::f32(&values, width),
                Rows::f16(&halves, width),
                Rows::i8(&bytes, width),
            ] {
                for scales in [None, Some(&factors[..])] {
                    let stride = scatter_stride(width);
                    let inside = |at: usize| at % stride < width;
                    let start: Vec<f32> = (0..6 * stride)
                        .map(|at| if inside(at) { at as f32 } else { 0.0 })
                        .collect();
                    let (mut found, mut wanted) = (start.clone(), start);
                    scatter_sum(rows, &readers, scales, &mut found);
                    let mut row = vec![0.0; width];
                    for (id, sums) in &listed {
                        rows.read(*id as usize, &mut row);
                        let scale = scales.map_or(1.0, |scales| scales[*id as usize]);
                        for &sum in sums {
                            let sum = &mut wanted[sum as usize * stride..][..width];
                            sum.iter_mut().zip(&row).for_each(|(s, v)| *s += scale * v);
                        }
                    }
                    for (found, wanted) in found.iter().zip(&wanted) {
                        assert!(
                            (found - wanted).abs() <= 1e-5 * wanted.abs().max(1.0),
                            "width {width}: {found} {wanted}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "out of range")]
    fn a_sum_that_is_not_there_is_an_error() {
        let mut readers = Readers::new(&[2], 0);
        readers.push(0, 0..1);
        scatter_sum(Rows::f32(&[1.0; 4], 4), &readers, None, &mut [0.0; 32]);
    }
}
