//! Rules and cells that many kinds share.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use pintle_api::field::{FieldErrors, Path};
use pintle_api::quantity::Amount;
use pintle_api::selector::Selector;
use pintle_api::{intstr, metadata, name, time};
use serde_json::Value;

/// What kubectl shows for nothing.
pub(crate) const NONE: &str = "<none>";

/// The `Name` cell.
pub(crate) fn name_cell(metadata: &ObjectMeta) -> Value {
    metadata.name.clone().unwrap_or_default().into()
}

/// The `Age` cell.
pub(crate) fn age(metadata: &ObjectMeta, now: Timestamp) -> Value {
    time::age(metadata.creation_timestamp.as_ref(), now).into()
}

/// A text, or `<none>` if it is absent or empty.
pub(crate) fn or_none(text: Option<&str>) -> Value {
    text.filter(|text| !text.is_empty()).unwrap_or(NONE).into()
}

/// `a=b,c=d`, or `<none>`.
pub(crate) fn labels_cell(labels: Option<&BTreeMap<String, String>>) -> Value {
    let pairs: Vec<String> = labels.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    or_none(Some(&pairs.join(",")))
}

/// A selector in string form. An unreadable one, which validation keeps out, shows as nothing.
pub(crate) fn selector_text(selector: Option<&LabelSelector>) -> String {
    Selector::from_object(selector).map(|selector| selector.to_string()).unwrap_or_default()
}

/// Cells `Containers` and `Images` of a workload.
pub(crate) fn container_cells(template: Option<&PodTemplateSpec>) -> [Value; 2] {
    let containers = || template.and_then(|t| t.spec.as_ref()).into_iter().flat_map(|spec| &spec.containers);
    let names: Vec<&str> = containers().map(|container| container.name.as_str()).collect();
    let images: Vec<&str> = containers().map(|container| container.image.as_deref().unwrap_or("")).collect();
    [names.join(",").into(), images.join(",").into()]
}

/// Rules of a metav1.LabelSelector.
pub(crate) fn label_selector(selector: Option<&LabelSelector>, path: &Path, errors: &mut FieldErrors) {
    let Some(selector) = selector else { return };
    metadata::labels(selector.match_labels.iter().flatten(), &path.child("matchLabels"), errors);
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let empty = expression.values.as_ref().is_none_or(Vec::is_empty);
        match expression.operator.as_str() {
            "In" | "NotIn" if empty => {
                errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'")
            }
            "Exists" | "DoesNotExist" if !empty => errors
                .forbidden(&path.child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        errors.invalid_each(&path.child("key"), &expression.key, name::qualified(&expression.key));
        for (index, value) in expression.values.iter().flatten().enumerate() {
            errors.invalid_each(&path.child("values").index(index), value, name::label_value(value));
        }
    }
}

/// A workload's selector: present, not empty, and matching its own template.
pub(crate) fn workload_selector(
    selector: &LabelSelector,
    template: Option<&PodTemplateSpec>,
    kind: &str,
    path: &Path,
    errors: &mut FieldErrors,
) {
    let path_selector = path.child("selector");
    label_selector(Some(selector), &path_selector, errors);
    let empty = selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
    if empty {
        let why = format!("empty selector is invalid for {kind}");
        errors.invalid(&path_selector, pintle_api::field::json(selector), why);
        return;
    }
    let labels = template.and_then(|template| template.metadata.as_ref()).and_then(|meta| meta.labels.as_ref());
    if let Ok(parsed) = Selector::from_object(Some(selector))
        && !parsed.matches(labels)
    {
        let path = path.child("template").child("metadata").child("labels");
        let shown = pintle_api::field::json(&labels.cloned().unwrap_or_default());
        errors.invalid(&path, shown, "`selector` does not match template `labels`");
    }
}

/// Whether a resource name is neither native (cpu, memory, …) nor in a kubernetes.io domain.
pub(crate) fn is_extended_resource(resource: &str) -> bool {
    resource.contains('/') && !resource.contains("kubernetes.io/")
}

const NATIVE_RESOURCES: &[&str] = &["cpu", "memory", "ephemeral-storage"];

/// Names and amounts of `requests`, `limits`, `overhead`.
pub(crate) fn resource_list(list: Option<&BTreeMap<String, Quantity>>, path: &Path, errors: &mut FieldErrors) {
    for (resource, quantity) in list.into_iter().flatten() {
        let path = path.key(resource);
        let known = NATIVE_RESOURCES.contains(&resource.as_str()) || resource.starts_with("hugepages-");
        if !known && !resource.contains('/') {
            errors.invalid(&path, resource, "must be a standard resource type or fully qualified");
            errors.invalid(&path, resource, "must be a standard resource for containers");
        } else {
            errors.invalid_each(&path, resource, name::qualified(resource));
        }
        match Amount::of(quantity) {
            Err(error) => errors.invalid(&path, &quantity.0, error.to_string()),
            Ok(amount) if amount.is_negative() => {
                errors.invalid(&path, &quantity.0, "must be greater than or equal to 0");
            }
            Ok(amount) if is_extended_resource(resource) && !amount.is_whole() => {
                errors.invalid(&path, &quantity.0, "must be an integer");
            }
            Ok(_) => {}
        }
    }
}

/// A path that stays below where it starts.
pub(crate) fn relative_path(text: &str, path: &Path, errors: &mut FieldErrors) {
    if text.starts_with('/') {
        errors.invalid(path, text, "must be a relative path");
    }
    if text.split('/').any(|step| step == "..") {
        errors.invalid(path, text, "must not contain '..'");
    }
}

/// Whether a number or percentage is nothing.
pub(crate) fn is_zero(value: &IntOrString) -> bool {
    match value {
        IntOrString::Int(number) => *number == 0,
        IntOrString::String(text) => intstr::percent(text) == Some(0),
    }
}

/// A number that is not negative, or a percentage.
pub(crate) fn int_or_percent(value: &IntOrString, path: &Path, errors: &mut FieldErrors) {
    match value {
        IntOrString::Int(number) => errors.non_negative(path, i64::from(*number)),
        IntOrString::String(text) if intstr::percent(text).is_none() => errors.invalid(
            path,
            text,
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
        ),
        IntOrString::String(_) => {}
    }
}

/// A percentage of at most a hundred.
pub(crate) fn at_most_all(value: &IntOrString, path: &Path, errors: &mut FieldErrors) {
    if let IntOrString::String(text) = value
        && intstr::percent(text).is_some_and(|percent| percent > 100)
    {
        errors.invalid(path, text, "must not be greater than 100%");
    }
}
