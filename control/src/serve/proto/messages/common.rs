//! Small kinds of the core group and what several kinds refer to.

use super::meta::META_OBJECT_META;
use crate::serve::proto::Field;
use crate::serve::proto::Repeat::{No, Yes, Zero};
use crate::serve::proto::Type::{Bool, BytesMap, Int, Message, MicroTime, Text, TextMap, Time};

pub(super) static CORE_CONFIG_MAP: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(4, "immutable", Bool, No),
    Field(2, "data", TextMap, No),
    Field(3, "binaryData", BytesMap, No),
];

pub(super) static CORE_OBJECT_REFERENCE: &[Field] = &[
    Field(1, "kind", Text, No),
    Field(2, "namespace", Text, No),
    Field(3, "name", Text, No),
    Field(4, "uid", Text, No),
    Field(5, "apiVersion", Text, No),
    Field(6, "resourceVersion", Text, No),
    Field(7, "fieldPath", Text, No),
];

static CORE_EVENT_SOURCE: &[Field] = &[Field(1, "component", Text, No), Field(2, "host", Text, No)];

static CORE_EVENT_SERIES: &[Field] = &[Field(1, "count", Int, Zero), Field(2, "lastObservedTime", MicroTime, No)];

pub(super) static CORE_EVENT: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "involvedObject", Message(CORE_OBJECT_REFERENCE), No),
    Field(3, "reason", Text, No),
    Field(4, "message", Text, No),
    Field(5, "source", Message(CORE_EVENT_SOURCE), No),
    Field(6, "firstTimestamp", Time, No),
    Field(7, "lastTimestamp", Time, No),
    Field(8, "count", Int, Zero),
    Field(9, "type", Text, No),
    Field(10, "eventTime", MicroTime, No),
    Field(11, "series", Message(CORE_EVENT_SERIES), No),
    Field(12, "action", Text, No),
    Field(13, "related", Message(CORE_OBJECT_REFERENCE), No),
    Field(14, "reportingComponent", Text, No),
    Field(15, "reportingInstance", Text, No),
];

static CORE_NAMESPACE_SPEC: &[Field] = &[Field(1, "finalizers", Text, Yes)];

static CORE_NAMESPACE_CONDITION: &[Field] = &[
    Field(1, "type", Text, No),
    Field(2, "status", Text, No),
    Field(4, "lastTransitionTime", Time, No),
    Field(5, "reason", Text, No),
    Field(6, "message", Text, No),
];

static CORE_NAMESPACE_STATUS: &[Field] =
    &[Field(1, "phase", Text, No), Field(2, "conditions", Message(CORE_NAMESPACE_CONDITION), Yes)];

pub(super) static CORE_NAMESPACE: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "spec", Message(CORE_NAMESPACE_SPEC), No),
    Field(3, "status", Message(CORE_NAMESPACE_STATUS), No),
];

pub(super) static CORE_LOCAL_OBJECT_REFERENCE: &[Field] = &[Field(1, "name", Text, No)];

pub(super) static CORE_SECRET: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(5, "immutable", Bool, No),
    Field(2, "data", BytesMap, No),
    Field(4, "stringData", TextMap, No),
    Field(3, "type", Text, No),
];

pub(super) static CORE_SERVICE_ACCOUNT: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "secrets", Message(CORE_OBJECT_REFERENCE), Yes),
    Field(3, "imagePullSecrets", Message(CORE_LOCAL_OBJECT_REFERENCE), Yes),
    Field(4, "automountServiceAccountToken", Bool, No),
];
