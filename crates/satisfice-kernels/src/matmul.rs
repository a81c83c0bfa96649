#![expect(unsafe_code, reason = "the gemm crate takes pointers: see the block")]

use gemm::Parallelism;

/// `out += x · wᵀ` with `x` `[rows, inner]`, `w` `[columns, inner]` (as PyTorch keeps the weights
/// of a linear layer) and `out` `[rows, columns]`, all row-major, on the calling thread.
///
/// Cost: `2 · rows · inner · columns` FLOPs.
///
/// # Panics
/// When a slice does not have the length that its shape says.
pub fn matmul_transposed(x: &[f32], w: &[f32], inner: usize, out: &mut [f32]) {
    if inner == 0 || out.is_empty() {
        return;
    }
    let (rows, columns) = (x.len() / inner, w.len() / inner);
    assert_eq!(x.len(), rows * inner, "x is [rows, inner]");
    assert_eq!(w.len(), columns * inner, "w is [columns, inner]");
    assert_eq!(out.len(), rows * columns, "out is [rows, columns]");
    // SAFETY: the pointers cover [rows, columns], [rows, inner] and [columns, inner] row-major
    // values, as asserted above, with the strides given; `out` is borrowed mutably, so it does not
    // overlap `x` or `w`. A slice is never longer than `isize::MAX` bytes, so no stride overflows.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            out.as_mut_ptr(),
            1,
            columns as isize,
            true,
            x.as_ptr(),
            1,
            inner as isize,
            w.as_ptr(),
            inner as isize,
            1,
            1.0_f32,
            1.0_f32,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_plain_loop() {
        for (rows, inner, columns) in [(1, 1, 1), (1, 5, 3), (7, 13, 4), (65, 128, 28)] {
            let x: Vec<f32> = (0..rows * inner).map(|i| (i % 11) as f32 - 5.0).collect();
            let w: Vec<f32> = (0..columns * inner).map(|i| (i % 7) as f32 - 3.0).collect();
            let mut out = vec![1.0; rows * columns];
            matmul_transposed(&x, &w, inner, &mut out);
            for r in 0..rows {
                for c in 0..columns {
                    let dot: f32 = (0..inner)
                        .map(|i| x[r * inner + i] * w[c * inner + i])
                        .sum();
                    assert!((out[r * columns + c] - dot - 1.0).abs() < 1e-3);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "out is [rows, columns]")]
    fn a_short_output_is_refused() {
        matmul_transposed(&[0.0; 6], &[0.0; 6], 3, &mut [0.0; 3]);
    }
}
