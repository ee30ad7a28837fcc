//! pintle-kubelet.
