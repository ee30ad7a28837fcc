//! pintle-runtime-plan.
