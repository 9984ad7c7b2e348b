//! `cargo fuzz run --features libfuzzer inflate`: see `rootwatch_fuzz::inflate`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    rootwatch_fuzz::inflate(bytes);
});
