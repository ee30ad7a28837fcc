//! Field numbers of the messages of every kind that is served, as one flat table.
//!
//! Owns: the facts (generated.proto of k8s.io/api, v1.35: numbers never change, later fields are not here). `Inline`
//! marks what is a message on the wire and part of its parent in JSON; `Zero` marks numbers and switches whose zero
//! says nothing because Go sends it always.

use super::Field;
use super::Repeat::{No, Yes, Zero};
use super::Type::{
    Bool, Bytes, BytesMap, Inline, Int, IntOrString, Json, Message, MicroTime, Quantity, QuantityMap, Text,
    TextListMap, TextMap, Time,
};

/// The message of a kind; None if it is not served.
pub(super) fn of(api_version: &str, kind: &str) -> Option<&'static [Field]> {
    Some(match (api_version, kind) {
        ("v1", "ConfigMap") => CORE_CONFIG_MAP,
        ("v1", "Endpoints") => CORE_ENDPOINTS,
        ("v1", "Event") => CORE_EVENT,
        ("v1", "Namespace") => CORE_NAMESPACE,
        ("v1", "Node") => CORE_NODE,
        ("v1", "Pod") => CORE_POD,
        ("v1", "Secret") => CORE_SECRET,
        ("v1", "Service") => CORE_SERVICE,
        ("v1", "ServiceAccount") => CORE_SERVICE_ACCOUNT,
        ("apps/v1", "ControllerRevision") => APPS_CONTROLLER_REVISION,
        ("apps/v1", "DaemonSet") => APPS_DAEMON_SET,
        ("apps/v1", "Deployment") => APPS_DEPLOYMENT,
        ("apps/v1", "ReplicaSet") => APPS_REPLICA_SET,
        ("batch/v1", "Job") => BATCH_JOB,
        ("certificates.k8s.io/v1", "CertificateSigningRequest") => CERTIFICATES_CERTIFICATE_SIGNING_REQUEST,
        ("coordination.k8s.io/v1", "Lease") => COORDINATION_LEASE,
        ("discovery.k8s.io/v1", "EndpointSlice") => DISCOVERY_ENDPOINT_SLICE,
        ("scheduling.k8s.io/v1", "PriorityClass") => SCHEDULING_PRIORITY_CLASS,
        _ => return None,
    })
}

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

static META_OBJECT_META: &[Field] = &[
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

static CORE_CONFIG_MAP: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(4, "immutable", Bool, No),
    Field(2, "data", TextMap, No),
    Field(3, "binaryData", BytesMap, No),
];

static CORE_OBJECT_REFERENCE: &[Field] = &[
    Field(1, "kind", Text, No),
    Field(2, "namespace", Text, No),
    Field(3, "name", Text, No),
    Field(4, "uid", Text, No),
    Field(5, "apiVersion", Text, No),
    Field(6, "resourceVersion", Text, No),
    Field(7, "fieldPath", Text, No),
];

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

static CORE_ENDPOINTS: &[Field] =
    &[Field(1, "metadata", Message(META_OBJECT_META), No), Field(2, "subsets", Message(CORE_ENDPOINT_SUBSET), Yes)];

static CORE_EVENT_SOURCE: &[Field] = &[Field(1, "component", Text, No), Field(2, "host", Text, No)];

static CORE_EVENT_SERIES: &[Field] = &[Field(1, "count", Int, Zero), Field(2, "lastObservedTime", MicroTime, No)];

static CORE_EVENT: &[Field] = &[
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

static CORE_NAMESPACE: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "spec", Message(CORE_NAMESPACE_SPEC), No),
    Field(3, "status", Message(CORE_NAMESPACE_STATUS), No),
];

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

static CORE_NODE: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "spec", Message(CORE_NODE_SPEC), No),
    Field(3, "status", Message(CORE_NODE_STATUS), No),
];

static CORE_HOST_PATH_VOLUME_SOURCE: &[Field] = &[Field(1, "path", Text, No), Field(2, "type", Text, No)];

static CORE_EMPTY_DIR_VOLUME_SOURCE: &[Field] = &[Field(1, "medium", Text, No), Field(2, "sizeLimit", Quantity, No)];

static CORE_GCE_PERSISTENT_DISK_VOLUME_SOURCE: &[Field] = &[
    Field(1, "pdName", Text, No),
    Field(2, "fsType", Text, No),
    Field(3, "partition", Int, No),
    Field(4, "readOnly", Bool, Zero),
];

static CORE_AWS_ELASTIC_BLOCK_STORE_VOLUME_SOURCE: &[Field] = &[
    Field(1, "volumeID", Text, No),
    Field(2, "fsType", Text, No),
    Field(3, "partition", Int, No),
    Field(4, "readOnly", Bool, Zero),
];

static CORE_GIT_REPO_VOLUME_SOURCE: &[Field] =
    &[Field(1, "repository", Text, No), Field(2, "revision", Text, No), Field(3, "directory", Text, No)];

static CORE_KEY_TO_PATH: &[Field] = &[Field(1, "key", Text, No), Field(2, "path", Text, No), Field(3, "mode", Int, No)];

static CORE_SECRET_VOLUME_SOURCE: &[Field] = &[
    Field(1, "secretName", Text, No),
    Field(2, "items", Message(CORE_KEY_TO_PATH), Yes),
    Field(3, "defaultMode", Int, No),
    Field(4, "optional", Bool, No),
];

static CORE_NFS_VOLUME_SOURCE: &[Field] =
    &[Field(1, "server", Text, No), Field(2, "path", Text, No), Field(3, "readOnly", Bool, Zero)];

static CORE_LOCAL_OBJECT_REFERENCE: &[Field] = &[Field(1, "name", Text, No)];

static CORE_ISCSI_VOLUME_SOURCE: &[Field] = &[
    Field(1, "targetPortal", Text, No),
    Field(2, "iqn", Text, No),
    Field(3, "lun", Int, No),
    Field(4, "iscsiInterface", Text, No),
    Field(5, "fsType", Text, No),
    Field(6, "readOnly", Bool, Zero),
    Field(7, "portals", Text, Yes),
    Field(8, "chapAuthDiscovery", Bool, No),
    Field(11, "chapAuthSession", Bool, No),
    Field(10, "secretRef", Message(CORE_LOCAL_OBJECT_REFERENCE), No),
    Field(12, "initiatorName", Text, No),
];

static CORE_GLUSTERFS_VOLUME_SOURCE: &[Field] =
    &[Field(1, "endpoints", Text, No), Field(2, "path", Text, No), Field(3, "readOnly", Bool, Zero)];

static CORE_PERSISTENT_VOLUME_CLAIM_VOLUME_SOURCE: &[Field] =
    &[Field(1, "claimName", Text, No), Field(2, "readOnly", Bool, Zero)];

static CORE_RBD_VOLUME_SOURCE: &[Field] = &[
    Field(1, "monitors", Text, Yes),
    Field(2, "image", Text, No),
    Field(3, "fsType", Text, No),
    Field(4, "pool", Text, No),
    Field(5, "user", Text, No),
    Field(6, "keyring", Text, No),
    Field(7, "secretRef", Message(CORE_LOCAL_OBJECT_REFERENCE), No),
    Field(8, "readOnly", Bool, Zero),
];

static CORE_FLEX_VOLUME_SOURCE: &[Field] = &[
    Field(1, "driver", Text, No),
    Field(2, "fsType", Text, No),
    Field(3, "secretRef", Message(CORE_LOCAL_OBJECT_REFERENCE), No),
    Field(4, "readOnly", Bool, Zero),
    Field(5, "options", TextMap, No),
];

static CORE_CINDER_VOLUME_SOURCE: &[Field] = &[
    Field(1, "volumeID", Text, No),
    Field(2, "fsType", Text, No),
    Field(3, "readOnly", Bool, Zero),
    Field(4, "secretRef", Message(CORE_LOCAL_OBJECT_REFERENCE), No),
];

static CORE_CEPH_FS_VOLUME_SOURCE: &[Field] = &[
    Field(1, "monitors", Text, Yes),
    Field(2, "path", Text, No),
    Field(3, "user", Text, No),
    Field(4, "secretFile", Text, No),
    Field(5, "secretRef", Message(CORE_LOCAL_OBJECT_REFERENCE), No),
    Field(6, "readOnly", Bool, Zero),
];

static CORE_FLOCKER_VOLUME_SOURCE: &[Field] = &[Field(1, "datasetName", Text, No), Field(2, "datasetUUID", Text, No)];

static CORE_OBJECT_FIELD_SELECTOR: &[Field] = &[Field(1, "apiVersion", Text, No), Field(2, "fieldPath", Text, No)];

static CORE_RESOURCE_FIELD_SELECTOR: &[Field] =
    &[Field(1, "containerName", Text, No), Field(2, "resource", Text, No), Field(3, "divisor", Quantity, No)];

static CORE_DOWNWARD_API_VOLUME_FILE: &[Field] = &[
    Field(1, "path", Text, No),
    Field(2, "fieldRef", Message(CORE_OBJECT_FIELD_SELECTOR), No),
    Field(3, "resourceFieldRef", Message(CORE_RESOURCE_FIELD_SELECTOR), No),
    Field(4, "mode", Int, No),
];

static CORE_DOWNWARD_API_VOLUME_SOURCE: &[Field] =
    &[Field(1, "items", Message(CORE_DOWNWARD_API_VOLUME_FILE), Yes), Field(2, "defaultMode", Int, No)];

static CORE_FC_VOLUME_SOURCE: &[Field] = &[
    Field(1, "targetWWNs", Text, Yes),
    Field(2, "lun", Int, No),
    Field(3, "fsType", Text, No),
    Field(4, "readOnly", Bool, Zero),
    Field(5, "wwids", Text, Yes),
];

static CORE_AZURE_FILE_VOLUME_SOURCE: &[Field] =
    &[Field(1, "secretName", Text, No), Field(2, "shareName", Text, No), Field(3, "readOnly", Bool, Zero)];

static CORE_CONFIG_MAP_VOLUME_SOURCE: &[Field] = &[
    Field(1, "local_object_reference", Inline(CORE_LOCAL_OBJECT_REFERENCE), No),
    Field(2, "items", Message(CORE_KEY_TO_PATH), Yes),
    Field(3, "defaultMode", Int, No),
    Field(4, "optional", Bool, No),
];

static CORE_VSPHERE_VIRTUAL_DISK_VOLUME_SOURCE: &[Field] = &[
    Field(1, "volumePath", Text, No),
    Field(2, "fsType", Text, No),
    Field(3, "storagePolicyName", Text, No),
    Field(4, "storagePolicyID", Text, No),
];

static CORE_QUOBYTE_VOLUME_SOURCE: &[Field] = &[
    Field(1, "registry", Text, No),
    Field(2, "volume", Text, No),
    Field(3, "readOnly", Bool, Zero),
    Field(4, "user", Text, No),
    Field(5, "group", Text, No),
    Field(6, "tenant", Text, No),
];

static CORE_AZURE_DISK_VOLUME_SOURCE: &[Field] = &[
    Field(1, "diskName", Text, No),
    Field(2, "diskURI", Text, No),
    Field(3, "cachingMode", Text, No),
    Field(4, "fsType", Text, No),
    Field(5, "readOnly", Bool, Zero),
    Field(6, "kind", Text, No),
];

static CORE_PHOTON_PERSISTENT_DISK_VOLUME_SOURCE: &[Field] =
    &[Field(1, "pdID", Text, No), Field(2, "fsType", Text, No)];

static CORE_SECRET_PROJECTION: &[Field] = &[
    Field(1, "local_object_reference", Inline(CORE_LOCAL_OBJECT_REFERENCE), No),
    Field(2, "items", Message(CORE_KEY_TO_PATH), Yes),
    Field(4, "optional", Bool, No),
];

static CORE_DOWNWARD_API_PROJECTION: &[Field] = &[Field(1, "items", Message(CORE_DOWNWARD_API_VOLUME_FILE), Yes)];

static CORE_CONFIG_MAP_PROJECTION: &[Field] = &[
    Field(1, "local_object_reference", Inline(CORE_LOCAL_OBJECT_REFERENCE), No),
    Field(2, "items", Message(CORE_KEY_TO_PATH), Yes),
    Field(4, "optional", Bool, No),
];

static CORE_SERVICE_ACCOUNT_TOKEN_PROJECTION: &[Field] =
    &[Field(1, "audience", Text, No), Field(2, "expirationSeconds", Int, No), Field(3, "path", Text, No)];

static META_LABEL_SELECTOR_REQUIREMENT: &[Field] =
    &[Field(1, "key", Text, No), Field(2, "operator", Text, No), Field(3, "values", Text, Yes)];

static META_LABEL_SELECTOR: &[Field] = &[
    Field(1, "matchLabels", TextMap, No),
    Field(2, "matchExpressions", Message(META_LABEL_SELECTOR_REQUIREMENT), Yes),
];

static CORE_CLUSTER_TRUST_BUNDLE_PROJECTION: &[Field] = &[
    Field(1, "name", Text, No),
    Field(2, "signerName", Text, No),
    Field(3, "labelSelector", Message(META_LABEL_SELECTOR), No),
    Field(5, "optional", Bool, No),
    Field(4, "path", Text, No),
];

static CORE_POD_CERTIFICATE_PROJECTION: &[Field] = &[
    Field(1, "signerName", Text, No),
    Field(2, "keyType", Text, No),
    Field(3, "maxExpirationSeconds", Int, No),
    Field(4, "credentialBundlePath", Text, No),
    Field(5, "keyPath", Text, No),
    Field(6, "certificateChainPath", Text, No),
    Field(7, "userAnnotations", TextMap, No),
];

static CORE_VOLUME_PROJECTION: &[Field] = &[
    Field(1, "secret", Message(CORE_SECRET_PROJECTION), No),
    Field(2, "downwardAPI", Message(CORE_DOWNWARD_API_PROJECTION), No),
    Field(3, "configMap", Message(CORE_CONFIG_MAP_PROJECTION), No),
    Field(4, "serviceAccountToken", Message(CORE_SERVICE_ACCOUNT_TOKEN_PROJECTION), No),
    Field(5, "clusterTrustBundle", Message(CORE_CLUSTER_TRUST_BUNDLE_PROJECTION), No),
    Field(6, "podCertificate", Message(CORE_POD_CERTIFICATE_PROJECTION), No),
];

static CORE_PROJECTED_VOLUME_SOURCE: &[Field] =
    &[Field(1, "sources", Message(CORE_VOLUME_PROJECTION), Yes), Field(2, "defaultMode", Int, No)];

static CORE_PORTWORX_VOLUME_SOURCE: &[Field] =
    &[Field(1, "volumeID", Text, No), Field(2, "fsType", Text, No), Field(3, "readOnly", Bool, Zero)];

static CORE_SCALE_IO_VOLUME_SOURCE: &[Field] = &[
    Field(1, "gateway", Text, No),
    Field(2, "system", Text, No),
    Field(3, "secretRef", Message(CORE_LOCAL_OBJECT_REFERENCE), No),
    Field(4, "sslEnabled", Bool, No),
    Field(5, "protectionDomain", Text, No),
    Field(6, "storagePool", Text, No),
    Field(7, "storageMode", Text, No),
    Field(8, "volumeName", Text, No),
    Field(9, "fsType", Text, No),
    Field(10, "readOnly", Bool, Zero),
];

static CORE_STORAGE_OS_VOLUME_SOURCE: &[Field] = &[
    Field(1, "volumeName", Text, No),
    Field(2, "volumeNamespace", Text, No),
    Field(3, "fsType", Text, No),
    Field(4, "readOnly", Bool, Zero),
    Field(5, "secretRef", Message(CORE_LOCAL_OBJECT_REFERENCE), No),
];

static CORE_CSI_VOLUME_SOURCE: &[Field] = &[
    Field(1, "driver", Text, No),
    Field(2, "readOnly", Bool, Zero),
    Field(3, "fsType", Text, No),
    Field(4, "volumeAttributes", TextMap, No),
    Field(5, "nodePublishSecretRef", Message(CORE_LOCAL_OBJECT_REFERENCE), No),
];

static CORE_VOLUME_RESOURCE_REQUIREMENTS: &[Field] =
    &[Field(1, "limits", QuantityMap, No), Field(2, "requests", QuantityMap, No)];

static CORE_TYPED_LOCAL_OBJECT_REFERENCE: &[Field] =
    &[Field(1, "apiGroup", Text, No), Field(2, "kind", Text, No), Field(3, "name", Text, No)];

static CORE_TYPED_OBJECT_REFERENCE: &[Field] = &[
    Field(1, "apiGroup", Text, No),
    Field(2, "kind", Text, No),
    Field(3, "name", Text, No),
    Field(4, "namespace", Text, No),
];

static CORE_PERSISTENT_VOLUME_CLAIM_SPEC: &[Field] = &[
    Field(1, "accessModes", Text, Yes),
    Field(4, "selector", Message(META_LABEL_SELECTOR), No),
    Field(2, "resources", Message(CORE_VOLUME_RESOURCE_REQUIREMENTS), No),
    Field(3, "volumeName", Text, No),
    Field(5, "storageClassName", Text, No),
    Field(6, "volumeMode", Text, No),
    Field(7, "dataSource", Message(CORE_TYPED_LOCAL_OBJECT_REFERENCE), No),
    Field(8, "dataSourceRef", Message(CORE_TYPED_OBJECT_REFERENCE), No),
    Field(9, "volumeAttributesClassName", Text, No),
];

static CORE_PERSISTENT_VOLUME_CLAIM_TEMPLATE: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "spec", Message(CORE_PERSISTENT_VOLUME_CLAIM_SPEC), No),
];

static CORE_EPHEMERAL_VOLUME_SOURCE: &[Field] =
    &[Field(1, "volumeClaimTemplate", Message(CORE_PERSISTENT_VOLUME_CLAIM_TEMPLATE), No)];

static CORE_IMAGE_VOLUME_SOURCE: &[Field] = &[Field(1, "reference", Text, No), Field(2, "pullPolicy", Text, No)];

static CORE_VOLUME_SOURCE: &[Field] = &[
    Field(1, "hostPath", Message(CORE_HOST_PATH_VOLUME_SOURCE), No),
    Field(2, "emptyDir", Message(CORE_EMPTY_DIR_VOLUME_SOURCE), No),
    Field(3, "gcePersistentDisk", Message(CORE_GCE_PERSISTENT_DISK_VOLUME_SOURCE), No),
    Field(4, "awsElasticBlockStore", Message(CORE_AWS_ELASTIC_BLOCK_STORE_VOLUME_SOURCE), No),
    Field(5, "gitRepo", Message(CORE_GIT_REPO_VOLUME_SOURCE), No),
    Field(6, "secret", Message(CORE_SECRET_VOLUME_SOURCE), No),
    Field(7, "nfs", Message(CORE_NFS_VOLUME_SOURCE), No),
    Field(8, "iscsi", Message(CORE_ISCSI_VOLUME_SOURCE), No),
    Field(9, "glusterfs", Message(CORE_GLUSTERFS_VOLUME_SOURCE), No),
    Field(10, "persistentVolumeClaim", Message(CORE_PERSISTENT_VOLUME_CLAIM_VOLUME_SOURCE), No),
    Field(11, "rbd", Message(CORE_RBD_VOLUME_SOURCE), No),
    Field(12, "flexVolume", Message(CORE_FLEX_VOLUME_SOURCE), No),
    Field(13, "cinder", Message(CORE_CINDER_VOLUME_SOURCE), No),
    Field(14, "cephfs", Message(CORE_CEPH_FS_VOLUME_SOURCE), No),
    Field(15, "flocker", Message(CORE_FLOCKER_VOLUME_SOURCE), No),
    Field(16, "downwardAPI", Message(CORE_DOWNWARD_API_VOLUME_SOURCE), No),
    Field(17, "fc", Message(CORE_FC_VOLUME_SOURCE), No),
    Field(18, "azureFile", Message(CORE_AZURE_FILE_VOLUME_SOURCE), No),
    Field(19, "configMap", Message(CORE_CONFIG_MAP_VOLUME_SOURCE), No),
    Field(20, "vsphereVolume", Message(CORE_VSPHERE_VIRTUAL_DISK_VOLUME_SOURCE), No),
    Field(21, "quobyte", Message(CORE_QUOBYTE_VOLUME_SOURCE), No),
    Field(22, "azureDisk", Message(CORE_AZURE_DISK_VOLUME_SOURCE), No),
    Field(23, "photonPersistentDisk", Message(CORE_PHOTON_PERSISTENT_DISK_VOLUME_SOURCE), No),
    Field(26, "projected", Message(CORE_PROJECTED_VOLUME_SOURCE), No),
    Field(24, "portworxVolume", Message(CORE_PORTWORX_VOLUME_SOURCE), No),
    Field(25, "scaleIO", Message(CORE_SCALE_IO_VOLUME_SOURCE), No),
    Field(27, "storageos", Message(CORE_STORAGE_OS_VOLUME_SOURCE), No),
    Field(28, "csi", Message(CORE_CSI_VOLUME_SOURCE), No),
    Field(29, "ephemeral", Message(CORE_EPHEMERAL_VOLUME_SOURCE), No),
    Field(30, "image", Message(CORE_IMAGE_VOLUME_SOURCE), No),
];

static CORE_VOLUME: &[Field] = &[Field(1, "name", Text, No), Field(2, "volume_source", Inline(CORE_VOLUME_SOURCE), No)];

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

static CORE_RESOURCE_REQUIREMENTS: &[Field] = &[
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

static CORE_SE_LINUX_OPTIONS: &[Field] =
    &[Field(1, "user", Text, No), Field(2, "role", Text, No), Field(3, "type", Text, No), Field(4, "level", Text, No)];

static CORE_WINDOWS_SECURITY_CONTEXT_OPTIONS: &[Field] = &[
    Field(1, "gmsaCredentialSpecName", Text, No),
    Field(2, "gmsaCredentialSpec", Text, No),
    Field(3, "runAsUserName", Text, No),
    Field(4, "hostProcess", Bool, No),
];

static CORE_SECCOMP_PROFILE: &[Field] = &[Field(1, "type", Text, No), Field(2, "localhostProfile", Text, No)];

static CORE_APP_ARMOR_PROFILE: &[Field] = &[Field(1, "type", Text, No), Field(2, "localhostProfile", Text, No)];

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

static CORE_CONTAINER: &[Field] = &[
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

static CORE_EPHEMERAL_CONTAINER_COMMON: &[Field] = &[
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

static CORE_EPHEMERAL_CONTAINER: &[Field] = &[
    Field(1, "ephemeral_container_common", Inline(CORE_EPHEMERAL_CONTAINER_COMMON), No),
    Field(2, "targetContainerName", Text, No),
];

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

static CORE_AFFINITY: &[Field] = &[
    Field(1, "nodeAffinity", Message(CORE_NODE_AFFINITY), No),
    Field(2, "podAffinity", Message(CORE_POD_AFFINITY), No),
    Field(3, "podAntiAffinity", Message(CORE_POD_ANTI_AFFINITY), No),
];

static CORE_TOLERATION: &[Field] = &[
    Field(1, "key", Text, No),
    Field(2, "operator", Text, No),
    Field(3, "value", Text, No),
    Field(4, "effect", Text, No),
    Field(5, "tolerationSeconds", Int, No),
];

static CORE_HOST_ALIAS: &[Field] = &[Field(1, "ip", Text, No), Field(2, "hostnames", Text, Yes)];

static CORE_POD_DNS_CONFIG_OPTION: &[Field] = &[Field(1, "name", Text, No), Field(2, "value", Text, No)];

static CORE_POD_DNS_CONFIG: &[Field] = &[
    Field(1, "nameservers", Text, Yes),
    Field(2, "searches", Text, Yes),
    Field(3, "options", Message(CORE_POD_DNS_CONFIG_OPTION), Yes),
];

static CORE_POD_READINESS_GATE: &[Field] = &[Field(1, "conditionType", Text, No)];

static CORE_TOPOLOGY_SPREAD_CONSTRAINT: &[Field] = &[
    Field(1, "maxSkew", Int, No),
    Field(2, "topologyKey", Text, No),
    Field(3, "whenUnsatisfiable", Text, No),
    Field(4, "labelSelector", Message(META_LABEL_SELECTOR), No),
    Field(5, "minDomains", Int, No),
    Field(6, "nodeAffinityPolicy", Text, No),
    Field(7, "nodeTaintsPolicy", Text, No),
    Field(8, "matchLabelKeys", Text, Yes),
];

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

static CORE_POD_STATUS: &[Field] = &[
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

static CORE_POD: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "spec", Message(CORE_POD_SPEC), No),
    Field(3, "status", Message(CORE_POD_STATUS), No),
];

static CORE_SECRET: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(5, "immutable", Bool, No),
    Field(2, "data", BytesMap, No),
    Field(4, "stringData", TextMap, No),
    Field(3, "type", Text, No),
];

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

static META_CONDITION: &[Field] = &[
    Field(1, "type", Text, No),
    Field(2, "status", Text, No),
    Field(3, "observedGeneration", Int, Zero),
    Field(4, "lastTransitionTime", Time, No),
    Field(5, "reason", Text, No),
    Field(6, "message", Text, No),
];

static CORE_SERVICE_STATUS: &[Field] = &[
    Field(1, "loadBalancer", Message(CORE_LOAD_BALANCER_STATUS), No),
    Field(2, "conditions", Message(META_CONDITION), Yes),
];

static CORE_SERVICE: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "spec", Message(CORE_SERVICE_SPEC), No),
    Field(3, "status", Message(CORE_SERVICE_STATUS), No),
];

static CORE_SERVICE_ACCOUNT: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "secrets", Message(CORE_OBJECT_REFERENCE), Yes),
    Field(3, "imagePullSecrets", Message(CORE_LOCAL_OBJECT_REFERENCE), Yes),
    Field(4, "automountServiceAccountToken", Bool, No),
];

static APPS_CONTROLLER_REVISION: &[Field] =
    &[Field(1, "metadata", Message(META_OBJECT_META), No), Field(2, "data", Json, No), Field(3, "revision", Int, No)];

static CORE_POD_TEMPLATE_SPEC: &[Field] =
    &[Field(1, "metadata", Message(META_OBJECT_META), No), Field(2, "spec", Message(CORE_POD_SPEC), No)];

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

static APPS_DAEMON_SET: &[Field] = &[
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

static APPS_DEPLOYMENT: &[Field] = &[
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

static APPS_REPLICA_SET: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "spec", Message(APPS_REPLICA_SET_SPEC), No),
    Field(3, "status", Message(APPS_REPLICA_SET_STATUS), No),
];

static BATCH_POD_FAILURE_POLICY_ON_EXIT_CODES_REQUIREMENT: &[Field] =
    &[Field(1, "containerName", Text, No), Field(2, "operator", Text, No), Field(3, "values", Int, Yes)];

static BATCH_POD_FAILURE_POLICY_ON_POD_CONDITIONS_PATTERN: &[Field] =
    &[Field(1, "type", Text, No), Field(2, "status", Text, No)];

static BATCH_POD_FAILURE_POLICY_RULE: &[Field] = &[
    Field(1, "action", Text, No),
    Field(2, "onExitCodes", Message(BATCH_POD_FAILURE_POLICY_ON_EXIT_CODES_REQUIREMENT), No),
    Field(3, "onPodConditions", Message(BATCH_POD_FAILURE_POLICY_ON_POD_CONDITIONS_PATTERN), Yes),
];

static BATCH_POD_FAILURE_POLICY: &[Field] = &[Field(1, "rules", Message(BATCH_POD_FAILURE_POLICY_RULE), Yes)];

static BATCH_SUCCESS_POLICY_RULE: &[Field] =
    &[Field(1, "succeededIndexes", Text, No), Field(2, "succeededCount", Int, No)];

static BATCH_SUCCESS_POLICY: &[Field] = &[Field(1, "rules", Message(BATCH_SUCCESS_POLICY_RULE), Yes)];

static BATCH_JOB_SPEC: &[Field] = &[
    Field(1, "parallelism", Int, No),
    Field(2, "completions", Int, No),
    Field(3, "activeDeadlineSeconds", Int, No),
    Field(11, "podFailurePolicy", Message(BATCH_POD_FAILURE_POLICY), No),
    Field(16, "successPolicy", Message(BATCH_SUCCESS_POLICY), No),
    Field(7, "backoffLimit", Int, No),
    Field(12, "backoffLimitPerIndex", Int, No),
    Field(13, "maxFailedIndexes", Int, No),
    Field(4, "selector", Message(META_LABEL_SELECTOR), No),
    Field(5, "manualSelector", Bool, No),
    Field(6, "template", Message(CORE_POD_TEMPLATE_SPEC), No),
    Field(8, "ttlSecondsAfterFinished", Int, No),
    Field(9, "completionMode", Text, No),
    Field(10, "suspend", Bool, No),
    Field(14, "podReplacementPolicy", Text, No),
    Field(15, "managedBy", Text, No),
];

static BATCH_JOB_CONDITION: &[Field] = &[
    Field(1, "type", Text, No),
    Field(2, "status", Text, No),
    Field(3, "lastProbeTime", Time, No),
    Field(4, "lastTransitionTime", Time, No),
    Field(5, "reason", Text, No),
    Field(6, "message", Text, No),
];

static BATCH_UNCOUNTED_TERMINATED_PODS: &[Field] = &[Field(1, "succeeded", Text, Yes), Field(2, "failed", Text, Yes)];

static BATCH_JOB_STATUS: &[Field] = &[
    Field(1, "conditions", Message(BATCH_JOB_CONDITION), Yes),
    Field(2, "startTime", Time, No),
    Field(3, "completionTime", Time, No),
    Field(4, "active", Int, No),
    Field(5, "succeeded", Int, No),
    Field(6, "failed", Int, No),
    Field(11, "terminating", Int, No),
    Field(7, "completedIndexes", Text, No),
    Field(10, "failedIndexes", Text, No),
    Field(8, "uncountedTerminatedPods", Message(BATCH_UNCOUNTED_TERMINATED_PODS), No),
    Field(9, "ready", Int, No),
];

static BATCH_JOB: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "spec", Message(BATCH_JOB_SPEC), No),
    Field(3, "status", Message(BATCH_JOB_STATUS), No),
];

static CERTIFICATES_CERTIFICATE_SIGNING_REQUEST_SPEC: &[Field] = &[
    Field(1, "request", Bytes, No),
    Field(7, "signerName", Text, No),
    Field(8, "expirationSeconds", Int, No),
    Field(5, "usages", Text, Yes),
    Field(2, "username", Text, No),
    Field(3, "uid", Text, No),
    Field(4, "groups", Text, Yes),
    Field(6, "extra", TextListMap, No),
];

static CERTIFICATES_CERTIFICATE_SIGNING_REQUEST_CONDITION: &[Field] = &[
    Field(1, "type", Text, No),
    Field(6, "status", Text, No),
    Field(2, "reason", Text, No),
    Field(3, "message", Text, No),
    Field(4, "lastUpdateTime", Time, No),
    Field(5, "lastTransitionTime", Time, No),
];

static CERTIFICATES_CERTIFICATE_SIGNING_REQUEST_STATUS: &[Field] = &[
    Field(1, "conditions", Message(CERTIFICATES_CERTIFICATE_SIGNING_REQUEST_CONDITION), Yes),
    Field(2, "certificate", Bytes, No),
];

static CERTIFICATES_CERTIFICATE_SIGNING_REQUEST: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "spec", Message(CERTIFICATES_CERTIFICATE_SIGNING_REQUEST_SPEC), No),
    Field(3, "status", Message(CERTIFICATES_CERTIFICATE_SIGNING_REQUEST_STATUS), No),
];

static COORDINATION_LEASE_SPEC: &[Field] = &[
    Field(1, "holderIdentity", Text, No),
    Field(2, "leaseDurationSeconds", Int, No),
    Field(3, "acquireTime", MicroTime, No),
    Field(4, "renewTime", MicroTime, No),
    Field(5, "leaseTransitions", Int, No),
    Field(6, "strategy", Text, No),
    Field(7, "preferredHolder", Text, No),
];

static COORDINATION_LEASE: &[Field] =
    &[Field(1, "metadata", Message(META_OBJECT_META), No), Field(2, "spec", Message(COORDINATION_LEASE_SPEC), No)];

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

static DISCOVERY_ENDPOINT_SLICE: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(4, "addressType", Text, No),
    Field(2, "endpoints", Message(DISCOVERY_ENDPOINT), Yes),
    Field(3, "ports", Message(DISCOVERY_ENDPOINT_PORT), Yes),
];

static SCHEDULING_PRIORITY_CLASS: &[Field] = &[
    Field(1, "metadata", Message(META_OBJECT_META), No),
    Field(2, "value", Int, No),
    Field(3, "globalDefault", Bool, No),
    Field(4, "description", Text, No),
    Field(5, "preemptionPolicy", Text, No),
];
