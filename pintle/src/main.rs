//! pintle.
fn main() {}
