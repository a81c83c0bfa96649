#![expect(unsafe_code, reason = "the product takes pointers: see the block")]

use gemm_common::Parallelism;

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
    let (mut left, mut right) = (
        Operand::new(x, rows, inner as isize, 1),
        Operand::new(w, columns, 1, inner as isize),
    );
    // How far apart the values of a column of `out` are, and those of a row.
    let (mut down, mut along) = (columns as isize, 1);
    // The kernels write columns: of a matrix that lies in rows they make the transposed one.
    if along < down {
        (left, right) = (right.transposed(), left.transposed());
        (down, along) = (along, down);
    }
    let product = gemm_f32::gemm::f32::get_gemm_fn();
    // SAFETY: the pointers cover [rows, columns], [rows, inner] and [columns, inner] row-major
    // values, as asserted above, with the strides given; `out` is borrowed mutably, so it does not
    // overlap `x` or `w`. A slice is never longer than `isize::MAX` bytes, so no stride overflows.
    unsafe {
        product(
            left.count,
            right.count,
            inner,
            out.as_mut_ptr(),
            along,
            down,
            true,
            left.values,
            left.along,
            left.down,
            right.values,
            right.along,
            right.down,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// A matrix that is multiplied.
struct Operand {
    values: *const f32,
    /// Its rows on the left, its columns on the right.
    count: usize,
    /// How far apart the values of a column are.
    down: isize,
    /// How far apart the values of a row are.
    along: isize,
}

impl Operand {
    fn new(values: &[f32], count: usize, down: isize, along: isize) -> Self {
        Self {
            values: values.as_ptr(),
            count,
            down,
            along,
        }
    }

    fn transposed(self) -> Self {
        Self {
            down: self.along,
            along: self.down,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_plain_loop() {
        for (rows, inner, columns) in [(1, 1, 1), (1, 5, 3), (9, 40, 1), (7, 13, 4), (65, 128, 28)]
        {
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
