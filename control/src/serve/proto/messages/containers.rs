//! Containers: their environment, probes, resources and security.

use super::common::CORE_LOCAL_OBJECT_REFERENCE;
use super::volumes::{CORE_OBJECT_FIELD_SELECTOR, CORE_RESOURCE_FIELD_SELECTOR};
use crate::serve::proto::Field;
use crate::serve::proto::Repeat::{No, Yes, Zero};
use crate::serve::proto::Type::{Bool, Inline, Int, IntOrString, Message, QuantityMap, Text};

static CORE_CONTAINER_PORT: &[Field] = &[
    Field(1, "name", Text, No),
    Field(2, "hostPort", Int, Zero),
    Field(3, "containerPort", Int, No),
    Field(4, "protocol", Text, No),
    Field(5, "hostIP", Text, No),
];

static CORE_CONFIG_MAP_ENV_SOURCE: &[Field] =
    &[Field(1, "local_object_reference", Inline(CORE_LOCAL_OBJECT_REFERENCE), No), Field(2, "optional", Bool, No)];

static CORE_SECRET_ENV_SOURCE: &[Field] =
    &[Field(1, "local_object_reference", Inline(CORE_LOCAL_OBJECT_REFERENCE), No), Field(2, "optional", Bool, No)];

static CORE_ENV_FROM_SOURCE: &[Field] = &[
    Field(1, "prefix", Text, No),
    Field(2, "configMapRef", Message(CORE_CONFIG_MAP_ENV_SOURCE), No),
    Field(3, "secretRef", Message(CORE_SECRET_ENV_SOURCE), No),
];

static CORE_CONFIG_MAP_KEY_SELECTOR: &[Field] = &[
    Field(1, "local_object_reference", Inline(CORE_LOCAL_OBJECT_REFERENCE), No),
    Field(2, "key", Text, No),
    Field(3, "optional", Bool, No),
];

static CORE_SECRET_KEY_SELECTOR: &[Field] = &[
    Field(1, "local_object_reference", Inline(CORE_LOCAL_OBJECT_REFERENCE), No),
    Field(2, "key", Text, No),
    Field(3, "optional", Bool, No),
];

static CORE_FILE_KEY_SELECTOR: &[Field] = &[
    Field(1, "volumeName", Text, No),
    Field(2, "path", Text, No),
    Field(3, "key", Text, No),
    Field(4, "optional", Bool, No),
];

static CORE_ENV_VAR_SOURCE: &[Field] = &[
    Field(1, "fieldRef", Message(CORE_OBJECT_FIELD_SELECTOR), No),
    Field(2, "resourceFieldRef", Message(CORE_RESOURCE_FIELD_SELECTOR), No),
    Field(3, "configMapKeyRef", Message(CORE_CONFIG_MAP_KEY_SELECTOR), No),
    Field(4, "secretKeyRef", Message(CORE_SECRET_KEY_SELECTOR), No),
    Field(5, "fileKeyRef", Message(CORE_FILE_KEY_SELECTOR), No),
];

static CORE_ENV_VAR: &[Field] =
    &[Field(1, "name", Text, No), Field(2, "value", Text, No), Field(3, "valueFrom", Message(CORE_ENV_VAR_SOURCE), No)];

static CORE_RESOURCE_CLAIM: &[Field] = &[Field(1, "name", Text, No), Field(2, "request", Text, No)];

pub(super) static CORE_RESOURCE_REQUIREMENTS: &[Field] = &[
    Field(1, "limits", QuantityMap, No),
    Field(2, "requests", QuantityMap, No),
    Field(3, "claims", Message(CORE_RESOURCE_CLAIM), Yes),
];

static CORE_CONTAINER_RESIZE_POLICY: &[Field] =
    &[Field(1, "resourceName", Text, No), Field(2, "restartPolicy", Text, No)];

static CORE_CONTAINER_RESTART_RULE_ON_EXIT_CODES: &[Field] =
    &[Field(1, "operator", Text, No), Field(2, "values", Int, Yes)];

static CORE_CONTAINER_RESTART_RULE: &[Field] =
    &[Field(1, "action", Text, No), Field(2, "exitCodes", Message(CORE_CONTAINER_RESTART_RULE_ON_EXIT_CODES), No)];

static CORE_VOLUME_MOUNT: &[Field] = &[
    Field(1, "name", Text, No),
    Field(2, "readOnly", Bool, Zero),
    Field(7, "recursiveReadOnly", Text, No),
    Field(3, "mountPath", Text, No),
    Field(4, "subPath", Text, No),
    Field(5, "mountPropagation", Text, No),
    Field(6, "subPathExpr", Text, No),
];

static CORE_VOLUME_DEVICE: &[Field] = &[Field(1, "name", Text, No), Field(2, "devicePath", Text, No)];

static CORE_EXEC_ACTION: &[Field] = &[Field(1, "command", Text, Yes)];

static CORE_HTTP_HEADER: &[Field] = &[Field(1, "name", Text, No), Field(2, "value", Text, No)];

static CORE_HTTP_GET_ACTION: &[Field] = &[
    Field(1, "path", Text, No),
    Field(2, "port", IntOrString, No),
    Field(3, "host", Text, No),
    Field(4, "scheme", Text, No),
    Field(5, "httpHeaders", Message(CORE_HTTP_HEADER), Yes),
];

static CORE_TCP_SOCKET_ACTION: &[Field] = &[Field(1, "port", IntOrString, No), Field(2, "host", Text, No)];

static CORE_GRPC_ACTION: &[Field] = &[Field(1, "port", Int, No), Field(2, "service", Text, No)];

static CORE_PROBE_HANDLER: &[Field] = &[
    Field(1, "exec", Message(CORE_EXEC_ACTION), No),
    Field(2, "httpGet", Message(CORE_HTTP_GET_ACTION), No),
    Field(3, "tcpSocket", Message(CORE_TCP_SOCKET_ACTION), No),
    Field(4, "grpc", Message(CORE_GRPC_ACTION), No),
];

static CORE_PROBE: &[Field] = &[
    Field(1, "handler", Inline(CORE_PROBE_HANDLER), No),
    Field(2, "initialDelaySeconds", Int, Zero),
    Field(3, "timeoutSeconds", Int, Zero),
    Field(4, "periodSeconds", Int, Zero),
    Field(5, "successThreshold", Int, Zero),
    Field(6, "failureThreshold", Int, Zero),
    Field(7, "terminationGracePeriodSeconds", Int, No),
];

static CORE_SLEEP_ACTION: &[Field] = &[Field(1, "seconds", Int, No)];

static CORE_LIFECYCLE_HANDLER: &[Field] = &[
    Field(1, "exec", Message(CORE_EXEC_ACTION), No),
    Field(2, "httpGet", Message(CORE_HTTP_GET_ACTION), No),
    Field(3, "tcpSocket", Message(CORE_TCP_SOCKET_ACTION), No),
    Field(4, "sleep", Message(CORE_SLEEP_ACTION), No),
];

static CORE_LIFECYCLE: &[Field] = &[
    Field(1, "postStart", Message(CORE_LIFECYCLE_HANDLER), No),
    Field(2, "preStop", Message(CORE_LIFECYCLE_HANDLER), No),
    Field(3, "stopSignal", Text, No),
];

static CORE_CAPABILITIES: &[Field] = &[Field(1, "add", Text, Yes), Field(2, "drop", Text, Yes)];

pub(super) static CORE_SE_LINUX_OPTIONS: &[Field] =
    &[Field(1, "user", Text, No), Field(2, "role", Text, No), Field(3, "type", Text, No), Field(4, "level", Text, No)];

pub(super) static CORE_WINDOWS_SECURITY_CONTEXT_OPTIONS: &[Field] = &[
    Field(1, "gmsaCredentialSpecName", Text, No),
    Field(2, "gmsaCredentialSpec", Text, No),
    Field(3, "runAsUserName", Text, No),
    Field(4, "hostProcess", Bool, No),
];

pub(super) static CORE_SECCOMP_PROFILE: &[Field] =
    &[Field(1, "type", Text, No), Field(2, "localhostProfile", Text, No)];

pub(super) static CORE_APP_ARMOR_PROFILE: &[Field] =
    &[Field(1, "type", Text, No), Field(2, "localhostProfile", Text, No)];

static CORE_SECURITY_CONTEXT: &[Field] = &[
    Field(1, "capabilities", Message(CORE_CAPABILITIES), No),
    Field(2, "privileged", Bool, No),
    Field(3, "seLinuxOptions", Message(CORE_SE_LINUX_OPTIONS), No),
    Field(10, "windowsOptions", Message(CORE_WINDOWS_SECURITY_CONTEXT_OPTIONS), No),
    Field(4, "runAsUser", Int, No),
    Field(8, "runAsGroup", Int, No),
    Field(5, "runAsNonRoot", Bool, No),
    Field(6, "readOnlyRootFilesystem", Bool, No),
    Field(7, "allowPrivilegeEscalation", Bool, No),
    Field(9, "procMount", Text, No),
    Field(11, "seccompProfile", Message(CORE_SECCOMP_PROFILE), No),
    Field(12, "appArmorProfile", Message(CORE_APP_ARMOR_PROFILE), No),
];

pub(super) static CORE_CONTAINER: &[Field] = &[
    Field(1, "name", Text, No),
    Field(2, "image", Text, No),
    Field(3, "command", Text, Yes),
    Field(4, "args", Text, Yes),
    Field(5, "workingDir", Text, No),
    Field(6, "ports", Message(CORE_CONTAINER_PORT), Yes),
    Field(19, "envFrom", Message(CORE_ENV_FROM_SOURCE), Yes),
    Field(7, "env", Message(CORE_ENV_VAR), Yes),
    Field(8, "resources", Message(CORE_RESOURCE_REQUIREMENTS), No),
    Field(23, "resizePolicy", Message(CORE_CONTAINER_RESIZE_POLICY), Yes),
    Field(24, "restartPolicy", Text, No),
    Field(25, "restartPolicyRules", Message(CORE_CONTAINER_RESTART_RULE), Yes),
    Field(9, "volumeMounts", Message(CORE_VOLUME_MOUNT), Yes),
    Field(21, "volumeDevices", Message(CORE_VOLUME_DEVICE), Yes),
    Field(10, "livenessProbe", Message(CORE_PROBE), No),
    Field(11, "readinessProbe", Message(CORE_PROBE), No),
    Field(22, "startupProbe", Message(CORE_PROBE), No),
    Field(12, "lifecycle", Message(CORE_LIFECYCLE), No),
    Field(13, "terminationMessagePath", Text, No),
    Field(20, "terminationMessagePolicy", Text, No),
    Field(14, "imagePullPolicy", Text, No),
    Field(15, "securityContext", Message(CORE_SECURITY_CONTEXT), No),
    Field(16, "stdin", Bool, Zero),
    Field(17, "stdinOnce", Bool, Zero),
    Field(18, "tty", Bool, Zero),
];

pub(super) static CORE_EPHEMERAL_CONTAINER: &[Field] =
    &[Field(1, "ephemeral_container_common", Inline(CORE_CONTAINER), No), Field(2, "targetContainerName", Text, No)];
