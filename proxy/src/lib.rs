//! pintle-proxy.
