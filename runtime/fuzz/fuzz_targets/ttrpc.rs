//! Any bytes as what containerd sends.
#![no_main]

#[allow(dead_code)]
#[path = "../../tests/decoders/bytes.rs"]
mod bytes;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bytes::ttrpc(data));
