use multiversion::multiversion;

/// Values in a cache line.
const LINE: usize = 16;
/// Sums that are kept at once, so that additions do not wait for one another.
const LANES: usize = 64;

/// Adds all values, as quickly as they can be read in order: what memory can do at best, to compare
/// gathers with.
///
/// Cost: one pass over `values`.
pub fn read_sum(values: &[f32]) -> f32 {
    sum(values)
}

/// Adds one value of every 64 bytes of the rows named, and nothing else: what memory can do at best for random
/// rows, to compare gathers with. A row has `width` values.
///
/// # Panics
/// When a row named is not there, or `width` is 0.
pub fn touch_rows(values: &[f32], width: usize, ids: &[u32]) -> f32 {
    let mut sums = [0.0_f32; 4];
    for (at, &id) in ids.iter().enumerate() {
        let row = &values[id as usize * width..][..width];
        let sum = &mut sums[at % 4];
        for line in row.chunks(LINE) {
            *sum += line[0];
        }
    }
    sums.iter().sum()
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma+f16c+bmi2",
    "x86_64+avx2+fma+f16c+bmi2",
    "aarch64+neon",
))]
fn sum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    sums.iter().chain(rest).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_rows_named_counts_once() {
        let values: Vec<f32> = (0..5 * 40).map(|v| v as f32).collect();
        let lines_of = |row: usize| [0, 16, 32].map(|at| (40 * row + at) as f32);
        let ids = [4, 0, 4, 2, 1];
        let expected: f32 = ids.iter().flat_map(|&id| lines_of(id as usize)).sum();
        assert_eq!(touch_rows(&values, 40, &ids).to_bits(), expected.to_bits());
        assert_eq!(touch_rows(&values, 40, &[]).to_bits(), 0.0_f32.to_bits());
    }

    #[test]
    fn every_value_counts_once() {
        for len in [0, 1, LANES, 5 * LANES + 3] {
            let values: Vec<f32> = (1..=len).map(|v| v as f32).collect();
            let expected = (len * (len + 1) / 2) as f32;
            assert_eq!(read_sum(&values).to_bits(), expected.to_bits());
        }
    }
}
