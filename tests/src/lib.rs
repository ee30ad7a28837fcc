//! pintle-tests.
