//! `cargo fuzz run --features libfuzzer scan`: see `rootwatch_fuzz::scan`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    rootwatch_fuzz::scan(bytes);
});
