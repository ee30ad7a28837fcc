//! Pods as they are wished for.

use super::common::CORE_LOCAL_OBJECT_REFERENCE;
use super::containers::{
    CORE_APP_ARMOR_PROFILE, CORE_CONTAINER, CORE_EPHEMERAL_CONTAINER, CORE_RESOURCE_REQUIREMENTS,
    CORE_SE_LINUX_OPTIONS, CORE_SECCOMP_PROFILE, CORE_WINDOWS_SECURITY_CONTEXT_OPTIONS,
};
use super::meta::META_OBJECT_META;
use super::placement::{CORE_AFFINITY, CORE_TOLERATION, CORE_TOPOLOGY_SPREAD_CONSTRAINT};
use super::pod_status::CORE_POD_STATUS;
use super::volumes::CORE_VOLUME;
use crate::serve::proto::Field;
use crate::serve::proto::Repeat::{No, Yes, Zero};
use crate::serve::proto::Type::{Bool, Inline, Int, Message, QuantityMap, Text, TextMap};

static CORE_SYSCTL: &[Field] = &[Field(1, "name", Text, No), Field(2, "value", Text, No)];

static CORE_POD_SECURITY_CONTEXT: &[Field] = &[
    Field(1, "seLinuxOptions", Message(CORE_SE_LINUX_OPTIONS), No),
    Field(8, "windowsOptions", Message(CORE_WINDOWS_SECURITY_CONTEXT_OPTIONS), No),
    Field(2, "runAsUser", Int, No),
    Field(6, "runAsGroup", Int, No),
    Field(3, "runAsNonRoot", Bool, No),
    Field(4, "supplementalGroups", Int, Yes),
    Field(12, "supplementalGroupsPolicy", Text, No),
    Field(5, "fsGroup", Int, No),
    Field(7, "sysctls", Message(CORE_SYSCTL), Yes),
    Field(9, "fsGroupChangePolicy", Text, No),
    Field(10, "seccompProfile", Message(CORE_SECCOMP_PROFILE), No),
    Field(11, "appArmorProfile", Message(CORE_APP_ARMOR_PROFILE), No),
    Field(13, "seLinuxChangePolicy", Text, No),
];

static CORE_HOST_ALIAS: &[Field] = &[Field(1, "ip", Text, No), Field(2, "hostnames", Text, Yes)];

static CORE_POD_DNS_CONFIG_OPTION: &[Field] = &[Field(1, "name", Text, No), Field(2, "value", Text, No)];

static CORE_POD_DNS_CONFIG: &[Field] = &[
    Field(1, "nameservers", Text, Yes),
    Field(2, "searches", Text, Yes),
    Field(3, "options", Message(CORE_POD_DNS_CONFIG_OPTION), Yes),
];

static CORE_POD_READINESS_GATE: &[Field] = &[Field(1, "conditionType", Text, No)];

static CORE_POD_OS: &[Field] = &[Field(1, "name", Text, No)];

static CORE_POD_SCHEDULING_GATE: &[Field] = &[Field(1, "name", Text, No)];

static CORE_POD_RESOURCE_CLAIM: &[Field] = &[
    Field(1, "name", Text, No),
    Field(3, "resourceClaimName", Text, No),
    Field(4, "resourceClaimTemplateName", Text, No),
];

static CORE_WORKLOAD_REFERENCE: &[Field] = &[];

static CORE_POD_SPEC: &[Field] = &[
    Field(1, "volumes", Message(CORE_VOLUME), Yes),
    Field(20, "initContainers", Message(CORE_CONTAINER), Yes),
    Field(2, "containers", Message(CORE_CONTAINER), Yes),
    Field(34, "ephemeralContainers", Message(CORE_EPHEMERAL_CONTAINER), Yes),
    Field(3, "restartPolicy", Text, No),
    Field(4, "terminationGracePeriodSeconds", Int, No),
    Field(5, "activeDeadlineSeconds", Int, No),
    Field(6, "dnsPolicy", Text, No),
    Field(7, "nodeSelector", TextMap, No),
    Field(8, "serviceAccountName", Text, No),
    Field(9, "serviceAccount", Text, No),
    Field(21, "automountServiceAccountToken", Bool, No),
    Field(10, "nodeName", Text, No),
    Field(11, "hostNetwork", Bool, Zero),
    Field(12, "hostPID", Bool, Zero),
    Field(13, "hostIPC", Bool, Zero),
    Field(27, "shareProcessNamespace", Bool, No),
    Field(14, "securityContext", Message(CORE_POD_SECURITY_CONTEXT), No),
    Field(15, "imagePullSecrets", Message(CORE_LOCAL_OBJECT_REFERENCE), Yes),
    Field(16, "hostname", Text, No),
    Field(17, "subdomain", Text, No),
    Field(18, "affinity", Message(CORE_AFFINITY), No),
    Field(19, "schedulerName", Text, No),
    Field(22, "tolerations", Message(CORE_TOLERATION), Yes),
    Field(23, "hostAliases", Message(CORE_HOST_ALIAS), Yes),
    Field(24, "priorityClassName", Text, No),
    Field(25, "priority", Int, No),
    Field(26, "dnsConfig", Message(CORE_POD_DNS_CONFIG), No),
    Field(28, "readinessGates", Message(CORE_POD_READINESS_GATE), Yes),
    Field(29, "runtimeClassName", Text, No),
    Field(30, "enableServiceLinks", Bool, No),
    Field(31, "preemptionPolicy", Text, No),
    Field(32, "overhead", QuantityMap, No),
    Field(33, "topologySpreadConstraints", Message(CORE_TOPOLOGY_SPREAD_CONSTRAINT), Yes),
    Field(35, "setHostnameAsFQDN", Bool, No),
    Field(36, "os", Message(CORE_POD_OS), No),
    Field(37, "hostUsers", Bool, No),
    Field(38, "schedulingGates", Message(CORE_POD_SCHEDULING_GATE), Yes),
    Field(39, "resourceClaims", Message(CORE_POD_RESOURCE_CLAIM), Yes),
    Field(40, "resources", Message(CORE_RESOURCE_REQUIREMENTS), No),
    Field(41, "hostnameOverride", Text, No),
    Field(42, "workload_ref", Inline(CORE_WORKLOAD_REFERENCE), No),
];

pub(super) static CORE_POD: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "spec", Message(CORE_POD_SPEC), No),
    Field(3, "status", Message(CORE_POD_STATUS), No),
];

pub(super) static CORE_POD_TEMPLATE_SPEC: &[Field] =
    &[Field(1, "metadata", Message(META_OBJECT_META), No), Field(2, "spec", Message(CORE_POD_SPEC), No)];
