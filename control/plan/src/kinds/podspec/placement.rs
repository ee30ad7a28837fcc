//! Rules for where a pod may go: tolerations, affinity, spreading.

use k8s_openapi::api::core::v1::{Affinity, NodeSelectorTerm, PodAffinityTerm, PodSpec, Toleration};
use pintle_api::field::{FieldErrors, Path};
use pintle_api::name;

use super::common;

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Everything the scheduler reads.
pub(super) fn validate(spec: &PodSpec, path: &Path, errors: &mut FieldErrors) {
    for (index, one) in spec.tolerations.iter().flatten().enumerate() {
        toleration(one, &path.child("tolerations").index(index), errors);
    }
    if let Some(affinity) = &spec.affinity {
        node_affinity(affinity, &path.child("affinity").child("nodeAffinity"), errors);
        pod_affinities(affinity, &path.child("affinity"), errors);
    }
    spreading(spec, &path.child("topologySpreadConstraints"), errors);
}

fn toleration(toleration: &Toleration, path: &Path, errors: &mut FieldErrors) {
    let key = toleration.key.as_deref().unwrap_or("");
    let operator = toleration.operator.as_deref().unwrap_or("");
    let effect = toleration.effect.as_deref().unwrap_or("");
    if key.is_empty() {
        if operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&path.child("operator"), operator, why);
        }
    } else {
        errors.invalid_each(&path.child("key"), key, name::qualified(key));
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.invalid(&path.child("effect"), effect, why);
    }
    let value = toleration.value.as_deref().unwrap_or("");
    match operator {
        "" | "Equal" => errors.invalid_each(&path.child("value"), value, name::label_value(value)),
        "Exists" if !value.is_empty() => {
            errors.invalid(&path.child("operator"), value, "value must be empty when `operator` is 'Exists'");
        }
        "Exists" => {}
        other => errors.not_supported(&path.child("operator"), other, &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        errors.one_of(&path.child("effect"), Some(effect), EFFECTS);
    }
}

fn node_affinity(affinity: &Affinity, path: &Path, errors: &mut FieldErrors) {
    let Some(affinity) = &affinity.node_affinity else { return };
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        let path = path.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
        if required.node_selector_terms.is_empty() {
            errors.required(&path, "must have at least one node selector term");
        }
        for (index, term) in required.node_selector_terms.iter().enumerate() {
            node_term(term, &path.index(index), errors);
        }
    }
    let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
    for (index, preferred) in preferred.enumerate() {
        let path = path.child("preferredDuringSchedulingIgnoredDuringExecution").index(index);
        weight(preferred.weight, &path, errors);
        node_term(&preferred.preference, &path.child("preference"), errors);
    }
}

fn weight(weight: i32, path: &Path, errors: &mut FieldErrors) {
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

fn node_term(term: &NodeSelectorTerm, path: &Path, errors: &mut FieldErrors) {
    for (index, requirement) in term.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let count = requirement.values.as_ref().map_or(0, Vec::len);
        match requirement.operator.as_str() {
            "In" | "NotIn" if count == 0 => {
                errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'")
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if count > 0 => errors
                .forbidden(&path.child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"),
            "Exists" | "DoesNotExist" => {}
            "Gt" | "Lt" if count != 1 => {
                errors
                    .required(&path.child("values"), "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
            "Gt" | "Lt" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        errors.invalid_each(&path.child("key"), &requirement.key, name::qualified(&requirement.key));
    }
    for (index, requirement) in term.match_fields.iter().flatten().enumerate() {
        let path = path.child("matchFields").index(index);
        if requirement.key != "metadata.name" {
            errors.invalid(&path.child("key"), &requirement.key, "not a valid field selector key");
        }
        if requirement.values.as_ref().map_or(0, Vec::len) != 1 {
            errors.required(
                &path.child("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            );
        }
    }
}

fn pod_affinities(affinity: &Affinity, path: &Path, errors: &mut FieldErrors) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let towards = affinity.pod_affinity.iter().map(|a| {
        let lists = (
            &a.required_during_scheduling_ignored_during_execution,
            &a.preferred_during_scheduling_ignored_during_execution,
        );
        ("podAffinity", lists)
    });
    let away = affinity.pod_anti_affinity.iter().map(|a| {
        let lists = (
            &a.required_during_scheduling_ignored_during_execution,
            &a.preferred_during_scheduling_ignored_during_execution,
        );
        ("podAntiAffinity", lists)
    });
    for (field, (required, preferred)) in towards.chain(away) {
        let path = path.child(field);
        for (index, term) in required.iter().flatten().enumerate() {
            pod_term(term, &path.child(REQUIRED).index(index), errors);
        }
        for (index, weighted) in preferred.iter().flatten().enumerate() {
            let path = path.child(PREFERRED).index(index);
            weight(weighted.weight, &path, errors);
            pod_term(&weighted.pod_affinity_term, &path.child("podAffinityTerm"), errors);
        }
    }
}

fn pod_term(term: &PodAffinityTerm, path: &Path, errors: &mut FieldErrors) {
    common::label_selector(term.label_selector.as_ref(), &path.child("labelSelector"), errors);
    common::label_selector(term.namespace_selector.as_ref(), &path.child("namespaceSelector"), errors);
    if term.topology_key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    } else {
        errors.invalid_each(&path.child("topologyKey"), &term.topology_key, name::qualified(&term.topology_key));
    }
}

fn spreading(spec: &PodSpec, path: &Path, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for (index, constraint) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        let path = path.index(index);
        if constraint.max_skew <= 0 {
            errors.invalid(&path.child("maxSkew"), constraint.max_skew, "must be greater than zero");
        }
        if constraint.topology_key.is_empty() {
            errors.required(&path.child("topologyKey"), "can not be empty");
        }
        let when = constraint.when_unsatisfiable.as_str();
        errors.one_of(&path.child("whenUnsatisfiable"), Some(when), &["DoNotSchedule", "ScheduleAnyway"]);
        let pair = (constraint.topology_key.as_str(), when);
        if seen.contains(&pair) {
            errors.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), format!("{{{}, {}}}", pair.0, pair.1));
        }
        seen.push(pair);
        if let Some(domains) = constraint.min_domains {
            if domains <= 0 {
                errors.invalid(&path.child("minDomains"), domains, "must be greater than zero");
            } else if when != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when:?}");
                errors.invalid(&path.child("minDomains"), domains, why);
            }
        }
        for (field, policy) in [
            ("nodeAffinityPolicy", constraint.node_affinity_policy.as_deref()),
            ("nodeTaintsPolicy", constraint.node_taints_policy.as_deref()),
        ] {
            if policy.is_some() {
                errors.one_of(&path.child(field), policy, &["Ignore", "Honor"]);
            }
        }
        common::label_selector(constraint.label_selector.as_ref(), &path.child("labelSelector"), errors);
    }
}
