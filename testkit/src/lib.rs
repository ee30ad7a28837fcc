//! pintle-testkit.
