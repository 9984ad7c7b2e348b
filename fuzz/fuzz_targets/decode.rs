//! `cargo fuzz run --features libfuzzer decode`: see `rootwatch_fuzz::decode`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    rootwatch_fuzz::decode(bytes);
});
