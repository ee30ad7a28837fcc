//! Owner references.
//!
//! Owns: finding the controller of an object and making references. Does not own: garbage collection.

use k8s_openapi::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The one reference with `controller: true`.
pub fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether `uid` controls the object.
pub fn is_controlled_by(metadata: &ObjectMeta, uid: &str) -> bool {
    controller(metadata).is_some_and(|owner| owner.uid == uid)
}

/// A controlling, deletion-blocking reference to an object of type `T` with that metadata.
pub fn controller_reference<T: Resource>(owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: T::API_VERSION.to_owned(),
        kind: T::KIND.to_owned(),
        name: owner.name.clone().unwrap_or_default(),
        uid: owner.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::ReplicaSet;

    #[test]
    fn only_the_controlling_reference_controls() {
        let owner = ObjectMeta { name: Some("rs".into()), uid: Some("u1".into()), ..ObjectMeta::default() };
        let reference = controller_reference::<ReplicaSet>(&owner);
        let plain = OwnerReference { uid: "u2".into(), ..OwnerReference::default() };
        let pod = ObjectMeta { owner_references: Some(vec![plain, reference]), ..ObjectMeta::default() };
        assert!(is_controlled_by(&pod, "u1"));
        assert!(!is_controlled_by(&pod, "u2"));
    }
}
