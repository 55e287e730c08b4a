#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| edgefold_format_tests::fuzzed::open_anything(bytes));
