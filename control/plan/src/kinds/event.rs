//! Event (core/v1): what somebody noticed about an object.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pintle_api::field::{FieldErrors, Path};
use pintle_api::time;
use serde_json::Value;

use super::common;
use crate::kind::{Column, Kind, Names, Scope};

/// See the module.
pub struct Events;

impl Kind for Events {
    type Object = Event;
    const NAMES: Names = Names { singular: "event", short: &["ev"], categories: &[] };
    const SCOPE: Scope = Scope::Namespaced;
    const COLUMNS: &'static [Column] = &[
        Column::text("Last Seen", "Time since it was last noticed."),
        Column::text("Type", "Normal or Warning."),
        Column::text("Reason", "One word, for machines."),
        Column::text("Object", "What it is about."),
        Column::text("Subobject", "Which part of it.").wide(),
        Column::text("Source", "Who noticed.").wide(),
        Column::text("Message", "A sentence, for people."),
        Column::text("First Seen", "Time since it was first noticed.").wide(),
        Column::text("Count", "How often it was noticed.").wide(),
        Column { priority: 1, ..Column::NAME },
    ];
    const FIELDS: &'static [&'static str] = &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ];

    fn validate(object: &Event, errors: &mut FieldErrors) {
        let about = object.involved_object.namespace.as_deref().unwrap_or("");
        let own = object.metadata.namespace.as_deref().unwrap_or("");
        // Events about cluster-scoped objects live in `default` (and, in old clients, kube-system).
        let cluster = about.is_empty() && matches!(own, "default" | "kube-system");
        if about != own && !cluster {
            let path = Path::new("involvedObject").child("namespace");
            errors.invalid(&path, about, "does not match event.namespace");
        }
        if object.event_time.is_some() {
            let component = object.reporting_component.as_deref().unwrap_or("");
            if component.is_empty() {
                errors.required(&Path::new("reportingController"), "");
            }
            if object.reporting_instance.as_deref().is_none_or(str::is_empty) {
                errors.required(&Path::new("reportingInstance"), "");
            }
            if object.action.as_deref().is_none_or(str::is_empty) {
                errors.required(&Path::new("action"), "");
            }
        }
    }

    fn row(object: &Event, now: Timestamp) -> Vec<Value> {
        let about = &object.involved_object;
        let kind = about.kind.as_deref().unwrap_or("").to_lowercase();
        let text = |text: &Option<String>| -> Value { text.clone().unwrap_or_default().into() };
        let event_time = object.event_time.as_ref().map(|time| Time(time.0));
        let series = object.series.as_ref();
        let observed = series.and_then(|s| s.last_observed_time.as_ref()).map(|time| Time(time.0));
        let first = object.first_timestamp.clone().or_else(|| event_time.clone());
        let last = observed.or_else(|| object.last_timestamp.clone()).or_else(|| first.clone());
        let count = series.and_then(|s| s.count).or(object.count).unwrap_or(1);
        vec![
            time::age(last.as_ref(), now).into(),
            text(&object.type_),
            text(&object.reason),
            format!("{kind}/{}", about.name.as_deref().unwrap_or("")).into(),
            text(&about.field_path),
            source(object).into(),
            object.message.as_deref().unwrap_or("").trim().into(),
            time::age(first.as_ref(), now).into(),
            count.to_string().into(),
            common::name_cell(&object.metadata),
        ]
    }

    fn fields(object: &Event) -> Vec<String> {
        let about = &object.involved_object;
        let component = object.source.as_ref().and_then(|source| source.component.clone());
        [
            about.kind.clone(),
            about.namespace.clone(),
            about.name.clone(),
            about.uid.clone(),
            about.api_version.clone(),
            about.resource_version.clone(),
            about.field_path.clone(),
            object.reason.clone(),
            object.reporting_component.clone(),
            component.or_else(|| object.reporting_component.clone()),
            object.type_.clone(),
        ]
        .map(Option::unwrap_or_default)
        .into()
    }
}

fn source(event: &Event) -> String {
    let source = event.source.as_ref();
    let component = source.and_then(|source| source.component.as_deref()).filter(|text| !text.is_empty());
    let component = component.or(event.reporting_component.as_deref()).unwrap_or("");
    match source.and_then(|source| source.host.as_deref()).filter(|host| !host.is_empty()) {
        Some(host) => format!("{component}, {host}"),
        None => component.to_owned(),
    }
}
