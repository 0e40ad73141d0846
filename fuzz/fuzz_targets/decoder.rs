//! Records from a hostile producer: the decoder neither panics nor lets one record change another's rows.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bief_fuzz::checks::decoder(bytes));
