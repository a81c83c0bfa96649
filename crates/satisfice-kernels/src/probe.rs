use multiversion::multiversion;

/// Sums that are kept at once, so that additions do not wait for one another.
const LANES: usize = 64;

/// Adds all values, as quickly as they can be read in order: what memory can do at best, to compare
/// gathers with.
///
/// Cost: one pass over `values`.
pub fn read_sum(values: &[f32]) -> f32 {
    sum(values)
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
    fn every_value_counts_once() {
        for len in [0, 1, LANES, 5 * LANES + 3] {
            let values: Vec<f32> = (1..=len).map(|v| v as f32).collect();
            let expected = (len * (len + 1) / 2) as f32;
            assert_eq!(read_sum(&values).to_bits(), expected.to_bits());
        }
    }
}
