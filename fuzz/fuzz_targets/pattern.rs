//! `cargo fuzz run --features libfuzzer pattern`: see `rootwatch_fuzz::pattern`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    rootwatch_fuzz::pattern(bytes);
});
