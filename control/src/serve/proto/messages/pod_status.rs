//! Pods as they are.

use super::containers::CORE_RESOURCE_REQUIREMENTS;
use crate::serve::proto::Field;
use crate::serve::proto::Repeat::{No, Yes, Zero};
use crate::serve::proto::Type::{Bool, Int, Message, QuantityMap, Text, Time};

static CORE_POD_CONDITION: &[Field] = &[
    Field(1, "type", Text, No),
    Field(7, "observedGeneration", Int, Zero),
    Field(2, "status", Text, No),
    Field(3, "lastProbeTime", Time, No),
    Field(4, "lastTransitionTime", Time, No),
    Field(5, "reason", Text, No),
    Field(6, "message", Text, No),
];

static CORE_HOST_IP: &[Field] = &[Field(1, "ip", Text, No)];

static CORE_POD_IP: &[Field] = &[Field(1, "ip", Text, No)];

static CORE_CONTAINER_STATE_WAITING: &[Field] = &[Field(1, "reason", Text, No), Field(2, "message", Text, No)];

static CORE_CONTAINER_STATE_RUNNING: &[Field] = &[Field(1, "startedAt", Time, No)];

static CORE_CONTAINER_STATE_TERMINATED: &[Field] = &[
    Field(1, "exitCode", Int, No),
    Field(2, "signal", Int, No),
    Field(3, "reason", Text, No),
    Field(4, "message", Text, No),
    Field(5, "startedAt", Time, No),
    Field(6, "finishedAt", Time, No),
    Field(7, "containerID", Text, No),
];

static CORE_CONTAINER_STATE: &[Field] = &[
    Field(1, "waiting", Message(CORE_CONTAINER_STATE_WAITING), No),
    Field(2, "running", Message(CORE_CONTAINER_STATE_RUNNING), No),
    Field(3, "terminated", Message(CORE_CONTAINER_STATE_TERMINATED), No),
];

static CORE_VOLUME_MOUNT_STATUS: &[Field] = &[
    Field(1, "name", Text, No),
    Field(2, "mountPath", Text, No),
    Field(3, "readOnly", Bool, Zero),
    Field(4, "recursiveReadOnly", Text, No),
];

static CORE_LINUX_CONTAINER_USER: &[Field] =
    &[Field(1, "uid", Int, No), Field(2, "gid", Int, No), Field(3, "supplementalGroups", Int, Yes)];

static CORE_CONTAINER_USER: &[Field] = &[Field(1, "linux", Message(CORE_LINUX_CONTAINER_USER), No)];

static CORE_RESOURCE_HEALTH: &[Field] = &[Field(1, "resourceID", Text, No), Field(2, "health", Text, No)];

static CORE_RESOURCE_STATUS: &[Field] =
    &[Field(1, "name", Text, No), Field(2, "resources", Message(CORE_RESOURCE_HEALTH), Yes)];

static CORE_CONTAINER_STATUS: &[Field] = &[
    Field(1, "name", Text, No),
    Field(2, "state", Message(CORE_CONTAINER_STATE), No),
    Field(3, "lastState", Message(CORE_CONTAINER_STATE), No),
    Field(4, "ready", Bool, No),
    Field(5, "restartCount", Int, No),
    Field(6, "image", Text, No),
    Field(7, "imageID", Text, No),
    Field(8, "containerID", Text, No),
    Field(9, "started", Bool, No),
    Field(10, "allocatedResources", QuantityMap, No),
    Field(11, "resources", Message(CORE_RESOURCE_REQUIREMENTS), No),
    Field(12, "volumeMounts", Message(CORE_VOLUME_MOUNT_STATUS), Yes),
    Field(13, "user", Message(CORE_CONTAINER_USER), No),
    Field(14, "allocatedResourcesStatus", Message(CORE_RESOURCE_STATUS), Yes),
    Field(15, "stopSignal", Text, No),
];

static CORE_POD_RESOURCE_CLAIM_STATUS: &[Field] =
    &[Field(1, "name", Text, No), Field(2, "resourceClaimName", Text, No)];

static CORE_CONTAINER_EXTENDED_RESOURCE_REQUEST: &[Field] =
    &[Field(1, "containerName", Text, No), Field(2, "resourceName", Text, No), Field(3, "requestName", Text, No)];

static CORE_POD_EXTENDED_RESOURCE_CLAIM_STATUS: &[Field] = &[
    Field(1, "requestMappings", Message(CORE_CONTAINER_EXTENDED_RESOURCE_REQUEST), Yes),
    Field(2, "resourceClaimName", Text, No),
];

pub(super) static CORE_POD_STATUS: &[Field] = &[
    Field(17, "observedGeneration", Int, Zero),
    Field(1, "phase", Text, No),
    Field(2, "conditions", Message(CORE_POD_CONDITION), Yes),
    Field(3, "message", Text, No),
    Field(4, "reason", Text, No),
    Field(11, "nominatedNodeName", Text, No),
    Field(5, "hostIP", Text, No),
    Field(16, "hostIPs", Message(CORE_HOST_IP), Yes),
    Field(6, "podIP", Text, No),
    Field(12, "podIPs", Message(CORE_POD_IP), Yes),
    Field(7, "startTime", Time, No),
    Field(10, "initContainerStatuses", Message(CORE_CONTAINER_STATUS), Yes),
    Field(8, "containerStatuses", Message(CORE_CONTAINER_STATUS), Yes),
    Field(9, "qosClass", Text, No),
    Field(13, "ephemeralContainerStatuses", Message(CORE_CONTAINER_STATUS), Yes),
    Field(14, "resize", Text, No),
    Field(15, "resourceClaimStatuses", Message(CORE_POD_RESOURCE_CLAIM_STATUS), Yes),
    Field(18, "extendedResourceClaimStatus", Message(CORE_POD_EXTENDED_RESOURCE_CLAIM_STATUS), No),
    Field(19, "allocatedResources", QuantityMap, No),
    Field(20, "resources", Message(CORE_RESOURCE_REQUIREMENTS), No),
];
