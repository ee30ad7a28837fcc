//! The pod-template hash: FNV-1a, 32 bits, written in letters that spell no words.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde::Serialize;

/// Letters of the hash; the set Kubernetes uses for generated suffixes.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Hash of a pod template and the number of collisions met so far, e.g. `7c5ddbdf54`.
pub fn template(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    of(template, collisions)
}

/// Hash of anything that encodes; the encoding has one order (struct fields, sorted maps), so it is stable.
pub fn of<T: Serialize>(value: &T, collisions: Option<i32>) -> String {
    let bytes = serde_json::to_vec(value).expect("API objects encode as JSON");
    let mut hash = fnv32a(0x811c_9dc5, &bytes);
    if let Some(n) = collisions {
        hash = fnv32a(hash, &n.to_le_bytes());
    }
    letters(hash)
}

fn fnv32a(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193))
}

fn letters(hash: u32) -> String {
    hash.to_string().bytes().map(|b| char::from(LETTERS[usize::from(b) % LETTERS.len()])).collect()
}
