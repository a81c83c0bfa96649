#![expect(
    unsafe_code,
    reason = "the prefetch instruction is behind an unsafe intrinsic: see the block"
)]

/// Asks for every cache line of `values`, into the second cache: more lines can be on their way to it than to the
/// first. Nothing on processors without such an instruction.
#[inline]
pub(crate) fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        const LINE_BYTES: usize = 64;
        let start = values.as_ptr().cast::<i8>();
        let bytes = size_of_val(values);
        // SAFETY: a prefetch reads nothing that the program can see and never faults; the address is inside `values`
        // all the same. SSE is part of every x86-64.
        let ask = |offset: usize| unsafe { _mm_prefetch(start.add(offset), _MM_HINT_T1) };
        (0..bytes).step_by(LINE_BYTES).for_each(ask);
        // The last byte may lie in a line of its own, where the first does not begin one.
        bytes.checked_sub(1).map(ask);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// Rows ahead of the one being read whose cache lines are asked for, about 16 KiB of them; a row at rest has `row_bytes`.
/// Random rows are far apart, the processor cannot guess the next, and it takes as many at a time to keep the memory busy.
#[inline]
pub(crate) fn rows_ahead(row_bytes: usize) -> usize {
    match row_bytes {
        ..=512 => 32,
        513..=1024 => 16,
        _ => 8,
    }
}
