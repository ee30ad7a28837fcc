//! DaemonSet: one pod per node.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus, DaemonSetUpdateStrategy};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use pintle_api::field::{FieldErrors, Path};
use serde_json::Value;

use super::{common, podspec};
use crate::kind::{Column, Kind, Names, Scope, Subresource};

const HISTORY_LIMIT: i32 = 10;

/// See the module.
pub struct DaemonSets;

impl Kind for DaemonSets {
    type Object = DaemonSet;
    const NAMES: Names = Names { singular: "daemonset", short: &["ds"], categories: &["all"] };
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::number("Desired", "Nodes that should run the pod."),
        Column::number("Current", "Nodes that run it."),
        Column::number("Ready", "Nodes where it is ready."),
        Column::number("Up-to-date", "Nodes that run the current template."),
        Column::number("Available", "Nodes where it was ready for long enough."),
        Column::text("Node Selector", "Which nodes."),
        Column::AGE,
        Column::text("Containers", "Names of containers.").wide(),
        Column::text("Images", "Images of containers.").wide(),
        Column::text("Selector", "Which pods it counts.").wide(),
    ];

    fn default(object: &mut DaemonSet) {
        let spec = &mut object.spec;
        spec.revision_history_limit.get_or_insert(HISTORY_LIMIT);
        let strategy = spec.update_strategy.get_or_insert_default();
        if strategy.type_.as_deref().is_none_or(str::is_empty) {
            strategy.type_ = Some("RollingUpdate".to_owned());
        }
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            rolling.max_surge.get_or_insert(IntOrString::Int(0));
        }
        podspec::default_template(&mut spec.template);
    }

    fn prepare_create(object: &mut DaemonSet) {
        object.status = None;
    }

    fn prepare_update(new: &mut DaemonSet, old: &DaemonSet) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(new: &mut DaemonSet, old: &DaemonSet) {
        new.spec.clone_from(&old.spec);
    }

    fn generation_changed(new: &DaemonSet, old: &DaemonSet) -> Option<bool> {
        Some(new.spec != old.spec)
    }

    fn validate(object: &DaemonSet, errors: &mut FieldErrors) {
        let (spec, path) = (&object.spec, Path::new("spec"));
        errors.non_negative(&path.child("minReadySeconds"), i64::from(spec.min_ready_seconds.unwrap_or(0)));
        errors.non_negative(&path.child("revisionHistoryLimit"), i64::from(spec.revision_history_limit.unwrap_or(0)));
        common::workload_selector(&spec.selector, Some(&spec.template), "daemonset", &path, errors);
        if let Some(one) = &spec.update_strategy {
            strategy(one, &path.child("updateStrategy"), errors);
        }
        podspec::validate_template(&spec.template, &path.child("template"), &["Always"], errors);
    }

    fn validate_update(new: &DaemonSet, old: &DaemonSet, errors: &mut FieldErrors) {
        errors.immutable(&Path::new("spec").child("selector"), &new.spec.selector, &old.spec.selector);
    }

    fn row(object: &DaemonSet, now: Timestamp) -> Vec<Value> {
        let (spec, none) = (&object.spec, DaemonSetStatus::default());
        let status = object.status.as_ref().unwrap_or(&none);
        let template = Some(&spec.template);
        let nodes = template.and_then(|template| template.spec.as_ref()).and_then(|spec| spec.node_selector.as_ref());
        let [containers, images] = common::container_cells(template);
        vec![
            common::name_cell(&object.metadata),
            status.desired_number_scheduled.into(),
            status.current_number_scheduled.into(),
            status.number_ready.into(),
            status.updated_number_scheduled.unwrap_or(0).into(),
            status.number_available.unwrap_or(0).into(),
            common::labels_cell(nodes),
            common::age(&object.metadata, now),
            containers,
            images,
            common::selector_text(Some(&spec.selector)).into(),
        ]
    }
}

fn strategy(strategy: &DaemonSetUpdateStrategy, path: &Path, errors: &mut FieldErrors) {
    errors.one_of(&path.child("type"), strategy.type_.as_deref(), &["RollingUpdate", "OnDelete"]);
    let Some(rolling) = &strategy.rolling_update else { return };
    let path = path.child("rollingUpdate");
    let zero = |value: &Option<IntOrString>| value.as_ref().is_none_or(common::is_zero);
    for (field, value) in [("maxUnavailable", &rolling.max_unavailable), ("maxSurge", &rolling.max_surge)] {
        if let Some(value) = value {
            common::int_or_percent(value, &path.child(field), errors);
            common::at_most_all(value, &path.child(field), errors);
        }
    }
    let surge = pintle_api::field::json(&rolling.max_surge);
    match (zero(&rolling.max_unavailable), zero(&rolling.max_surge)) {
        (false, false) => {
            errors.invalid(&path.child("maxSurge"), surge, "may not be set when maxUnavailable is non-zero");
        }
        (true, true) => {
            let shown = pintle_api::field::json(&rolling.max_unavailable);
            errors.invalid(&path.child("maxUnavailable"), shown, "cannot be 0 when maxSurge is 0");
        }
        _ => {}
    }
}
