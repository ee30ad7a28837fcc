//! Messages of what is asked and not stored: reviews, evictions, deletions, token requests.

use super::Repeat::{No, Yes};
use super::{Field, Type};

const OBJECT_META: &[Field] = &[
    Field(1, "name", Type::Text, No),
    Field(2, "generateName", Type::Text, No),
    Field(3, "namespace", Type::Text, No),
    Field(5, "uid", Type::Text, No),
    Field(6, "resourceVersion", Type::Text, No),
    Field(7, "generation", Type::Int, No),
    Field(8, "creationTimestamp", Type::Time, No),
    Field(9, "deletionTimestamp", Type::Time, No),
    Field(10, "deletionGracePeriodSeconds", Type::Int, No),
    Field(11, "labels", Type::TextMap, No),
    Field(12, "annotations", Type::TextMap, No),
    Field(14, "finalizers", Type::Text, Yes),
];

const PRECONDITIONS: &[Field] = &[Field(1, "uid", Type::Text, No), Field(2, "resourceVersion", Type::Text, No)];

const DELETE_OPTIONS: &[Field] = &[
    Field(1, "gracePeriodSeconds", Type::Int, No),
    Field(2, "preconditions", Type::Message(PRECONDITIONS), No),
    Field(3, "orphanDependents", Type::Bool, No),
    Field(4, "propagationPolicy", Type::Text, No),
    Field(5, "dryRun", Type::Text, Yes),
    Field(6, "ignoreStoreReadErrorWithClusterBreakingPotential", Type::Bool, No),
];

const EVICTION: &[Field] = &[
    Field(1, "metadata", Type::Message(OBJECT_META), No),
    Field(2, "deleteOptions", Type::Message(DELETE_OPTIONS), No),
];

const LABEL_REQUIREMENT: &[Field] =
    &[Field(1, "key", Type::Text, No), Field(2, "operator", Type::Text, No), Field(3, "values", Type::Text, Yes)];

const SELECTOR_ATTRIBUTES: &[Field] =
    &[Field(1, "rawSelector", Type::Text, No), Field(2, "requirements", Type::Message(LABEL_REQUIREMENT), Yes)];

const RESOURCE_ATTRIBUTES: &[Field] = &[
    Field(1, "namespace", Type::Text, No),
    Field(2, "verb", Type::Text, No),
    Field(3, "group", Type::Text, No),
    Field(4, "version", Type::Text, No),
    Field(5, "resource", Type::Text, No),
    Field(6, "subresource", Type::Text, No),
    Field(7, "name", Type::Text, No),
    Field(8, "fieldSelector", Type::Message(SELECTOR_ATTRIBUTES), No),
    Field(9, "labelSelector", Type::Message(SELECTOR_ATTRIBUTES), No),
];

const PATH_ATTRIBUTES: &[Field] = &[Field(1, "path", Type::Text, No), Field(2, "verb", Type::Text, No)];

const SELF_ACCESS_SPEC: &[Field] = &[
    Field(1, "resourceAttributes", Type::Message(RESOURCE_ATTRIBUTES), No),
    Field(2, "nonResourceAttributes", Type::Message(PATH_ATTRIBUTES), No),
];

const ACCESS_SPEC: &[Field] = &[
    Field(1, "resourceAttributes", Type::Message(RESOURCE_ATTRIBUTES), No),
    Field(2, "nonResourceAttributes", Type::Message(PATH_ATTRIBUTES), No),
    Field(3, "user", Type::Text, No),
    Field(4, "groups", Type::Text, Yes),
    Field(5, "extra", Type::TextListMap, No),
    Field(6, "uid", Type::Text, No),
];

const RULES_SPEC: &[Field] = &[Field(1, "namespace", Type::Text, No)];

const TOKEN_REVIEW_SPEC: &[Field] = &[Field(1, "token", Type::Text, No), Field(2, "audiences", Type::Text, Yes)];

const BOUND_OBJECT: &[Field] = &[
    Field(1, "kind", Type::Text, No),
    Field(2, "apiVersion", Type::Text, No),
    Field(3, "name", Type::Text, No),
    Field(4, "uid", Type::Text, No),
];

const TOKEN_SPEC: &[Field] = &[
    Field(1, "audiences", Type::Text, Yes),
    Field(3, "boundObjectRef", Type::Message(BOUND_OBJECT), No),
    Field(4, "expirationSeconds", Type::Int, No),
];

const fn with_spec(spec: &'static [Field]) -> [Field; 2] {
    [Field(1, "metadata", Type::Message(OBJECT_META), No), Field(2, "spec", Type::Message(spec), No)]
}

const SELF_SUBJECT_REVIEW: &[Field] = &[Field(1, "metadata", Type::Message(OBJECT_META), No)];
const SELF_ACCESS_REVIEW: [Field; 2] = with_spec(SELF_ACCESS_SPEC);
const ACCESS_REVIEW: [Field; 2] = with_spec(ACCESS_SPEC);
const RULES_REVIEW: [Field; 2] = with_spec(RULES_SPEC);
const TOKEN_REVIEW: [Field; 2] = with_spec(TOKEN_REVIEW_SPEC);
const TOKEN_REQUEST: [Field; 2] = with_spec(TOKEN_SPEC);

const SCALE_SPEC: &[Field] = &[Field(1, "replicas", Type::Int, No)];
const SCALE: [Field; 2] = with_spec(SCALE_SPEC);

const BINDING: &[Field] = &[
    Field(1, "metadata", Type::Message(OBJECT_META), No),
    Field(
        2,
        "target",
        Type::Message(&[
            Field(1, "kind", Type::Text, No),
            Field(2, "namespace", Type::Text, No),
            Field(3, "name", Type::Text, No),
            Field(4, "uid", Type::Text, No),
            Field(5, "apiVersion", Type::Text, No),
        ]),
        No,
    ),
];

/// The message of a kind, which is the same under any group (DeleteOptions come under all); None if it is not asked.
pub(super) fn of(kind: &str) -> Option<&'static [Field]> {
    Some(match kind {
        "DeleteOptions" => DELETE_OPTIONS,
        "Eviction" => EVICTION,
        "SelfSubjectReview" => SELF_SUBJECT_REVIEW,
        "SelfSubjectAccessReview" => &SELF_ACCESS_REVIEW,
        "SubjectAccessReview" | "LocalSubjectAccessReview" => &ACCESS_REVIEW,
        "SelfSubjectRulesReview" => &RULES_REVIEW,
        "TokenReview" => &TOKEN_REVIEW,
        "TokenRequest" => &TOKEN_REQUEST,
        "Scale" => &SCALE,
        "Binding" => BINDING,
        _ => return None,
    })
}
