//! pintle-sys.
