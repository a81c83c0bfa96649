#![expect(
    clippy::inline_always,
    reason = "a body must be inlined into each of its dispatched versions to be compiled for their instruction set"
)]

use crate::{
    dispatch::dispatched,
    element::{Element, fold_row},
    instructions::Instructions,
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

/// Adds each row listed to each of its sums, `[sums, width]`: `sums[t] += scale[id] · rows[id]`, or without
/// `scales`, `sums[t] += rows[id]`, in the order of the list.
///
/// Cost: every row is read and widened once, however many sums it is added to. Quick where the sums stay in
/// cache, and rows are listed in the order in which they lie.
///
/// # Panics
/// When `sums` is not a whole number of rows, or an id has no row, no scale or no sum.
pub fn scatter_sum(rows: Rows<'_>, readers: &Readers, scales: Option<&[f32]>, sums: &mut [f32]) {
    let width = rows.width();
    assert!(
        sums.len().is_multiple_of(width),
        "{} values are not a whole number of sums of {width}",
        sums.len()
    );
    let mut message = vec![0.0; width];
    match rows.data {
        Data::F32(data) => scatter_f32(data, readers, scales, (&mut message, sums)),
        Data::F16(data) => scatter_f16(data, readers, scales, (&mut message, sums)),
        Data::I8(data) => scatter_i8(data, readers, scales, (&mut message, sums)),
    }
}

#[inline(always)]
fn scatter<T: Element>(
    data: &[T],
    instructions: impl Instructions,
    readers: &Readers,
    scales: Option<&[f32]>,
    (message, sums): (&mut [f32], &mut [f32]),
) {
    let width = message.len();
    let ahead = T::rows_ahead(width);
    let mut start = 0;
    for (at, (&id, &end)) in readers.ids.iter().zip(&readers.ends).enumerate() {
        if let Some(&next) = readers.ids.get(at + ahead) {
            prefetch(T::at_rest(data, next, width));
        }
        let (scale, row) = T::row(data, id, width);
        let scale = scale * scales.map_or(1.0, |scales| scales[id as usize]);
        fold_row(instructions, row, message, |message, v| {
            *message = scale * v
        });
        for &sum in &readers.sums[start as usize..end as usize] {
            let sum = &mut sums[sum as usize * width..][..width];
            for (sum, value) in sum.iter_mut().zip(&*message) {
                *sum += value;
            }
        }
        start = end;
    }
}

dispatched! {
    scatter_f32 = scatter<f32>(
        readers: &Readers,
        scales: Option<&[f32]>,
        message_and_sums: (&mut [f32], &mut [f32]),
    );
    scatter_f16 = scatter<f16>(
        readers: &Readers,
        scales: Option<&[f32]>,
        message_and_sums: (&mut [f32], &mut [f32]),
    );
    scatter_i8 = scatter<i8>(
        readers: &Readers,
        scales: Option<&[f32]>,
        message_and_sums: (&mut [f32], &mut [f32]),
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
                    let start: Vec<f32> = (0..6 * width).map(|i| i as f32).collect();
                    let (mut found, mut wanted) = (start.clone(), start);
                    scatter_sum(rows, &readers, scales, &mut found);
                    let mut row = vec![0.0; width];
                    for (id, sums) in &listed {
                        rows.read(*id as usize, &mut row);
                        let scale = scales.map_or(1.0, |scales| scales[*id as usize]);
                        for &sum in sums {
                            let sum = &mut wanted[sum as usize * width..][..width];
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
        scatter_sum(Rows::f32(&[1.0; 4], 4), &readers, None, &mut [0.0; 8]);
    }
}
