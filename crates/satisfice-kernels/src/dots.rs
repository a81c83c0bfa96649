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

/// One vector for each head of a row, `[heads, channels]`.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadVectors {
    heads: usize,
    values: Vec<f32>,
    /// For each head as many windows on the row as its channels need; none where rows are narrower than one.
    windows: Vec<Window>,
}

/// Some channels of a head among [`CHUNK`] channels of the row; the vector is 0 at the others.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Window {
    first: usize,
    values: [f32; CHUNK],
}

impl HeadVectors {
    /// Vectors of all heads, one after the other.
    ///
    /// # Panics
    /// When they are not of one length.
    pub fn new(values: Vec<f32>, heads: usize) -> Self {
        assert_eq!(values.len() % heads, 0, "channels of a head");
        let (width, channels) = (values.len(), values.len() / heads);
        let window = |head: usize, at: usize| {
            let from = head * channels + at;
            let to = (head * channels + channels).min(from + CHUNK);
            let first = from.min(width - CHUNK);
            let value = |lane| match (from..to).contains(&(first + lane)) {
                true => values[first + lane],
                false => 0.0,
            };
            Window {
                first,
                values: std::array::from_fn(value),
            }
        };
        let heads_with_windows = if width < CHUNK { 0..0 } else { 0..heads };
        let of_head = |head| (0..channels).step_by(CHUNK).map(move |at| (head, at));
        let windows = heads_with_windows
            .flat_map(of_head)
            .map(|(head, at)| window(head, at))
            .collect();
        Self {
            heads,
            values,
            windows,
        }
    }

    /// Number of heads.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Values of a row: heads times channels.
    pub fn width(&self) -> usize {
        self.values.len()
    }
}

/// The products of rows with the vector of each head, `[ids.len(), heads]`:
/// `out[i, h] = Σ_c a[h, c] · rows[ids[i]][h, c]`.
///
/// Cost: one pass over the rows named.
///
/// # Panics
/// When the width of the rows or of `out` does not fit, or an id has no row.
pub fn gather_dots(rows: Rows<'_>, ids: &[u32], vectors: &HeadVectors, out: &mut [f32]) {
    check(rows, ids, vectors, out);
    match rows.data {
        Data::F32(data) => dots_f32(data, ids, vectors, out),
        Data::F16(data) => dots_f16(data, ids, vectors, out),
        Data::I8(data) => dots_i8(data, ids, vectors, out),
    }
}

/// As [`gather_dots`], of `leaky(row + term)` instead of the row: negative values times `slope`. `term` is as wide as a row.
///
/// # Panics
/// As [`gather_dots`], and when `term` has another width.
pub fn gather_leaky_dots(
    rows: Rows<'_>,
    ids: &[u32],
    (term, slope): (&[f32], f32),
    vectors: &HeadVectors,
    out: &mut [f32],
) {
    check(rows, ids, vectors, out);
    assert_eq!(term.len(), rows.width(), "width of the term");
    match rows.data {
        Data::F32(data) => leaky_f32(data, ids, (term, slope), vectors, out),
        Data::F16(data) => leaky_f16(data, ids, (term, slope), vectors, out),
        Data::I8(data) => leaky_i8(data, ids, (term, slope), vectors, out),
    }
}

fn check(rows: Rows<'_>, ids: &[u32], vectors: &HeadVectors, out: &[f32]) {
    assert_eq!(rows.width(), vectors.width(), "width of the vectors");
    assert_eq!(
        out.len(),
        ids.len() * vectors.heads,
        "one product an id and head"
    );
}

#[inline(always)]
fn dots<T: Element, I: Instructions>(
    data: &[T],
    instructions: I,
    ids: &[u32],
    vectors: &HeadVectors,
    out: &mut [f32],
) {
    let as_is = (
        |_: usize, values: I::Wide| values,
        |_: usize, value: f32| value,
    );
    multiply_rows(data, instructions, ids, as_is, vectors, out);
}

#[inline(always)]
fn leaky<T: Element, I: Instructions>(
    data: &[T],
    instructions: I,
    ids: &[u32],
    (term, slope): (&[f32], f32),
    vectors: &HeadVectors,
    out: &mut [f32],
) {
    let [zero, minus, wide_slope] = [0.0, -1.0, slope].map(|value| instructions.splat(value));
    let wide = |first: usize, values: I::Wide| {
        let Some(term) = term[first..].first_chunk::<CHUNK>() else {
            unreachable!("invariant: the channels are among the row's");
        };
        let values = instructions.add(values, instructions.load(term));
        let positive = instructions.max(values, zero);
        let negative = instructions.multiply_add(positive, minus, values);
        instructions.multiply_add(negative, wide_slope, positive)
    };
    let single = |channel: usize, value: f32| match value + term[channel] {
        value if value > 0.0 => value,
        value => value * slope,
    };
    multiply_rows(data, instructions, ids, (wide, single), vectors, out);
}

/// Multiplies what the functions make of the values from a channel on, many at once or one.
#[inline(always)]
fn multiply_rows<T: Element, I: Instructions>(
    data: &[T],
    instructions: I,
    ids: &[u32],
    (wide, single): (
        impl Fn(usize, I::Wide) -> I::Wide,
        impl Fn(usize, f32) -> f32,
    ),
    vectors: &HeadVectors,
    out: &mut [f32],
) {
    let width = vectors.width();
    let ahead = T::rows_ahead(width);
    for &id in ids.iter().take(ahead) {
        prefetch(T::at_rest(data, id, width));
    }
    for (at, (&id, out)) in ids
        .iter()
        .zip(out.chunks_exact_mut(vectors.heads))
        .enumerate()
    {
        if let Some(&next) = ids.get(at + ahead) {
            prefetch(T::at_rest(data, next, width));
        }
        let (scale, row) = T::row(data, id, width);
        if width < CHUNK {
            let mut channel = 0;
            for (out, vector) in out
                .iter_mut()
                .zip(vectors.values.chunks_exact(width / vectors.heads))
            {
                *out = 0.0;
                for a in vector {
                    *out += a * single(channel, scale * row[channel].widen());
                    channel += 1;
                }
            }
            continue;
        }
        let scale = instructions.splat(scale);
        let of_head = vectors
            .windows
            .chunks_exact(vectors.windows.len() / vectors.heads);
        for (out, windows) in out.iter_mut().zip(of_head) {
            let mut total = instructions.splat(0.0);
            for window in windows {
                let Some(values) = row[window.first..].first_chunk::<CHUNK>() else {
                    unreachable!("invariant: the channels are among the row's");
                };
                let values = instructions.multiply(T::widen_chunk(instructions, values), scale);
                let values = wide(window.first, values);
                total = instructions.multiply_add(values, instructions.load(&window.values), total);
            }
            *out = instructions.sum(total);
        }
    }
}

dispatched! {
    dots_f32 = dots<f32>(ids: &[u32], vectors: &HeadVectors, out: &mut [f32]);
    dots_f16 = dots<f16>(ids: &[u32], vectors: &HeadVectors, out: &mut [f32]);
    dots_i8 = dots<i8>(ids: &[u32], vectors: &HeadVectors, out: &mut [f32]);
    leaky_f32 = leaky<f32>(ids: &[u32], term: (&[f32], f32), vectors: &HeadVectors, out: &mut [f32]);
    leaky_f16 = leaky<f16>(ids: &[u32], term: (&[f32], f32), vectors: &HeadVectors, out: &mut [f32]);
    leaky_i8 = leaky<i8>(ids: &[u32], term: (&[f32], f32), vectors: &HeadVectors, out: &mut [f32]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize_row;

    const IDS: [u32; 7] = [3, 0, 9, 9, 5, 1, 7];
    const SLOPE: f32 = 0.2;

    fn value(at: usize) -> f32 {
        ((at * 7919) % 101) as f32 / 16.0 - 3.0
    }

    #[test]
    fn products_equal_the_plain_loop_in_every_precision_number_of_heads_and_width() {
        for (heads, channels) in [
            (1, 1),
            (1, 15),
            (1, 16),
            (2, 3),
            (2, 8),
            (2, 32),
            (2, 41),
            (3, 17),
            (8, 8),
            (4, 1),
        ] {
            let width = heads * channels;
            let data: Vec<f32> = (0..10 * width).map(value).collect();
            let halves: Vec<f16> = data.iter().map(|&v| f16::from_f32(v)).collect();
            let mut bytes = Vec::new();
            data.chunks_exact(width)
                .for_each(|row| quantize_row(row, &mut bytes));
            let vectors: Vec<f32> = (0..width).map(|at| value(at + 5)).collect();
            for rows in [
                Rows::f32(&data, width),
                Rows::f16(&halves, width),
                Rows::i8(&bytes, width),
            ] {
                equal_the_plain_loop(rows, &vectors, heads);
            }
        }
    }

    fn equal_the_plain_loop(rows: Rows<'_>, vectors: &[f32], heads: usize) {
        let width = rows.width();
        let laid_out = HeadVectors::new(vectors.to_vec(), heads);
        assert_eq!((laid_out.heads(), laid_out.width()), (heads, width));
        let term: Vec<f32> = (0..width).map(|at| value(at + 11)).collect();
        let mut found = vec![f32::NAN; IDS.len() * heads];
        let plain = |of: &dyn Fn(usize, f32) -> f32| -> Vec<f32> {
            let mut row = vec![0.0; width];
            let mut all = Vec::new();
            for id in IDS {
                rows.read(id as usize, &mut row);
                let products: Vec<f32> = (0..width).map(|c| vectors[c] * of(c, row[c])).collect();
                all.extend(
                    products
                        .chunks_exact(width / heads)
                        .map(|head| head.iter().sum::<f32>()),
                );
            }
            all
        };
        gather_dots(rows, &IDS, &laid_out, &mut found);
        close(&found, &plain(&|_, v| v));
        gather_leaky_dots(rows, &IDS, (&term, SLOPE), &laid_out, &mut found);
        close(
            &found,
            &plain(&|c, v| {
                if v + term[c] > 0.0 {
                    v + term[c]
                } else {
                    SLOPE * (v + term[c])
                }
            }),
        );
    }

    fn close(found: &[f32], wanted: &[f32]) {
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(
                (found - wanted).abs() < 1e-4 * wanted.abs().max(1.0),
                "{found} {wanted}"
            );
        }
    }
}
