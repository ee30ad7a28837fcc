//! Volumes and their sources.

use super::common::CORE_LOCAL_OBJECT_REFERENCE;
use super::meta::{META_LABEL_SELECTOR, META_OBJECT_META};
use crate::serve::proto::Field;
use crate::serve::proto::Repeat::{No, Yes, Zero};
use crate::serve::proto::Type::{Bool, Inline, Int, Message, Quantity, QuantityMap, Text, TextMap};

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

pub(super) static CORE_OBJECT_FIELD_SELECTOR: &[Field] =
    &[Field(1, "apiVersion", Text, No), Field(2, "fieldPath", Text, No)];

pub(super) static CORE_RESOURCE_FIELD_SELECTOR: &[Field] =
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

pub(super) static CORE_VOLUME: &[Field] =
    &[Field(1, "name", Text, No), Field(2, "volume_source", Inline(CORE_VOLUME_SOURCE), No)];
