//! pintle-proxy-plan.
