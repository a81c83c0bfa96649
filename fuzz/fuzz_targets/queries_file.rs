#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| satisfice_fuzz::queries_file(data));
