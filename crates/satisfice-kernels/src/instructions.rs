#![expect(
    unsafe_code,
    reason = "the processor's own conversions are behind unsafe intrinsics: see the blocks"
)]
#![expect(
    clippy::inline_always,
    reason = "a conversion must be inlined into each dispatched version to be compiled for its instruction set"
)]

use half::f16;

/// Values that are widened and added at once: as many as one register of AVX-512 holds.
pub(crate) const CHUNK: usize = 16;

/// What the instruction set that a body is compiled for has of its own. Whoever holds a value may use it.
pub(crate) trait Instructions: Copy {
    /// The halves as f32, exactly, whatever finite values they are.
    fn widen_halves(self, halves: &[f16; CHUNK]) -> [f32; CHUNK];
}

/// Nothing of its own: what the compiler makes of plain operations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

impl Instructions for Portable {
    #[inline(always)]
    fn widen_halves(self, halves: &[f16; CHUNK]) -> [f32; CHUNK] {
        halves.map(widen_half)
    }
}

/// Shifts the half's exponent and mantissa into place and rescales: three operations that vectorise everywhere,
/// and treat subnormals right. Exact for every finite value; rows at rest are finite.
#[inline(always)]
pub(crate) fn widen_half(half: f16) -> f32 {
    let bits = u32::from(half.to_bits());
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    f32::from_bits(magnitude.to_bits() | ((bits & 0x8000) << 16))
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CHUNK, Instructions};
    use half::f16;
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_loadu_si128, _mm256_cvtph_ps, _mm256_loadu_si256, _mm256_storeu_ps,
        _mm512_cvtph_ps, _mm512_storeu_ps,
    };

    /// AVX2 with F16C.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Avx2(());

    /// The foundation of AVX-512.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Avx512(());

    impl Avx2 {
        /// # Safety
        /// The processor has AVX2 and F16C.
        #[inline(always)]
        pub(crate) unsafe fn new() -> Self {
            Self(())
        }
    }

    impl Avx512 {
        /// # Safety
        /// The processor has AVX-512F.
        #[inline(always)]
        pub(crate) unsafe fn new() -> Self {
            Self(())
        }
    }

    impl Instructions for Avx2 {
        #[inline(always)]
        fn widen_halves(self, halves: &[f16; CHUNK]) -> [f32; CHUNK] {
            let mut wide = [0.0_f32; CHUNK];
            let (halves, to) = (halves.as_ptr().cast::<__m128i>(), wide.as_mut_ptr());
            // SAFETY: that `self` is there says that the processor has F16C. `halves` are two times 128 bits and
            // `wide` two times 256; loads and stores are the unaligned ones.
            unsafe {
                _mm256_storeu_ps(to, _mm256_cvtph_ps(_mm_loadu_si128(halves)));
                _mm256_storeu_ps(to.add(8), _mm256_cvtph_ps(_mm_loadu_si128(halves.add(1))));
            }
            wide
        }
    }

    impl Instructions for Avx512 {
        #[inline(always)]
        fn widen_halves(self, halves: &[f16; CHUNK]) -> [f32; CHUNK] {
            let mut wide = [0.0_f32; CHUNK];
            let halves = halves.as_ptr().cast::<__m256i>();
            // SAFETY: that `self` is there says that the processor has AVX-512F, which converts. `halves` are 256
            // bits and `wide` 512; load and store are the unaligned ones.
            unsafe {
                _mm512_storeu_ps(
                    wide.as_mut_ptr(),
                    _mm512_cvtph_ps(_mm256_loadu_si256(halves)),
                )
            };
            wide
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::dispatched;

    #[inline(always)]
    fn widen(halves: &[f16], instructions: impl Instructions, wide: &mut [f32]) {
        let (halves, _) = halves.as_chunks();
        for (halves, wide) in halves.iter().zip(wide.as_chunks_mut::<CHUNK>().0) {
            *wide = instructions.widen_halves(halves);
        }
    }

    dispatched! {
        widen_all = widen<f16>(wide: &mut [f32]);
    }

    #[test]
    fn every_finite_half_is_widened_exactly_by_every_instruction_set() {
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let (mut portable, mut best) = (vec![0.0; halves.len()], vec![0.0; halves.len()]);
        widen(&halves, Portable, &mut portable);
        widen_all(&halves, &mut best);
        let mut found = vec![portable, best];
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("f16c")
            && std::arch::is_x86_feature_detected!("avx2")
        {
            let mut wide = vec![0.0; halves.len()];
            // SAFETY: the processor has both, as has just been asked.
            widen(&halves, unsafe { Avx2::new() }, &mut wide);
            found.push(wide);
        }
        for (at, half) in halves
            .iter()
            .enumerate()
            .filter(|(_, half)| half.is_finite())
        {
            for wide in &found {
                assert_eq!(wide[at].to_bits(), half.to_f32().to_bits(), "{half:?}");
            }
        }
    }
}
