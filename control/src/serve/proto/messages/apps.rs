//! apps/v1.

use super::meta::{META_LABEL_SELECTOR, META_OBJECT_META};
use super::pod::CORE_POD_TEMPLATE_SPEC;
use crate::serve::proto::Field;
use crate::serve::proto::Repeat::{No, Yes, Zero};
use crate::serve::proto::Type::{Bool, Int, IntOrString, Json, Message, Text, Time};

pub(super) static APPS_CONTROLLER_REVISION: &[Field] =
    &[Field(1, "metadata", Message(META_OBJECT_META), No), Field(2, "data", Json, No), Field(3, "revision", Int, No)];

static APPS_ROLLING_UPDATE_DAEMON_SET: &[Field] =
    &[Field(1, "maxUnavailable", IntOrString, No), Field(2, "maxSurge", IntOrString, No)];

static APPS_DAEMON_SET_UPDATE_STRATEGY: &[Field] =
    &[Field(1, "type", Text, No), Field(2, "rollingUpdate", Message(APPS_ROLLING_UPDATE_DAEMON_SET), No)];

static APPS_DAEMON_SET_SPEC: &[Field] = &[
    Field(1, "selector", Message(META_LABEL_SELECTOR), No),
    Field(2, "template", Message(CORE_POD_TEMPLATE_SPEC), No),
    Field(3, "updateStrategy", Message(APPS_DAEMON_SET_UPDATE_STRATEGY), No),
    Field(4, "minReadySeconds", Int, Zero),
    Field(6, "revisionHistoryLimit", Int, No),
];

static APPS_DAEMON_SET_CONDITION: &[Field] = &[
    Field(1, "type", Text, No),
    Field(2, "status", Text, No),
    Field(3, "lastTransitionTime", Time, No),
    Field(4, "reason", Text, No),
    Field(5, "message", Text, No),
];

static APPS_DAEMON_SET_STATUS: &[Field] = &[
    Field(1, "currentNumberScheduled", Int, No),
    Field(2, "numberMisscheduled", Int, No),
    Field(3, "desiredNumberScheduled", Int, No),
    Field(4, "numberReady", Int, No),
    Field(5, "observedGeneration", Int, Zero),
    Field(6, "updatedNumberScheduled", Int, No),
    Field(7, "numberAvailable", Int, No),
    Field(8, "numberUnavailable", Int, No),
    Field(9, "collisionCount", Int, No),
    Field(10, "conditions", Message(APPS_DAEMON_SET_CONDITION), Yes),
];

pub(super) static APPS_DAEMON_SET: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "spec", Message(APPS_DAEMON_SET_SPEC), No),
    Field(3, "status", Message(APPS_DAEMON_SET_STATUS), No),
];

static APPS_ROLLING_UPDATE_DEPLOYMENT: &[Field] =
    &[Field(1, "maxUnavailable", IntOrString, No), Field(2, "maxSurge", IntOrString, No)];

static APPS_DEPLOYMENT_STRATEGY: &[Field] =
    &[Field(1, "type", Text, No), Field(2, "rollingUpdate", Message(APPS_ROLLING_UPDATE_DEPLOYMENT), No)];

static APPS_DEPLOYMENT_SPEC: &[Field] = &[
    Field(1, "replicas", Int, No),
    Field(2, "selector", Message(META_LABEL_SELECTOR), No),
    Field(3, "template", Message(CORE_POD_TEMPLATE_SPEC), No),
    Field(4, "strategy", Message(APPS_DEPLOYMENT_STRATEGY), No),
    Field(5, "minReadySeconds", Int, Zero),
    Field(6, "revisionHistoryLimit", Int, No),
    Field(7, "paused", Bool, Zero),
    Field(9, "progressDeadlineSeconds", Int, No),
];

static APPS_DEPLOYMENT_CONDITION: &[Field] = &[
    Field(1, "type", Text, No),
    Field(2, "status", Text, No),
    Field(6, "lastUpdateTime", Time, No),
    Field(7, "lastTransitionTime", Time, No),
    Field(4, "reason", Text, No),
    Field(5, "message", Text, No),
];

static APPS_DEPLOYMENT_STATUS: &[Field] = &[
    Field(1, "observedGeneration", Int, Zero),
    Field(2, "replicas", Int, No),
    Field(3, "updatedReplicas", Int, No),
    Field(7, "readyReplicas", Int, No),
    Field(4, "availableReplicas", Int, No),
    Field(5, "unavailableReplicas", Int, No),
    Field(9, "terminatingReplicas", Int, No),
    Field(6, "conditions", Message(APPS_DEPLOYMENT_CONDITION), Yes),
    Field(8, "collisionCount", Int, No),
];

pub(super) static APPS_DEPLOYMENT: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "spec", Message(APPS_DEPLOYMENT_SPEC), No),
    Field(3, "status", Message(APPS_DEPLOYMENT_STATUS), No),
];

static APPS_REPLICA_SET_SPEC: &[Field] = &[
    Field(1, "replicas", Int, No),
    Field(4, "minReadySeconds", Int, Zero),
    Field(2, "selector", Message(META_LABEL_SELECTOR), No),
    Field(3, "template", Message(CORE_POD_TEMPLATE_SPEC), No),
];

static APPS_REPLICA_SET_CONDITION: &[Field] = &[
    Field(1, "type", Text, No),
    Field(2, "status", Text, No),
    Field(3, "lastTransitionTime", Time, No),
    Field(4, "reason", Text, No),
    Field(5, "message", Text, No),
];

static APPS_REPLICA_SET_STATUS: &[Field] = &[
    Field(1, "replicas", Int, No),
    Field(2, "fullyLabeledReplicas", Int, No),
    Field(4, "readyReplicas", Int, No),
    Field(5, "availableReplicas", Int, No),
    Field(7, "terminatingReplicas", Int, No),
    Field(3, "observedGeneration", Int, Zero),
    Field(6, "conditions", Message(APPS_REPLICA_SET_CONDITION), Yes),
];

pub(super) static APPS_REPLICA_SET: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "spec", Message(APPS_REPLICA_SET_SPEC), No),
    Field(3, "status", Message(APPS_REPLICA_SET_STATUS), No),
];
