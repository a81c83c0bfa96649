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

/// Rows, and for each the sums that it is added to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readers {
    ids: Vec<u32>,
    ends: Vec<u32>,
    sums: Vec<u32>,
}

impl Readers {
    /// Lists row `id` for the sums named; not at all where there is none.
    pub fn push(&mut self, id: u32, sums: impl IntoIterator<Item = u32>) {
        let len = self.sums.len();
        self.sums.extend(sums);
        if self.sums.len() > len {
            self.ids.push(id);
            self.ends.push(self.sums.len() as u32);
        }
    }

    /// Number of rows listed.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether no row is listed.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
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
pub fn scatter_sum(rows: Rows<'_>, readers: &Readers, scales: Option<&[f32]>, sums: &mut [f32]) {
    let stride = scatter_stride(rows.width());
    let (chunks, rest) = sums.as_chunks_mut::<CHUNK>();
    assert!(
        rest.is_empty() && chunks.len().is_multiple_of(stride / CHUNK),
        "the values are not a whole number of sums of {stride}"
    );
    let sums = Sums {
        width: rows.width(),
        message: vec![0.0; stride],
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
    /// Space for a row, `[stride]`.
    message: Vec<f32>,
    /// `[sums, stride]`.
    chunks: &'a mut [[f32; CHUNK]],
}

#[inline(always)]
fn scatter<T: Element, I: Instructions>(
    data: &[T],
    instructions: I,
    readers: &Readers,
    scales: Option<&[f32]>,
    mut sums: Sums<'_>,
) {
    let width = sums.width;
    let ahead = T::rows_ahead(width);
    let mut start = 0;
    for (at, (&id, &end)) in readers.ids.iter().zip(&readers.ends).enumerate() {
        if let Some(&next) = readers.ids.get(at + ahead) {
            prefetch(T::at_rest(data, next, width));
        }
        let (scale, row) = T::row(data, id, width);
        let scale = scale * scales.map_or(1.0, |scales| scales[id as usize]);
        let set = (|_, v| v, |_, v| v);
        fold_row(instructions, (scale, row), &mut sums.message[..width], set);
        let (message, _) = sums.message.as_chunks::<CHUNK>();
        for &sum in &readers.sums[start as usize..end as usize] {
            let sum = &mut sums.chunks[sum as usize * message.len()..][..message.len()];
            for (sum, values) in sum.iter_mut().zip(message) {
                let total = instructions.add(instructions.load(sum), instructions.load(values));
                instructions.store(total, sum);
            }
        }
        start = end;
    }
}

dispatched! {
    scatter_f32 = scatter<f32>(
        readers: &Readers,
        scales: Option<&[f32]>,
        sums: Sums<'_>,
    );
    scatter_f16 = scatter<f16>(
        readers: &Readers,
        scales: Option<&[f32]>,
        sums: Sums<'_>,
    );
    scatter_i8 = scatter<i8>(
        readers: &Readers,
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
        for width in [1, 16, 37, 41, 128] {
            let values: Vec<f32> = (0..30 * width)
                .map(|i| ((i * 7919) % 101) as f32 / 16.0 - 3.0)
                .collect();
            let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
            let mut bytes = Vec::new();
            values
                .chunks_exact(width)
                .for_each(|row| quantize_row(row, &mut bytes));
            let mut readers = Readers::default();
            let listed: Vec<(u32, Vec<u32>)> = (0..25)
                .map(|i| (i * 7 % 30, (0..i % 5).map(|t| (t * 3 + i) % 6).collect()))
                .collect();
            for (id, sums) in &listed {
                readers.push(*id, sums.iter().copied());
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
        let mut readers = Readers::default();
        readers.push(0, [2]);
        scatter_sum(Rows::f32(&[1.0; 4], 4), &readers, None, &mut [0.0; 32]);
    }
}
