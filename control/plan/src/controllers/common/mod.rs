//! What several controllers need: owners, labels, pods, conditions, hashes.

pub mod backends;
pub mod claim;
pub mod conditions;
pub mod hash;
pub mod labels;
pub mod meta;
pub mod pods;
pub mod template;
