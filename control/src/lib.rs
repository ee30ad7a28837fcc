//! pintle-control.
