//! pintle-client.
