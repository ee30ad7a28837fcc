//! Services, Endpoints and EndpointSlices.

use super::common::CORE_OBJECT_REFERENCE;
use super::meta::{META_CONDITION, META_OBJECT_META};
use crate::serve::proto::Field;
use crate::serve::proto::Repeat::{No, Yes, Zero};
use crate::serve::proto::Type::{Bool, Int, IntOrString, Message, Text, TextMap};

static CORE_ENDPOINT_ADDRESS: &[Field] = &[
    Field(1, "ip", Text, No),
    Field(3, "hostname", Text, No),
    Field(4, "nodeName", Text, No),
    Field(2, "targetRef", Message(CORE_OBJECT_REFERENCE), No),
];

static CORE_ENDPOINT_PORT: &[Field] = &[
    Field(1, "name", Text, No),
    Field(2, "port", Int, No),
    Field(3, "protocol", Text, No),
    Field(4, "appProtocol", Text, No),
];

static CORE_ENDPOINT_SUBSET: &[Field] = &[
    Field(1, "addresses", Message(CORE_ENDPOINT_ADDRESS), Yes),
    Field(2, "notReadyAddresses", Message(CORE_ENDPOINT_ADDRESS), Yes),
    Field(3, "ports", Message(CORE_ENDPOINT_PORT), Yes),
];

pub(super) static CORE_ENDPOINTS: &[Field] =
    &[Field(1, "metadata", Message(META_OBJECT_META), No), Field(2, "subsets", Message(CORE_ENDPOINT_SUBSET), Yes)];

static CORE_SERVICE_PORT: &[Field] = &[
    Field(1, "name", Text, No),
    Field(2, "protocol", Text, No),
    Field(6, "appProtocol", Text, No),
    Field(3, "port", Int, No),
    Field(4, "targetPort", IntOrString, No),
    Field(5, "nodePort", Int, Zero),
];

static CORE_CLIENT_IP_CONFIG: &[Field] = &[Field(1, "timeoutSeconds", Int, No)];

static CORE_SESSION_AFFINITY_CONFIG: &[Field] = &[Field(1, "clientIP", Message(CORE_CLIENT_IP_CONFIG), No)];

static CORE_SERVICE_SPEC: &[Field] = &[
    Field(1, "ports", Message(CORE_SERVICE_PORT), Yes),
    Field(2, "selector", TextMap, No),
    Field(3, "clusterIP", Text, No),
    Field(18, "clusterIPs", Text, Yes),
    Field(4, "type", Text, No),
    Field(5, "externalIPs", Text, Yes),
    Field(7, "sessionAffinity", Text, No),
    Field(8, "loadBalancerIP", Text, No),
    Field(9, "loadBalancerSourceRanges", Text, Yes),
    Field(10, "externalName", Text, No),
    Field(11, "externalTrafficPolicy", Text, No),
    Field(12, "healthCheckNodePort", Int, Zero),
    Field(13, "publishNotReadyAddresses", Bool, Zero),
    Field(14, "sessionAffinityConfig", Message(CORE_SESSION_AFFINITY_CONFIG), No),
    Field(19, "ipFamilies", Text, Yes),
    Field(17, "ipFamilyPolicy", Text, No),
    Field(20, "allocateLoadBalancerNodePorts", Bool, No),
    Field(21, "loadBalancerClass", Text, No),
    Field(22, "internalTrafficPolicy", Text, No),
    Field(23, "trafficDistribution", Text, No),
];

static CORE_PORT_STATUS: &[Field] =
    &[Field(1, "port", Int, No), Field(2, "protocol", Text, No), Field(3, "error", Text, No)];

static CORE_LOAD_BALANCER_INGRESS: &[Field] = &[
    Field(1, "ip", Text, No),
    Field(2, "hostname", Text, No),
    Field(3, "ipMode", Text, No),
    Field(4, "ports", Message(CORE_PORT_STATUS), Yes),
];

static CORE_LOAD_BALANCER_STATUS: &[Field] = &[Field(1, "ingress", Message(CORE_LOAD_BALANCER_INGRESS), Yes)];

static CORE_SERVICE_STATUS: &[Field] = &[
    Field(1, "loadBalancer", Message(CORE_LOAD_BALANCER_STATUS), No),
    Field(2, "conditions", Message(META_CONDITION), Yes),
];

pub(super) static CORE_SERVICE: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "spec", Message(CORE_SERVICE_SPEC), No),
    Field(3, "status", Message(CORE_SERVICE_STATUS), No),
];

static DISCOVERY_ENDPOINT_CONDITIONS: &[Field] =
    &[Field(1, "ready", Bool, No), Field(2, "serving", Bool, No), Field(3, "terminating", Bool, No)];

static DISCOVERY_FOR_ZONE: &[Field] = &[Field(1, "name", Text, No)];

static DISCOVERY_FOR_NODE: &[Field] = &[Field(1, "name", Text, No)];

static DISCOVERY_ENDPOINT_HINTS: &[Field] =
    &[Field(1, "forZones", Message(DISCOVERY_FOR_ZONE), Yes), Field(2, "forNodes", Message(DISCOVERY_FOR_NODE), Yes)];

static DISCOVERY_ENDPOINT: &[Field] = &[
    Field(1, "addresses", Text, Yes),
    Field(2, "conditions", Message(DISCOVERY_ENDPOINT_CONDITIONS), No),
    Field(3, "hostname", Text, No),
    Field(4, "targetRef", Message(CORE_OBJECT_REFERENCE), No),
    Field(5, "deprecatedTopology", TextMap, No),
    Field(6, "nodeName", Text, No),
    Field(7, "zone", Text, No),
    Field(8, "hints", Message(DISCOVERY_ENDPOINT_HINTS), No),
];

static DISCOVERY_ENDPOINT_PORT: &[Field] = &[
    Field(1, "name", Text, No),
    Field(2, "protocol", Text, No),
    Field(3, "port", Int, No),
    Field(4, "appProtocol", Text, No),
];

pub(super) static DISCOVERY_ENDPOINT_SLICE: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(4, "addressType", Text, No),
    Field(2, "endpoints", Message(DISCOVERY_ENDPOINT), Yes),
    Field(3, "ports", Message(DISCOVERY_ENDPOINT_PORT), Yes),
];
