//! Which lists merge by which key, as data.
//!
//! Owns: the `x-kubernetes-patch-strategy` and `x-kubernetes-patch-merge-key` facts of the Kubernetes v1.37 OpenAPI
//! schemas, and the way to them through nested types. Types that need neither are absent: their objects merge, their
//! lists are replaced. Does not own: applying them.

/// How a patch treats a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// JSON name.
    pub name: &'static str,
    /// Schema name of the value (or of the list's or map's items); empty where nothing below needs a rule.
    pub child: &'static str,
    /// `merge`, `replace`, `retainKeys`, `merge,retainKeys`, or empty.
    pub strategy: &'static str,
    /// Which field tells a list's items apart; empty for lists of scalars.
    pub merge_key: &'static str,
}

impl Field {
    /// Whether the list is merged item by item.
    pub fn merges(&self) -> bool {
        self.strategy.split(',').any(|part| part == "merge")
    }
    /// Whether the object or list is replaced as a whole.
    pub fn replaces(&self) -> bool {
        self.strategy.split(',').any(|part| part == "replace")
    }
}

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const METADATA: Field = Field { name: "metadata", child: OBJECT_META, strategy: "", merge_key: "" };

/// The rule for a field of a type (schema names such as `io.k8s.api.core.v1.PodSpec`).
pub fn field(schema: &str, name: &str) -> Option<&'static Field> {
    let index = TYPES.binary_search_by(|(known, _)| (*known).cmp(schema)).ok();
    let found = index.and_then(|index| TYPES[index].1.iter().find(|field| field.name == name));
    found.or_else(|| (name == "metadata" && schema != OBJECT_META).then_some(&METADATA))
}

/// All rules for a type's fields.
pub fn fields(schema: &str) -> &'static [Field] {
    TYPES.binary_search_by(|(known, _)| (*known).cmp(schema)).map_or(&[], |index| TYPES[index].1)
}

const fn nested(name: &'static str, child: &'static str) -> Field {
    Field { name, child, strategy: "", merge_key: "" }
}
const fn keyed(name: &'static str, merge_key: &'static str) -> Field {
    Field { name, child: "", strategy: "merge", merge_key }
}
const fn rule(name: &'static str, child: &'static str, strategy: &'static str, merge_key: &'static str) -> Field {
    Field { name, child, strategy, merge_key }
}

/// Sorted by schema name.
const TYPES: &[(&str, &[Field])] = &[
    (
        "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
        &[nested("spec", "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicySpec")],
    ),
    ("io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicySpec", &[keyed("matchConditions", "name")]),
    ("io.k8s.api.admissionregistration.v1.MutatingWebhook", &[keyed("matchConditions", "name")]),
    (
        "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
        &[rule("webhooks", "io.k8s.api.admissionregistration.v1.MutatingWebhook", "merge", "name")],
    ),
    (
        "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
        &[nested("spec", "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicySpec")],
    ),
    (
        "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicySpec",
        &[keyed("matchConditions", "name"), keyed("variables", "name")],
    ),
    ("io.k8s.api.admissionregistration.v1.ValidatingWebhook", &[keyed("matchConditions", "name")]),
    (
        "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
        &[rule("webhooks", "io.k8s.api.admissionregistration.v1.ValidatingWebhook", "merge", "name")],
    ),
    (
        "io.k8s.api.apps.v1.DaemonSet",
        &[nested("spec", "io.k8s.api.apps.v1.DaemonSetSpec"), nested("status", "io.k8s.api.apps.v1.DaemonSetStatus")],
    ),
    ("io.k8s.api.apps.v1.DaemonSetSpec", &[nested("template", "io.k8s.api.core.v1.PodTemplateSpec")]),
    ("io.k8s.api.apps.v1.DaemonSetStatus", &[keyed("conditions", "type")]),
    (
        "io.k8s.api.apps.v1.Deployment",
        &[nested("spec", "io.k8s.api.apps.v1.DeploymentSpec"), nested("status", "io.k8s.api.apps.v1.DeploymentStatus")],
    ),
    (
        "io.k8s.api.apps.v1.DeploymentSpec",
        &[rule("strategy", "", "retainKeys", ""), nested("template", "io.k8s.api.core.v1.PodTemplateSpec")],
    ),
    ("io.k8s.api.apps.v1.DeploymentStatus", &[keyed("conditions", "type")]),
    (
        "io.k8s.api.apps.v1.ReplicaSet",
        &[nested("spec", "io.k8s.api.apps.v1.ReplicaSetSpec"), nested("status", "io.k8s.api.apps.v1.ReplicaSetStatus")],
    ),
    ("io.k8s.api.apps.v1.ReplicaSetSpec", &[nested("template", "io.k8s.api.core.v1.PodTemplateSpec")]),
    ("io.k8s.api.apps.v1.ReplicaSetStatus", &[keyed("conditions", "type")]),
    (
        "io.k8s.api.apps.v1.StatefulSet",
        &[
            nested("spec", "io.k8s.api.apps.v1.StatefulSetSpec"),
            nested("status", "io.k8s.api.apps.v1.StatefulSetStatus"),
        ],
    ),
    (
        "io.k8s.api.apps.v1.StatefulSetSpec",
        &[
            nested("template", "io.k8s.api.core.v1.PodTemplateSpec"),
            nested("volumeClaimTemplates", "io.k8s.api.core.v1.PersistentVolumeClaim"),
        ],
    ),
    ("io.k8s.api.apps.v1.StatefulSetStatus", &[keyed("conditions", "type")]),
    (
        "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
        &[nested("status", "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerStatus")],
    ),
    ("io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerStatus", &[keyed("conditions", "type")]),
    ("io.k8s.api.batch.v1.CronJob", &[nested("spec", "io.k8s.api.batch.v1.CronJobSpec")]),
    ("io.k8s.api.batch.v1.CronJobSpec", &[nested("jobTemplate", "io.k8s.api.batch.v1.JobTemplateSpec")]),
    (
        "io.k8s.api.batch.v1.Job",
        &[nested("spec", "io.k8s.api.batch.v1.JobSpec"), nested("status", "io.k8s.api.batch.v1.JobStatus")],
    ),
    ("io.k8s.api.batch.v1.JobSchedulingConfiguration", &[keyed("resourceClaims", "name")]),
    (
        "io.k8s.api.batch.v1.JobSpec",
        &[
            nested("scheduling", "io.k8s.api.batch.v1.JobSchedulingConfiguration"),
            nested("template", "io.k8s.api.core.v1.PodTemplateSpec"),
        ],
    ),
    ("io.k8s.api.batch.v1.JobStatus", &[keyed("conditions", "type")]),
    ("io.k8s.api.batch.v1.JobTemplateSpec", &[nested("spec", "io.k8s.api.batch.v1.JobSpec")]),
    (
        "io.k8s.api.certificates.v1.PodCertificateRequest",
        &[nested("status", "io.k8s.api.certificates.v1.PodCertificateRequestStatus")],
    ),
    ("io.k8s.api.certificates.v1.PodCertificateRequestStatus", &[keyed("conditions", "type")]),
    ("io.k8s.api.core.v1.ComponentStatus", &[keyed("conditions", "type")]),
    (
        "io.k8s.api.core.v1.Container",
        &[
            keyed("env", "name"),
            keyed("ports", "containerPort"),
            keyed("volumeDevices", "devicePath"),
            keyed("volumeMounts", "mountPath"),
        ],
    ),
    (
        "io.k8s.api.core.v1.ContainerStatus",
        &[keyed("allocatedResourcesStatus", "name"), keyed("volumeMounts", "mountPath")],
    ),
    (
        "io.k8s.api.core.v1.EphemeralContainer",
        &[
            keyed("env", "name"),
            keyed("ports", "containerPort"),
            keyed("volumeDevices", "devicePath"),
            keyed("volumeMounts", "mountPath"),
        ],
    ),
    (
        "io.k8s.api.core.v1.EphemeralVolumeSource",
        &[nested("volumeClaimTemplate", "io.k8s.api.core.v1.PersistentVolumeClaimTemplate")],
    ),
    ("io.k8s.api.core.v1.Namespace", &[nested("status", "io.k8s.api.core.v1.NamespaceStatus")]),
    ("io.k8s.api.core.v1.NamespaceStatus", &[keyed("conditions", "type")]),
    (
        "io.k8s.api.core.v1.Node",
        &[nested("spec", "io.k8s.api.core.v1.NodeSpec"), nested("status", "io.k8s.api.core.v1.NodeStatus")],
    ),
    ("io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus", &[keyed("mapping", "name"), keyed("overhead", "name")]),
    ("io.k8s.api.core.v1.NodeSpec", &[keyed("podCIDRs", "")]),
    ("io.k8s.api.core.v1.NodeStatus", &[keyed("addresses", "type"), keyed("conditions", "type")]),
    ("io.k8s.api.core.v1.PersistentVolumeClaim", &[nested("status", "io.k8s.api.core.v1.PersistentVolumeClaimStatus")]),
    (
        "io.k8s.api.core.v1.PersistentVolumeClaimStatus",
        &[keyed("conditions", "type"), nested("healthStatus", "io.k8s.api.core.v1.VolumeHealthStatus")],
    ),
    (
        "io.k8s.api.core.v1.Pod",
        &[nested("spec", "io.k8s.api.core.v1.PodSpec"), nested("status", "io.k8s.api.core.v1.PodStatus")],
    ),
    (
        "io.k8s.api.core.v1.PodSpec",
        &[
            rule("containers", "io.k8s.api.core.v1.Container", "merge", "name"),
            rule("ephemeralContainers", "io.k8s.api.core.v1.EphemeralContainer", "merge", "name"),
            keyed("evictionResponders", "name"),
            keyed("hostAliases", "ip"),
            keyed("imagePullSecrets", "name"),
            rule("initContainers", "io.k8s.api.core.v1.Container", "merge", "name"),
            rule("resourceClaims", "", "merge,retainKeys", "name"),
            keyed("schedulingGates", "name"),
            keyed("topologySpreadConstraints", "topologyKey"),
            rule("volumes", "io.k8s.api.core.v1.Volume", "merge,retainKeys", "name"),
        ],
    ),
    (
        "io.k8s.api.core.v1.PodStatus",
        &[
            keyed("conditions", "type"),
            nested("containerStatuses", "io.k8s.api.core.v1.ContainerStatus"),
            nested("ephemeralContainerStatuses", "io.k8s.api.core.v1.ContainerStatus"),
            keyed("hostIPs", "ip"),
            nested("initContainerStatuses", "io.k8s.api.core.v1.ContainerStatus"),
            rule(
                "nodeAllocatableResourceClaimStatuses",
                "io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus",
                "merge",
                "resourceClaimName",
            ),
            keyed("podIPs", "ip"),
            rule("resourceClaimStatuses", "", "merge,retainKeys", "name"),
            nested("volumeHealth", "io.k8s.api.core.v1.PodVolumeHealth"),
        ],
    ),
    ("io.k8s.api.core.v1.PodTemplate", &[nested("template", "io.k8s.api.core.v1.PodTemplateSpec")]),
    ("io.k8s.api.core.v1.PodTemplateSpec", &[nested("spec", "io.k8s.api.core.v1.PodSpec")]),
    ("io.k8s.api.core.v1.PodVolumeHealth", &[keyed("healthConditions", "status")]),
    (
        "io.k8s.api.core.v1.ReplicationController",
        &[
            nested("spec", "io.k8s.api.core.v1.ReplicationControllerSpec"),
            nested("status", "io.k8s.api.core.v1.ReplicationControllerStatus"),
        ],
    ),
    ("io.k8s.api.core.v1.ReplicationControllerSpec", &[nested("template", "io.k8s.api.core.v1.PodTemplateSpec")]),
    ("io.k8s.api.core.v1.ReplicationControllerStatus", &[keyed("conditions", "type")]),
    (
        "io.k8s.api.core.v1.Service",
        &[nested("spec", "io.k8s.api.core.v1.ServiceSpec"), nested("status", "io.k8s.api.core.v1.ServiceStatus")],
    ),
    ("io.k8s.api.core.v1.ServiceAccount", &[keyed("secrets", "name")]),
    ("io.k8s.api.core.v1.ServiceSpec", &[keyed("ports", "port")]),
    ("io.k8s.api.core.v1.ServiceStatus", &[keyed("conditions", "type")]),
    ("io.k8s.api.core.v1.Volume", &[nested("ephemeral", "io.k8s.api.core.v1.EphemeralVolumeSource")]),
    ("io.k8s.api.core.v1.VolumeHealthStatus", &[keyed("healthConditions", "status")]),
    ("io.k8s.api.flowcontrol.v1.FlowSchema", &[nested("status", "io.k8s.api.flowcontrol.v1.FlowSchemaStatus")]),
    ("io.k8s.api.flowcontrol.v1.FlowSchemaStatus", &[keyed("conditions", "type")]),
    (
        "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration",
        &[nested("status", "io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationStatus")],
    ),
    ("io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationStatus", &[keyed("conditions", "type")]),
    ("io.k8s.api.networking.v1.ServiceCIDR", &[nested("status", "io.k8s.api.networking.v1.ServiceCIDRStatus")]),
    ("io.k8s.api.networking.v1.ServiceCIDRStatus", &[keyed("conditions", "type")]),
    (
        "io.k8s.api.policy.v1.PodDisruptionBudget",
        &[
            nested("spec", "io.k8s.api.policy.v1.PodDisruptionBudgetSpec"),
            nested("status", "io.k8s.api.policy.v1.PodDisruptionBudgetStatus"),
        ],
    ),
    ("io.k8s.api.policy.v1.PodDisruptionBudgetSpec", &[rule("selector", "", "replace", "")]),
    ("io.k8s.api.policy.v1.PodDisruptionBudgetStatus", &[keyed("conditions", "type")]),
    ("io.k8s.api.resource.v1.DeviceTaintRule", &[nested("status", "io.k8s.api.resource.v1.DeviceTaintRuleStatus")]),
    ("io.k8s.api.resource.v1.DeviceTaintRuleStatus", &[keyed("conditions", "type")]),
    ("io.k8s.api.resource.v1.ResourceClaim", &[nested("status", "io.k8s.api.resource.v1.ResourceClaimStatus")]),
    ("io.k8s.api.resource.v1.ResourceClaimStatus", &[keyed("reservedFor", "uid")]),
    (
        "io.k8s.api.resource.v1.ResourceClaimTemplate",
        &[nested("spec", "io.k8s.api.resource.v1.ResourceClaimTemplateSpec")],
    ),
    (
        "io.k8s.api.storage.v1.CSINode",
        &[nested("spec", "io.k8s.api.storage.v1.CSINodeSpec"), nested("status", "io.k8s.api.storage.v1.CSINodeStatus")],
    ),
    ("io.k8s.api.storage.v1.CSINodeSpec", &[keyed("drivers", "name")]),
    ("io.k8s.api.storage.v1.CSINodeStatus", &[keyed("storageHealth", "name")]),
    (
        "io.k8s.api.storagemigration.v1.StorageVersionMigration",
        &[nested("status", "io.k8s.api.storagemigration.v1.StorageVersionMigrationStatus")],
    ),
    ("io.k8s.api.storagemigration.v1.StorageVersionMigrationStatus", &[keyed("conditions", "type")]),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
        &[nested("spec", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionSpec")],
    ),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionSpec",
        &[nested(
            "versions",
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionVersion",
        )],
    ),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionVersion",
        &[nested("schema", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceValidation")],
    ),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceValidation",
        &[nested("openAPIV3Schema", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")],
    ),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps",
        &[
            nested("allOf", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"),
            nested("anyOf", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"),
            nested("definitions", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"),
            nested("not", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"),
            nested("oneOf", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"),
            nested("patternProperties", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"),
            nested("properties", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"),
            keyed("x-kubernetes-validations", "rule"),
        ],
    ),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", &[keyed("finalizers", ""), keyed("ownerReferences", "uid")]),
    (
        "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService",
        &[nested("status", "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIServiceStatus")],
    ),
    ("io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIServiceStatus", &[keyed("conditions", "type")]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_leads_somewhere() {
        assert!(TYPES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (schema, fields) in TYPES {
            for field in *fields {
                let known = TYPES.binary_search_by(|(name, _)| (*name).cmp(field.child)).is_ok();
                // PersistentVolumeClaim(Template) and the like lead to nothing but metadata.
                assert!(field.child.is_empty() || known || field.strategy.is_empty(), "{schema}.{}", field.name);
            }
        }
        assert_eq!(field("io.k8s.api.core.v1.PodSpec", "containers").map(|f| f.merge_key), Some("name"));
        assert_eq!(field("io.k8s.api.core.v1.Pod", "metadata").map(|f| f.child), Some(OBJECT_META));
        assert_eq!(field("io.k8s.api.core.v1.Pod", "nothing"), None);
    }
}
