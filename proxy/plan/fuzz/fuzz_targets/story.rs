//! Any bytes as a configuration, API objects and the order in which they come and go.
#![no_main]

#[path = "../../tests/bytes/mod.rs"]
mod bytes;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bytes::happen(data));
