//! The numeric kernels and the memory mapping.
//!
//! This is the only crate with `unsafe` code: it maps files, calls the matrix product of the `gemm` crate,
//! prefetches, and works on many values at once by the processor's own instructions. Everything here works on plain slices; nothing knows graphs or models.

mod buffer;
mod dispatch;
mod dots;
mod element;
mod gather;
mod instructions;
mod int8;
mod mapped;
mod matmul;
mod prefetch;
mod probe;
mod rows;
mod scatter;

pub use buffer::Buffer;
pub use dots::{HeadVectors, gather_dots, gather_leaky_dots};
pub use gather::{gather_max, gather_sum, gather_weighted};
pub use int8::quantize_row;
pub use mapped::MappedFile;
pub use matmul::matmul_transposed;
pub use probe::{read_sum, touch_rows};
pub use rows::Rows;
pub use scatter::{Readers, scatter_stride, scatter_sum};
