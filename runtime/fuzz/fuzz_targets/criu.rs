//! Any bytes as CRIU's answers and log.
#![no_main]

#[allow(dead_code)]
#[path = "../../tests/decoders/bytes.rs"]
mod bytes;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bytes::criu(data));
