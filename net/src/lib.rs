//! pintle-net.
