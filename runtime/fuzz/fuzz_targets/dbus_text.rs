//! Any bytes as an annotation that names a unit's property.
#![no_main]

#[allow(dead_code)]
#[path = "../../tests/decoders/bytes.rs"]
mod bytes;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bytes::dbus_text(data));
