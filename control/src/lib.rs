//! The control plane's edge: API server, controllers and scheduler around the plans of `control/plan`.

pub mod controllers;
pub mod pki;
pub mod scheduler;
