//! The numeric kernels, and files as they are mapped and replaced.
//!
//! This is the only crate with `unsafe` code: it maps files and outlives their truncation, calls the matrix product of the `gemm-f32` crate,
//! prefetches, and works on many values at once by the processor's own instructions. Everything here works on plain slices and files; nothing knows graphs or models.

mod buffer;
mod dispatch;
mod dots;
mod element;
mod gather;
mod instructions;
mod int8;
mod mapped;
mod matmul;
mod new_file;
mod prefetch;
mod probe;
mod rows;
mod scatter;
mod write_lock;

pub use buffer::Buffer;
pub use dots::{HeadVectors, gather_dots, gather_leaky_dots};
pub use gather::{gather_max, gather_sum, gather_weighted};
pub use int8::quantize_row;
pub use mapped::{Loss, LostFile, MappedFile, while_whole};
pub use matmul::matmul_transposed;
pub use new_file::NewFile;
pub use probe::{read_sum, touch_rows};
pub use rows::Rows;
pub use scatter::{Readers, scatter_stride, scatter_sum};
pub use write_lock::WriteLock;
