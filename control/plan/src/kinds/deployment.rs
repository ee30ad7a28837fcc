//! Deployment: ReplicaSets that follow one another.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use pintle_api::field::{FieldErrors, Path};
use serde_json::Value;

use super::{common, podspec};
use crate::kind::{Column, Kind, Names, Scale, Scope, Subresource};

const HISTORY_LIMIT: i32 = 10;
const PROGRESS_DEADLINE_S: i32 = 600;

/// See the module.
pub struct Deployments;

impl Kind for Deployments {
    type Object = Deployment;
    const NAMES: Names = Names { singular: "deployment", short: &["deploy"], categories: &["all"] };
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status, Subresource::Scale];
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Ready", "Pods ready, of pods wanted."),
        Column::number("Up-to-date", "Pods of the current template."),
        Column::number("Available", "Pods ready for long enough."),
        Column::AGE,
        Column::text("Containers", "Names of containers.").wide(),
        Column::text("Images", "Images of containers.").wide(),
        Column::text("Selector", "Which pods it counts.").wide(),
    ];

    fn default(object: &mut Deployment) {
        let spec = &mut object.spec;
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(HISTORY_LIMIT);
        spec.progress_deadline_seconds.get_or_insert(PROGRESS_DEADLINE_S);
        let strategy = spec.strategy.get_or_insert_default();
        if strategy.type_.as_deref().is_none_or(str::is_empty) {
            strategy.type_ = Some("RollingUpdate".to_owned());
        }
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            let quarter = || IntOrString::String("25%".to_owned());
            rolling.max_surge.get_or_insert_with(quarter);
            rolling.max_unavailable.get_or_insert_with(quarter);
        }
        podspec::default_template(&mut spec.template);
    }

    fn prepare_create(object: &mut Deployment) {
        object.status = None;
    }

    fn prepare_update(new: &mut Deployment, old: &Deployment) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(new: &mut Deployment, old: &Deployment) {
        new.spec.clone_from(&old.spec);
    }

    fn generation_changed(new: &Deployment, old: &Deployment) -> Option<bool> {
        // Annotations count as well: the controller copies them to ReplicaSets.
        Some(new.spec != old.spec || new.metadata.annotations != old.metadata.annotations)
    }

    fn validate(object: &Deployment, errors: &mut FieldErrors) {
        let (spec, path) = (&object.spec, Path::new("spec"));
        for (field, value) in [
            ("replicas", spec.replicas),
            ("minReadySeconds", spec.min_ready_seconds),
            ("revisionHistoryLimit", spec.revision_history_limit),
            ("progressDeadlineSeconds", spec.progress_deadline_seconds),
        ] {
            errors.non_negative(&path.child(field), i64::from(value.unwrap_or(0)));
        }
        if let Some(deadline_s) = spec.progress_deadline_seconds
            && deadline_s <= spec.min_ready_seconds.unwrap_or(0)
        {
            let path = path.child("progressDeadlineSeconds");
            errors.invalid(&path, deadline_s, "must be greater than minReadySeconds");
        }
        common::workload_selector(&spec.selector, Some(&spec.template), "deployment", &path, errors);
        if let Some(one) = &spec.strategy {
            strategy(one, &path.child("strategy"), errors);
        }
        podspec::validate_template(&spec.template, &path.child("template"), &["Always"], errors);
    }

    fn validate_update(new: &Deployment, old: &Deployment, errors: &mut FieldErrors) {
        errors.immutable(&Path::new("spec").child("selector"), &new.spec.selector, &old.spec.selector);
    }

    fn row(object: &Deployment, now: Timestamp) -> Vec<Value> {
        let spec: &DeploymentSpec = &object.spec;
        let count = |pick: fn(&DeploymentStatus) -> Option<i32>| object.status.as_ref().and_then(pick).unwrap_or(0);
        let [containers, images] = common::container_cells(Some(&spec.template));
        vec![
            common::name_cell(&object.metadata),
            format!("{}/{}", count(|s| s.ready_replicas), spec.replicas.unwrap_or(0)).into(),
            count(|s| s.updated_replicas).into(),
            count(|s| s.available_replicas).into(),
            common::age(&object.metadata, now),
            containers,
            images,
            common::selector_text(Some(&spec.selector)).into(),
        ]
    }

    fn scale(object: &Deployment) -> Option<Scale> {
        Some(Scale {
            wanted: object.spec.replicas.unwrap_or(0),
            observed: object.status.as_ref().and_then(|status| status.replicas).unwrap_or(0),
            selector: common::selector_text(Some(&object.spec.selector)),
        })
    }

    fn set_scale(object: &mut Deployment, replicas: i32) {
        object.spec.replicas = Some(replicas);
    }
}

fn strategy(strategy: &DeploymentStrategy, path: &Path, errors: &mut FieldErrors) {
    errors.one_of(&path.child("type"), strategy.type_.as_deref(), &["Recreate", "RollingUpdate"]);
    let Some(rolling) = &strategy.rolling_update else { return };
    let path = path.child("rollingUpdate");
    if strategy.type_.as_deref() == Some("Recreate") {
        errors.forbidden(&path, "may not be specified when strategy `type` is 'Recreate'");
        return;
    }
    let zero = |value: &Option<IntOrString>| value.as_ref().is_some_and(common::is_zero);
    if let Some(value) = &rolling.max_unavailable {
        common::int_or_percent(value, &path.child("maxUnavailable"), errors);
        common::at_most_all(value, &path.child("maxUnavailable"), errors);
    }
    if let Some(value) = &rolling.max_surge {
        common::int_or_percent(value, &path.child("maxSurge"), errors);
    }
    if zero(&rolling.max_unavailable) && zero(&rolling.max_surge) {
        let shown = pintle_api::field::json(&rolling.max_unavailable);
        errors.invalid(&path.child("maxUnavailable"), shown, "may not be 0 when `maxSurge` is 0");
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const TEMPLATE: &str =
        r#""template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;

    fn deployment(spec: &str) -> Deployment {
        let mut object = serde_json::from_str(&format!(r#"{{"metadata":{{"name":"d"}},"spec":{{{spec}}}}}"#)).unwrap();
        Deployments::default(&mut object);
        object
    }

    #[test]
    fn deployments_are_checked() {
        let table = [
            format!(r#""selector":{{"matchLabels":{{"a":"b"}}}},{TEMPLATE}"#),
            format!(r#""replicas":-1,"minReadySeconds":700,"selector":{{"matchLabels":{{"a":"x"}}}},{TEMPLATE}"#),
            format!(r#""selector":{{}},{TEMPLATE},"strategy":{{"type":"Recreate","rollingUpdate":{{}}}}"#),
            format!(r#""selector":{{"matchLabels":{{"a":"b"}}}},{TEMPLATE},"strategy":{{"rollingUpdate":{{"maxSurge":0,"maxUnavailable":"0%"}}}}"#),
            format!(r#""selector":{{"matchLabels":{{"a":"b"}}}},{TEMPLATE},"strategy":{{"rollingUpdate":{{"maxSurge":"x","maxUnavailable":"120%"}}}}"#),
            r#""selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"restartPolicy":"Never","containers":[{"name":"c"}]}}"#.to_owned(),
        ];
        let lines: Vec<String> = table
            .iter()
            .map(|spec| {
                let mut errors = FieldErrors::new();
                Deployments::validate(&deployment(spec), &mut errors);
                errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n--\n"), @r#"
        --
        spec.replicas: Invalid value: -1: must be greater than or equal to 0
        spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds
        spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`
        --
        spec.selector: Invalid value: {}: empty selector is invalid for deployment
        spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'
        --
        spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0
        --
        spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "120%": must not be greater than 100%
        spec.strategy.rollingUpdate.maxSurge: Invalid value: "x": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')
        --
        spec.template.spec.containers[0].image: Required value
        spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
        "#);
    }

    #[test]
    fn only_wishes_raise_the_generation() {
        let old = deployment(&format!(r#""selector":{{"matchLabels":{{"a":"b"}}}},{TEMPLATE}"#));
        let mut new = old.clone();
        new.status = Some(DeploymentStatus { replicas: Some(3), ..DeploymentStatus::default() });
        assert_eq!(Deployments::generation_changed(&new, &old), Some(false));
        Deployments::set_scale(&mut new, 4);
        assert_eq!(Deployments::generation_changed(&new, &old), Some(true));
        assert_eq!(Deployments::scale(&new).unwrap(), Scale { wanted: 4, observed: 3, selector: "a=b".into() });
    }
}
