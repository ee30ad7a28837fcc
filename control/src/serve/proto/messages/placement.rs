//! Where a pod may run: affinities, tolerations, spreading.

use super::meta::META_LABEL_SELECTOR;
use crate::serve::proto::Field;
use crate::serve::proto::Repeat::{No, Yes};
use crate::serve::proto::Type::{Int, Message, Text};

static CORE_NODE_SELECTOR_REQUIREMENT: &[Field] =
    &[Field(1, "key", Text, No), Field(2, "operator", Text, No), Field(3, "values", Text, Yes)];

static CORE_NODE_SELECTOR_TERM: &[Field] = &[
    Field(1, "matchExpressions", Message(CORE_NODE_SELECTOR_REQUIREMENT), Yes),
    Field(2, "matchFields", Message(CORE_NODE_SELECTOR_REQUIREMENT), Yes),
];

static CORE_NODE_SELECTOR: &[Field] = &[Field(1, "nodeSelectorTerms", Message(CORE_NODE_SELECTOR_TERM), Yes)];

static CORE_PREFERRED_SCHEDULING_TERM: &[Field] =
    &[Field(1, "weight", Int, No), Field(2, "preference", Message(CORE_NODE_SELECTOR_TERM), No)];

static CORE_NODE_AFFINITY: &[Field] = &[
    Field(1, "requiredDuringSchedulingIgnoredDuringExecution", Message(CORE_NODE_SELECTOR), No),
    Field(2, "preferredDuringSchedulingIgnoredDuringExecution", Message(CORE_PREFERRED_SCHEDULING_TERM), Yes),
];

static CORE_POD_AFFINITY_TERM: &[Field] = &[
    Field(1, "labelSelector", Message(META_LABEL_SELECTOR), No),
    Field(2, "namespaces", Text, Yes),
    Field(3, "topologyKey", Text, No),
    Field(4, "namespaceSelector", Message(META_LABEL_SELECTOR), No),
    Field(5, "matchLabelKeys", Text, Yes),
    Field(6, "mismatchLabelKeys", Text, Yes),
];

static CORE_WEIGHTED_POD_AFFINITY_TERM: &[Field] =
    &[Field(1, "weight", Int, No), Field(2, "podAffinityTerm", Message(CORE_POD_AFFINITY_TERM), No)];

static CORE_POD_AFFINITY: &[Field] = &[
    Field(1, "requiredDuringSchedulingIgnoredDuringExecution", Message(CORE_POD_AFFINITY_TERM), Yes),
    Field(2, "preferredDuringSchedulingIgnoredDuringExecution", Message(CORE_WEIGHTED_POD_AFFINITY_TERM), Yes),
];

static CORE_POD_ANTI_AFFINITY: &[Field] = &[
    Field(1, "requiredDuringSchedulingIgnoredDuringExecution", Message(CORE_POD_AFFINITY_TERM), Yes),
    Field(2, "preferredDuringSchedulingIgnoredDuringExecution", Message(CORE_WEIGHTED_POD_AFFINITY_TERM), Yes),
];

pub(super) static CORE_AFFINITY: &[Field] = &[
    Field(1, "nodeAffinity", Message(CORE_NODE_AFFINITY), No),
    Field(2, "podAffinity", Message(CORE_POD_AFFINITY), No),
    Field(3, "podAntiAffinity", Message(CORE_POD_ANTI_AFFINITY), No),
];

pub(super) static CORE_TOLERATION: &[Field] = &[
    Field(1, "key", Text, No),
    Field(2, "operator", Text, No),
    Field(3, "value", Text, No),
    Field(4, "effect", Text, No),
    Field(5, "tolerationSeconds", Int, No),
];

pub(super) static CORE_TOPOLOGY_SPREAD_CONSTRAINT: &[Field] = &[
    Field(1, "maxSkew", Int, No),
    Field(2, "topologyKey", Text, No),
    Field(3, "whenUnsatisfiable", Text, No),
    Field(4, "labelSelector", Message(META_LABEL_SELECTOR), No),
    Field(5, "minDomains", Int, No),
    Field(6, "nodeAffinityPolicy", Text, No),
    Field(7, "nodeTaintsPolicy", Text, No),
    Field(8, "matchLabelKeys", Text, Yes),
];
