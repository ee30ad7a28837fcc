//! Nodes.

use super::meta::META_OBJECT_META;
use crate::serve::proto::Field;
use crate::serve::proto::Repeat::{No, Yes, Zero};
use crate::serve::proto::Type::{Bool, Int, Message, QuantityMap, Text, Time};

static CORE_TAINT: &[Field] = &[
    Field(1, "key", Text, No),
    Field(2, "value", Text, No),
    Field(3, "effect", Text, No),
    Field(4, "timeAdded", Time, No),
];

static CORE_CONFIG_MAP_NODE_CONFIG_SOURCE: &[Field] = &[
    Field(1, "namespace", Text, No),
    Field(2, "name", Text, No),
    Field(3, "uid", Text, No),
    Field(4, "resourceVersion", Text, No),
    Field(5, "kubeletConfigKey", Text, No),
];

static CORE_NODE_CONFIG_SOURCE: &[Field] = &[Field(2, "configMap", Message(CORE_CONFIG_MAP_NODE_CONFIG_SOURCE), No)];

static CORE_NODE_SPEC: &[Field] = &[
    Field(1, "podCIDR", Text, No),
    Field(7, "podCIDRs", Text, Yes),
    Field(3, "providerID", Text, No),
    Field(4, "unschedulable", Bool, Zero),
    Field(5, "taints", Message(CORE_TAINT), Yes),
    Field(6, "configSource", Message(CORE_NODE_CONFIG_SOURCE), No),
    Field(2, "externalID", Text, No),
];

static CORE_NODE_CONDITION: &[Field] = &[
    Field(1, "type", Text, No),
    Field(2, "status", Text, No),
    Field(3, "lastHeartbeatTime", Time, No),
    Field(4, "lastTransitionTime", Time, No),
    Field(5, "reason", Text, No),
    Field(6, "message", Text, No),
];

static CORE_NODE_ADDRESS: &[Field] = &[Field(1, "type", Text, No), Field(2, "address", Text, No)];

static CORE_DAEMON_ENDPOINT: &[Field] = &[Field(1, "Port", Int, No)];

static CORE_NODE_DAEMON_ENDPOINTS: &[Field] = &[Field(1, "kubeletEndpoint", Message(CORE_DAEMON_ENDPOINT), No)];

static CORE_NODE_SWAP_STATUS: &[Field] = &[Field(1, "capacity", Int, No)];

static CORE_NODE_SYSTEM_INFO: &[Field] = &[
    Field(1, "machineID", Text, No),
    Field(2, "systemUUID", Text, No),
    Field(3, "bootID", Text, No),
    Field(4, "kernelVersion", Text, No),
    Field(5, "osImage", Text, No),
    Field(6, "containerRuntimeVersion", Text, No),
    Field(7, "kubeletVersion", Text, No),
    Field(8, "kubeProxyVersion", Text, No),
    Field(9, "operatingSystem", Text, No),
    Field(10, "architecture", Text, No),
    Field(11, "swap", Message(CORE_NODE_SWAP_STATUS), No),
];

static CORE_CONTAINER_IMAGE: &[Field] = &[Field(1, "names", Text, Yes), Field(2, "sizeBytes", Int, No)];

static CORE_ATTACHED_VOLUME: &[Field] = &[Field(1, "name", Text, No), Field(2, "devicePath", Text, No)];

static CORE_NODE_CONFIG_STATUS: &[Field] = &[
    Field(1, "assigned", Message(CORE_NODE_CONFIG_SOURCE), No),
    Field(2, "active", Message(CORE_NODE_CONFIG_SOURCE), No),
    Field(3, "lastKnownGood", Message(CORE_NODE_CONFIG_SOURCE), No),
    Field(4, "error", Text, No),
];

static CORE_NODE_RUNTIME_HANDLER_FEATURES: &[Field] =
    &[Field(1, "recursiveReadOnlyMounts", Bool, No), Field(2, "userNamespaces", Bool, No)];

static CORE_NODE_RUNTIME_HANDLER: &[Field] =
    &[Field(1, "name", Text, No), Field(2, "features", Message(CORE_NODE_RUNTIME_HANDLER_FEATURES), No)];

static CORE_NODE_FEATURES: &[Field] = &[Field(1, "supplementalGroupsPolicy", Bool, No)];

static CORE_NODE_STATUS: &[Field] = &[
    Field(1, "capacity", QuantityMap, No),
    Field(2, "allocatable", QuantityMap, No),
    Field(3, "phase", Text, No),
    Field(4, "conditions", Message(CORE_NODE_CONDITION), Yes),
    Field(5, "addresses", Message(CORE_NODE_ADDRESS), Yes),
    Field(6, "daemonEndpoints", Message(CORE_NODE_DAEMON_ENDPOINTS), No),
    Field(7, "nodeInfo", Message(CORE_NODE_SYSTEM_INFO), No),
    Field(8, "images", Message(CORE_CONTAINER_IMAGE), Yes),
    Field(9, "volumesInUse", Text, Yes),
    Field(10, "volumesAttached", Message(CORE_ATTACHED_VOLUME), Yes),
    Field(11, "config", Message(CORE_NODE_CONFIG_STATUS), No),
    Field(12, "runtimeHandlers", Message(CORE_NODE_RUNTIME_HANDLER), Yes),
    Field(13, "features", Message(CORE_NODE_FEATURES), No),
    Field(14, "declaredFeatures", Text, Yes),
];

pub(super) static CORE_NODE: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "spec", Message(CORE_NODE_SPEC), No),
    Field(3, "status", Message(CORE_NODE_STATUS), No),
];
