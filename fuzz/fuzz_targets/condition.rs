//! Conditions from anybody: every one is answered or refused, none takes for ever, none makes bief panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bief_fuzz::checks::condition(bytes));
