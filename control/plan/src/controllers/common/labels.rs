//! Label selectors over labels.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// A label map as metadata holds it.
pub type Labels = BTreeMap<String, String>;

/// Whether `labels` satisfy the selector. An empty selector matches everything, as in Kubernetes.
pub fn matches(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    selector.match_labels.iter().flatten().all(|(k, v)| value(labels, k) == Some(v))
        && selector.match_expressions.iter().flatten().all(|r| requirement(r, labels))
}

/// Whether `labels` hold every pair of an equality selector.
pub fn contains(selector: &Labels, labels: Option<&Labels>) -> bool {
    selector.iter().all(|(k, v)| value(labels, k) == Some(v))
}

/// Whether the selector matches everything, which workloads refuse.
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

fn value<'a>(labels: Option<&'a Labels>, key: &str) -> Option<&'a String> {
    labels.and_then(|l| l.get(key))
}

fn requirement(r: &LabelSelectorRequirement, labels: Option<&Labels>) -> bool {
    let found = value(labels, &r.key);
    let listed = || found.is_some_and(|v| r.values.iter().flatten().any(|x| x == v));
    match r.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        // Validation refuses every other word; matching nothing is the safe side.
        _ => false,
    }
}
