//! Any bytes as a frame of the kubelet's.
#![no_main]

#[allow(dead_code)]
#[path = "../../tests/decoders/bytes.rs"]
mod bytes;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bytes::shim(data));
