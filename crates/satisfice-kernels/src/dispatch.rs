/// Functions `NAME(data: &[ELEMENT], ...)` that call `BODY(data, instructions, ...)`, each with one compiled version for
/// each instruction set, chosen when first called. The body must be inlined into them.
macro_rules! dispatched {
    ($($name:ident = $body:ident<$element:ty>($($argument:ident: $type:ty),* $(,)?);)*) => {$(
        #[multiversion::multiversion(targets(
            "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma+f16c+bmi2",
            "x86_64+avx2+fma+f16c+bmi2",
            "aarch64+neon",
        ))]
        #[allow(unsafe_code, reason = "what says which instructions there are is made by an unsafe function")]
        fn $name(data: &[$element], $($argument: $type),*) {
            multiversion::target::match_target! {
                // SAFETY: this version runs where the processor has AVX-512F.
                "x86_64+avx512f" => $body(
                    data,
                    unsafe { $crate::instructions::Avx512::new() },
                    $($argument),*
                ),
                // SAFETY: this version runs where the processor has AVX2, FMA and F16C.
                "x86_64+avx2+fma+f16c" => $body(
                    data,
                    unsafe { $crate::instructions::Avx2::new() },
                    $($argument),*
                ),
                _ => $body(data, $crate::instructions::Portable, $($argument),*),
            }
        }
    )*};
}

pub(crate) use dispatched;
