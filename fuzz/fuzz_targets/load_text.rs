//! Rows of any values: what LOAD DATA reads back is what was written.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    bief_fuzz::checks::load_text(bytes);
});
