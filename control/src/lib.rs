//! The control plane's edge: API server, controllers and scheduler around the plans of `control/plan`.

pub mod admission;
pub mod apiserver;
pub mod auth;
pub mod controllers;
pub mod pki;
pub mod scheduler;
pub mod serve;
