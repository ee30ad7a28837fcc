//! Any bytes as a message of systemd's or the bus's.
#![no_main]

#[allow(dead_code)]
#[path = "../../tests/decoders/bytes.rs"]
mod bytes;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bytes::dbus(data));
