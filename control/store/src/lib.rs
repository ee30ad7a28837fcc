//! pintle-store.
