//! Any bytes as a datagram of the kernel's.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pintle_net::nfnetlink::garbage::read(data));
