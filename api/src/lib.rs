//! Words of the Kubernetes API that k8s-openapi does not carry: field errors, selectors, quantities, patches, Status.
//!
//! Owns: pure types and functions over API objects. Does not own: I/O, clocks, randomness, any decision of a component.

pub mod apply;
pub mod decode;
pub mod field;
pub mod intstr;
pub mod lenient;
pub mod metadata;
pub mod name;
pub mod owner;
pub mod patch;
pub mod pod;
pub mod quantity;
pub mod selector;
pub mod status;
pub mod time;
