#![expect(
    unsafe_code,
    reason = "the processor's own instructions are behind unsafe intrinsics: see the blocks"
)]
#![expect(
    clippy::inline_always,
    reason = "an operation must be inlined into each dispatched version to be compiled for its instruction set"
)]

use half::f16;

/// Values that are worked on at once: as many as one register of AVX-512 holds.
pub(crate) const CHUNK: usize = 16;

/// Operations on [`CHUNK`] values at once, by the instruction set that a body is compiled for. Whoever holds a value of it
/// may use it.
///
/// Left to itself, the compiler makes gathers and scatters of the loops over chunks.
pub(crate) trait Instructions: Copy {
    /// [`CHUNK`] values.
    type Wide: Copy;

    fn splat(self, value: f32) -> Self::Wide;
    fn load(self, values: &[f32; CHUNK]) -> Self::Wide;
    fn store(self, wide: Self::Wide, to: &mut [f32; CHUNK]);
    fn add(self, a: Self::Wide, b: Self::Wide) -> Self::Wide;
    fn multiply(self, a: Self::Wide, b: Self::Wide) -> Self::Wide;
    /// `a · b + c`, rounded once or twice.
    fn multiply_add(self, a: Self::Wide, b: Self::Wide, c: Self::Wide) -> Self::Wide;
    fn max(self, a: Self::Wide, b: Self::Wide) -> Self::Wide;
    /// The sum of all values: of the first half and the second, then of the halves of that, and so on.
    fn sum(self, wide: Self::Wide) -> f32;
    /// The halves, exactly, whatever finite values they are.
    fn widen_halves(self, halves: &[f16; CHUNK]) -> Self::Wide;
    fn widen_bytes(self, bytes: &[i8; CHUNK]) -> Self::Wide;
}

/// Nothing of its own: what the compiler makes of plain operations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

/// An operation on each pair of values.
#[inline(always)]
fn each(mut a: [f32; CHUNK], b: [f32; CHUNK], operation: impl Fn(f32, f32) -> f32) -> [f32; CHUNK] {
    for (a, b) in a.iter_mut().zip(b) {
        *a = operation(*a, b);
    }
    a
}

impl Instructions for Portable {
    type Wide = [f32; CHUNK];

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Wide {
        [value; CHUNK]
    }

    #[inline(always)]
    fn load(self, values: &[f32; CHUNK]) -> Self::Wide {
        *values
    }

    #[inline(always)]
    fn store(self, wide: Self::Wide, to: &mut [f32; CHUNK]) {
        *to = wide;
    }

    #[inline(always)]
    fn add(self, a: Self::Wide, b: Self::Wide) -> Self::Wide {
        each(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn multiply(self, a: Self::Wide, b: Self::Wide) -> Self::Wide {
        each(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn multiply_add(self, a: Self::Wide, b: Self::Wide, c: Self::Wide) -> Self::Wide {
        self.add(self.multiply(a, b), c)
    }

    #[inline(always)]
    fn max(self, a: Self::Wide, b: Self::Wide) -> Self::Wide {
        each(a, b, f32::max)
    }

    #[inline(always)]
    fn sum(self, mut wide: Self::Wide) -> f32 {
        let mut half = CHUNK / 2;
        while half > 0 {
            let (first, second) = wide.split_at_mut(half);
            first.iter_mut().zip(second).for_each(|(a, b)| *a += *b);
            half /= 2;
        }
        wide[0]
    }

    #[inline(always)]
    fn widen_halves(self, halves: &[f16; CHUNK]) -> Self::Wide {
        halves.map(widen_half)
    }

    #[inline(always)]
    fn widen_bytes(self, bytes: &[i8; CHUNK]) -> Self::Wide {
        bytes.map(f32::from)
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
    use std::arch::x86_64 as arch;

    /// AVX2 with FMA and F16C.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Avx2(());

    /// The foundation of AVX-512.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Avx512(());

    impl Avx2 {
        /// # Safety
        /// The processor has AVX2, FMA and F16C.
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

    // SAFETY of every block below: that `self` is there says that the processor has the instructions. Pointers are to
    // arrays of as many bytes as are read or written, and loads and stores are the unaligned ones.

    impl Instructions for Avx2 {
        type Wide = [arch::__m256; 2];

        #[inline(always)]
        fn splat(self, value: f32) -> Self::Wide {
            // SAFETY: see above.
            unsafe { [arch::_mm256_set1_ps(value); 2] }
        }

        #[inline(always)]
        fn load(self, values: &[f32; CHUNK]) -> Self::Wide {
            let at = values.as_ptr();
            // SAFETY: see above.
            unsafe { [arch::_mm256_loadu_ps(at), arch::_mm256_loadu_ps(at.add(8))] }
        }

        #[inline(always)]
        fn store(self, [low, high]: Self::Wide, to: &mut [f32; CHUNK]) {
            let at = to.as_mut_ptr();
            // SAFETY: see above.
            unsafe {
                arch::_mm256_storeu_ps(at, low);
                arch::_mm256_storeu_ps(at.add(8), high);
            }
        }

        #[inline(always)]
        fn add(self, a: Self::Wide, b: Self::Wide) -> Self::Wide {
            // SAFETY: see above.
            unsafe {
                [
                    arch::_mm256_add_ps(a[0], b[0]),
                    arch::_mm256_add_ps(a[1], b[1]),
                ]
            }
        }

        #[inline(always)]
        fn multiply(self, a: Self::Wide, b: Self::Wide) -> Self::Wide {
            // SAFETY: see above.
            unsafe {
                [
                    arch::_mm256_mul_ps(a[0], b[0]),
                    arch::_mm256_mul_ps(a[1], b[1]),
                ]
            }
        }

        #[inline(always)]
        fn multiply_add(self, a: Self::Wide, b: Self::Wide, c: Self::Wide) -> Self::Wide {
            // SAFETY: see above.
            unsafe {
                [
                    arch::_mm256_fmadd_ps(a[0], b[0], c[0]),
                    arch::_mm256_fmadd_ps(a[1], b[1], c[1]),
                ]
            }
        }

        #[inline(always)]
        fn max(self, a: Self::Wide, b: Self::Wide) -> Self::Wide {
            // SAFETY: see above.
            unsafe {
                [
                    arch::_mm256_max_ps(a[0], b[0]),
                    arch::_mm256_max_ps(a[1], b[1]),
                ]
            }
        }

        #[inline(always)]
        fn sum(self, [low, high]: Self::Wide) -> f32 {
            // SAFETY: see above.
            unsafe {
                let eight = arch::_mm256_add_ps(low, high);
                let high = arch::_mm256_extractf128_ps::<1>(eight);
                let four = arch::_mm_add_ps(arch::_mm256_castps256_ps128(eight), high);
                let two = arch::_mm_add_ps(four, arch::_mm_movehl_ps(four, four));
                arch::_mm_cvtss_f32(arch::_mm_add_ss(two, arch::_mm_movehdup_ps(two)))
            }
        }

        #[inline(always)]
        fn widen_halves(self, halves: &[f16; CHUNK]) -> Self::Wide {
            let at = halves.as_ptr();
            // SAFETY: see above.
            unsafe {
                [
                    arch::_mm256_cvtph_ps(arch::_mm_loadu_si128(at.cast())),
                    arch::_mm256_cvtph_ps(arch::_mm_loadu_si128(at.add(8).cast())),
                ]
            }
        }

        #[inline(always)]
        fn widen_bytes(self, bytes: &[i8; CHUNK]) -> Self::Wide {
            // SAFETY: see above.
            unsafe {
                let bytes = arch::_mm_loadu_si128(bytes.as_ptr().cast());
                let high = arch::_mm_unpackhi_epi64(bytes, bytes);
                [
                    arch::_mm256_cvtepi32_ps(arch::_mm256_cvtepi8_epi32(bytes)),
                    arch::_mm256_cvtepi32_ps(arch::_mm256_cvtepi8_epi32(high)),
                ]
            }
        }
    }

    impl Instructions for Avx512 {
        type Wide = arch::__m512;

        #[inline(always)]
        fn splat(self, value: f32) -> Self::Wide {
            // SAFETY: see above.
            unsafe { arch::_mm512_set1_ps(value) }
        }

        #[inline(always)]
        fn load(self, values: &[f32; CHUNK]) -> Self::Wide {
            // SAFETY: see above.
            unsafe { arch::_mm512_loadu_ps(values.as_ptr()) }
        }

        #[inline(always)]
        fn store(self, wide: Self::Wide, to: &mut [f32; CHUNK]) {
            // SAFETY: see above.
            unsafe { arch::_mm512_storeu_ps(to.as_mut_ptr(), wide) };
        }

        #[inline(always)]
        fn add(self, a: Self::Wide, b: Self::Wide) -> Self::Wide {
            // SAFETY: see above.
            unsafe { arch::_mm512_add_ps(a, b) }
        }

        #[inline(always)]
        fn multiply(self, a: Self::Wide, b: Self::Wide) -> Self::Wide {
            // SAFETY: see above.
            unsafe { arch::_mm512_mul_ps(a, b) }
        }

        #[inline(always)]
        fn multiply_add(self, a: Self::Wide, b: Self::Wide, c: Self::Wide) -> Self::Wide {
            // SAFETY: see above.
            unsafe { arch::_mm512_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn max(self, a: Self::Wide, b: Self::Wide) -> Self::Wide {
            // SAFETY: see above.
            unsafe { arch::_mm512_max_ps(a, b) }
        }

        #[inline(always)]
        fn sum(self, wide: Self::Wide) -> f32 {
            // SAFETY: see above.
            unsafe { arch::_mm512_reduce_add_ps(wide) }
        }

        #[inline(always)]
        fn widen_halves(self, halves: &[f16; CHUNK]) -> Self::Wide {
            // SAFETY: see above.
            unsafe { arch::_mm512_cvtph_ps(arch::_mm256_loadu_si256(halves.as_ptr().cast())) }
        }

        #[inline(always)]
        fn widen_bytes(self, bytes: &[i8; CHUNK]) -> Self::Wide {
            // SAFETY: see above.
            unsafe {
                let bytes = arch::_mm_loadu_si128(bytes.as_ptr().cast());
                arch::_mm512_cvtepi32_ps(arch::_mm512_cvtepi8_epi32(bytes))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the operations make of every half, every byte and of some values, end to end.
    #[inline(always)]
    fn everything(instructions: impl Instructions) -> Vec<f32> {
        let mut found = Vec::new();
        let mut keep = |wide| {
            let mut values = [0.0; CHUNK];
            instructions.store(wide, &mut values);
            found.extend(values);
        };
        let halves: Vec<f16> = (0..=u16::MAX)
            .map(f16::from_bits)
            .filter(|h| h.is_finite())
            .collect();
        for halves in halves.as_chunks().0 {
            keep(instructions.widen_halves(halves));
        }
        let bytes: Vec<i8> = (i8::MIN..=i8::MAX).collect();
        for bytes in bytes.as_chunks().0 {
            keep(instructions.widen_bytes(bytes));
        }
        let values =
            |from: f32| instructions.load(&std::array::from_fn(|at| at as f32 * 0.5 + from));
        let (a, b, c) = (values(-3.0), values(2.0), instructions.splat(1.25));
        keep(instructions.add(a, b));
        keep(instructions.multiply(a, b));
        keep(instructions.multiply_add(a, b, c));
        keep(instructions.max(a, c));
        let uneven = std::array::from_fn(|at| 1.0 / (at as f32 + 3.0));
        found.push(instructions.sum(instructions.load(&uneven)));
        found
    }

    #[test]
    fn every_instruction_set_gives_the_same_and_halves_and_bytes_exactly() {
        let wanted = everything(Portable);
        let halves = (0..=u16::MAX).map(f16::from_bits).filter(|h| h.is_finite());
        let exact = halves
            .map(f16::to_f32)
            .chain((i8::MIN..=i8::MAX).map(f32::from));
        for (found, exact) in wanted.iter().zip(exact) {
            assert_eq!(found.to_bits(), exact.to_bits(), "{exact}");
        }
        #[cfg(target_arch = "x86_64")]
        {
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            let wanted = bits(wanted);
            if ["avx2", "fma", "f16c"].iter().all(|feature| has(feature)) {
                // SAFETY: the processor has them, as has just been asked.
                assert!(wanted == bits(everything(unsafe { Avx2::new() })), "AVX2");
            }
            if has("avx512f") {
                // SAFETY: the processor has it, as has just been asked.
                assert!(
                    wanted == bits(everything(unsafe { Avx512::new() })),
                    "AVX-512"
                );
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn has(feature: &str) -> bool {
        match feature {
            "avx2" => std::arch::is_x86_feature_detected!("avx2"),
            "fma" => std::arch::is_x86_feature_detected!("fma"),
            "f16c" => std::arch::is_x86_feature_detected!("f16c"),
            _ => std::arch::is_x86_feature_detected!("avx512f"),
        }
    }
}
