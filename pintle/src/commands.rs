//! The subcommands, one file each.

pub mod agent;
pub mod apiserver;
pub mod check;
pub mod completion;
pub mod controller_manager;
pub mod down;
pub mod image;
pub mod kubeconfig;
pub mod kubelet;
pub mod man;
pub mod proxy;
pub mod scheduler;
pub mod server;
pub mod token;
pub mod up;
pub mod version;
