//! metav1: what every object carries, label selectors and conditions.

use crate::serve::proto::Field;
use crate::serve::proto::Repeat::{No, Yes, Zero};
use crate::serve::proto::Type::{Bool, Int, Json, Message, Text, TextMap, Time};

static META_OWNER_REFERENCE: &[Field] = &[
    Field(5, "apiVersion", Text, No),
    Field(1, "kind", Text, No),
    Field(3, "name", Text, No),
    Field(4, "uid", Text, No),
    Field(6, "controller", Bool, No),
    Field(7, "blockOwnerDeletion", Bool, No),
];

static META_MANAGED_FIELDS_ENTRY: &[Field] = &[
    Field(1, "manager", Text, No),
    Field(2, "operation", Text, No),
    Field(3, "apiVersion", Text, No),
    Field(4, "time", Time, No),
    Field(6, "fieldsType", Text, No),
    Field(7, "fieldsV1", Json, No),
    Field(8, "subresource", Text, No),
];

pub(super) static META_OBJECT_META: &[Field] = &[
    Field(1, "name", Text, No),
    Field(2, "generateName", Text, No),
    Field(3, "namespace", Text, No),
    Field(4, "selfLink", Text, No),
    Field(5, "uid", Text, No),
    Field(6, "resourceVersion", Text, No),
    Field(7, "generation", Int, Zero),
    Field(8, "creationTimestamp", Time, No),
    Field(9, "deletionTimestamp", Time, No),
    Field(10, "deletionGracePeriodSeconds", Int, No),
    Field(11, "labels", TextMap, No),
    Field(12, "annotations", TextMap, No),
    Field(13, "ownerReferences", Message(META_OWNER_REFERENCE), Yes),
    Field(14, "finalizers", Text, Yes),
    Field(17, "managedFields", Message(META_MANAGED_FIELDS_ENTRY), Yes),
];

static META_LABEL_SELECTOR_REQUIREMENT: &[Field] =
    &[Field(1, "key", Text, No), Field(2, "operator", Text, No), Field(3, "values", Text, Yes)];

pub(super) static META_LABEL_SELECTOR: &[Field] = &[
    Field(1, "matchLabels", TextMap, No),
    Field(2, "matchExpressions", Message(META_LABEL_SELECTOR_REQUIREMENT), Yes),
];

pub(super) static META_CONDITION: &[Field] = &[
    Field(1, "type", Text, No),
    Field(2, "status", Text, No),
    Field(3, "observedGeneration", Int, Zero),
    Field(4, "lastTransitionTime", Time, No),
    Field(5, "reason", Text, No),
    Field(6, "message", Text, No),
];
