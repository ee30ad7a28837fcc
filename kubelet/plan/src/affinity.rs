//! Whether a node is one that a pod's required node affinity allows.
//!
//! Owns: the matching of terms, for the last look before a pod is taken. Does not own: preferences (the scheduler).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

/// Whether any term holds; a term without requirements never does.
pub fn matches(selector: &NodeSelector, name: &str, labels: &BTreeMap<String, String>) -> bool {
    selector.node_selector_terms.iter().any(|term| term_holds(term, name, labels))
}

fn term_holds(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let of_labels = term.match_expressions.as_deref().unwrap_or_default();
    let of_fields = term.match_fields.as_deref().unwrap_or_default();
    let field = |key: &str| (key == "metadata.name").then_some(name);
    (!of_labels.is_empty() || !of_fields.is_empty())
        && of_labels.iter().all(|r| holds(r, labels.get(&r.key).map(String::as_str)))
        && of_fields.iter().all(|r| holds(r, field(&r.key)))
}

fn holds(requirement: &NodeSelectorRequirement, found: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = found.is_some_and(|value| values.iter().any(|v| v == value));
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
    let both = number(found).zip(number(values.first().map(String::as_str)));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => both.is_some_and(|(has, than)| has > than),
        "Lt" => both.is_some_and(|(has, than)| has < than),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_operator_is_read_as_the_scheduler_reads_it() {
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned()), ("cores".to_owned(), "8".to_owned())]);
        let table = [
            (r#"{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}"#, true),
            (r#"{"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}"#, false),
            (r#"{"matchExpressions": [{"key": "none", "operator": "NotIn", "values": ["a"]}]}"#, true),
            (r#"{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}"#, true),
            (r#"{"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}"#, false),
            (r#"{"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["7"]}]}"#, true),
            (r#"{"matchExpressions": [{"key": "cores", "operator": "Lt", "values": ["8"]}]}"#, false),
            (r#"{"matchExpressions": [{"key": "zone", "operator": "Gt", "values": ["7"]}]}"#, false),
            (r#"{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}"#, true),
            (r#"{"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n"]}]}"#, false),
            (r#"{}"#, false),
        ];
        for (term, wanted) in table {
            let term = serde_json::from_str(term).unwrap();
            let selector = NodeSelector { node_selector_terms: vec![term] };
            assert_eq!(matches(&selector, "n", &labels), wanted, "{selector:?}");
        }
    }
}
