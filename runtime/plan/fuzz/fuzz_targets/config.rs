//! Any bytes as config.json and process.json: parsing, checking and planning come to an end without a panic.
#![no_main]

#[path = "../../tests/bytes/mod.rs"]
mod bytes;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bytes::decide(data));
