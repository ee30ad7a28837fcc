//! pintle-kubelet-plan.
