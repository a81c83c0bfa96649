#![expect(
    unsafe_code,
    reason = "the prefetch instruction is behind an unsafe intrinsic: see the block"
)]

/// Asks for every cache line of `values`; nothing on processors without such an instruction.
#[inline]
pub(crate) fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        const LINE_BYTES: usize = 64;
        let start = values.as_ptr().cast::<i8>();
        for offset in (0..size_of_val(values)).step_by(LINE_BYTES) {
            // SAFETY: a prefetch reads nothing that the program can see and never faults; the
            // address is inside `values` all the same. SSE is part of every x86-64.
            unsafe { _mm_prefetch(start.add(offset), _MM_HINT_T0) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}
