//! Configuration files from anybody: every one is read or told what is wrong with it, none makes bief panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bief_fuzz::checks::config(bytes));
