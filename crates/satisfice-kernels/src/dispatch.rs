/// Functions `NAME(data: &[ELEMENT], ...)` that call `BODY(data, ...)`, each with one compiled version for each
/// instruction set, chosen when first called. The body must be inlined into them.
macro_rules! dispatched {
    ($($name:ident = $body:ident<$element:ty>($($argument:ident: $type:ty),* $(,)?);)*) => {$(
        #[multiversion::multiversion(targets(
            "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma+f16c+bmi2",
            "x86_64+avx2+fma+f16c+bmi2",
            "aarch64+neon",
        ))]
        fn $name(data: &[$element], $($argument: $type),*) {
            $body(data, $($argument),*);
        }
    )*};
}

pub(crate) use dispatched;
