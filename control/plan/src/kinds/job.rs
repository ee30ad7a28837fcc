//! Job: pods that run to completion.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use pintle_api::field::{FieldErrors, Path};
use pintle_api::time;
use serde_json::Value;

use super::{common, podspec};
use crate::kind::{Column, Kind, Names, Scope, Subresource};

const BACKOFF_LIMIT: i32 = 6;
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// See the module.
pub struct Jobs;

impl Kind for Jobs {
    type Object = Job;
    const NAMES: Names = Names { singular: "job", short: &[], categories: &["all"] };
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Status", "Running, Complete, Failed, Suspended or Terminating."),
        Column::text("Completions", "Pods that succeeded, of those wanted."),
        Column::text("Duration", "Time from start to completion."),
        Column::AGE,
        Column::text("Containers", "Names of containers.").wide(),
        Column::text("Images", "Images of containers.").wide(),
        Column::text("Selector", "Which pods it counts.").wide(),
    ];
    const FIELDS: &'static [&'static str] = &["status.successful"];

    fn default(object: &mut Job) {
        let Some(spec) = &mut object.spec else { return };
        if spec.completions.is_none() && spec.parallelism.is_none() {
            spec.completions = Some(1);
        }
        spec.parallelism.get_or_insert(1);
        let per_index = spec.backoff_limit_per_index.is_some();
        spec.backoff_limit.get_or_insert(if per_index { i32::MAX } else { BACKOFF_LIMIT });
        spec.completion_mode.get_or_insert_with(|| "NonIndexed".to_owned());
        spec.suspend.get_or_insert(false);
        let replaced = if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
        spec.pod_replacement_policy.get_or_insert_with(|| replaced.to_owned());
        podspec::default_template(&mut spec.template);
    }

    fn prepare_create(object: &mut Job) {
        object.status = None;
        generate_selector(object);
    }

    fn prepare_update(new: &mut Job, old: &Job) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(new: &mut Job, old: &Job) {
        new.spec.clone_from(&old.spec);
    }

    fn generation_changed(new: &Job, old: &Job) -> Option<bool> {
        Some(new.spec != old.spec)
    }

    fn validate(object: &Job, errors: &mut FieldErrors) {
        let (none, path) = (JobSpec::default(), Path::new("spec"));
        let spec = object.spec.as_ref().unwrap_or(&none);
        numbers(spec, &path, errors);
        let modes = &["NonIndexed", "Indexed"];
        errors.one_of(&path.child("completionMode"), spec.completion_mode.as_deref(), modes);
        if spec.completion_mode.as_deref() == Some("Indexed") && spec.completions.is_none() {
            errors.required(&path.child("completions"), "when completion mode is Indexed");
        }
        if let Some(policy) = spec.pod_replacement_policy.as_deref() {
            let path = path.child("podReplacementPolicy");
            errors.one_of(&path, Some(policy), &["Failed", "TerminatingOrFailed"]);
        }
        match &spec.selector {
            None => errors.required(&path.child("selector"), ""),
            Some(selector) => common::workload_selector(selector, Some(&spec.template), "job", &path, errors),
        }
        podspec::validate_template(&spec.template, &path.child("template"), &["OnFailure", "Never"], errors);
    }

    fn validate_update(new: &Job, old: &Job, errors: &mut FieldErrors) {
        let (Some(spec), Some(was), path) = (&new.spec, &old.spec, Path::new("spec")) else { return };
        errors.immutable(&path.child("selector"), &spec.selector, &was.selector);
        errors.immutable(&path.child("completionMode"), &spec.completion_mode, &was.completion_mode);
        errors.immutable(&path.child("podFailurePolicy"), &spec.pod_failure_policy, &was.pod_failure_policy);
        let path_limit = path.child("backoffLimitPerIndex");
        errors.immutable(&path_limit, &spec.backoff_limit_per_index, &was.backoff_limit_per_index);
        // An Indexed Job may be resized by changing both numbers alike.
        let elastic = spec.completion_mode.as_deref() == Some("Indexed") && spec.completions == spec.parallelism;
        if !elastic {
            errors.immutable(&path.child("completions"), &spec.completions, &was.completions);
        }
        // A Job that waits to start may still change where its pods go.
        let started = old.status.as_ref().is_some_and(|status| status.start_time.is_some());
        if started || was.suspend != Some(true) {
            errors.immutable(&path.child("template"), &spec.template, &was.template);
        }
    }

    fn row(object: &Job, now: Timestamp) -> Vec<Value> {
        let (spec, none) = (object.spec.as_ref(), JobStatus::default());
        let status = object.status.as_ref().unwrap_or(&none);
        let [containers, images] = common::container_cells(spec.map(|spec| &spec.template));
        vec![
            common::name_cell(&object.metadata),
            word(object, status).into(),
            completions(spec, status).into(),
            duration(status, now).into(),
            common::age(&object.metadata, now),
            containers,
            images,
            common::selector_text(spec.and_then(|spec| spec.selector.as_ref())).into(),
        ]
    }

    fn fields(object: &Job) -> Vec<String> {
        vec![object.status.as_ref().and_then(|status| status.succeeded).unwrap_or(0).to_string()]
    }
}

/// Unless the author manages the selector, the Job selects its pods by its own uid.
fn generate_selector(job: &mut Job) {
    let (name, uid) = (job.metadata.name.clone().unwrap_or_default(), job.metadata.uid.clone().unwrap_or_default());
    let Some(spec) = &mut job.spec else { return };
    if spec.manual_selector == Some(true) {
        return;
    }
    let labels = spec.template.metadata.get_or_insert_default().labels.get_or_insert_default();
    for (keys, value) in [(UID_LABELS, &uid), (NAME_LABELS, &name)] {
        for key in keys {
            labels.entry(key.to_owned()).or_insert_with(|| value.clone());
        }
    }
    let selector: &mut LabelSelector = spec.selector.get_or_insert_default();
    selector.match_labels.get_or_insert_default().insert(UID_LABELS[0].to_owned(), uid);
}

fn numbers(spec: &JobSpec, path: &Path, errors: &mut FieldErrors) {
    for (field, value) in [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.map(i64::from)),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from)),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ] {
        errors.non_negative(&path.child(field), value.unwrap_or(0));
    }
}

fn word(job: &Job, status: &JobStatus) -> &'static str {
    let has = |kind: &str| status.conditions.iter().flatten().any(|c| c.type_ == kind && c.status == "True");
    if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if job.metadata.deletion_timestamp.is_some() {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else if has("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(spec: Option<&JobSpec>, status: &JobStatus) -> String {
    let succeeded = status.succeeded.unwrap_or(0);
    let parallelism = spec.and_then(|spec| spec.parallelism).unwrap_or(0);
    match spec.and_then(|spec| spec.completions) {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    }
}

fn duration(status: &JobStatus, now: Timestamp) -> String {
    let Some(start) = &status.start_time else { return String::new() };
    let end = status.completion_time.as_ref().map_or(now, |time| time.0);
    time::human_duration_s(end.as_second() - start.0.as_second())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn job(spec: &str) -> Job {
        let json = format!(
            r#"{{"metadata":{{"name":"j","uid":"u"}},"spec":{{{spec}"template":{{"spec":{{"restartPolicy":"Never","containers":[{{"name":"c","image":"i"}}]}}}}}}}}"#
        );
        let mut job = serde_json::from_str(&json).unwrap();
        Jobs::default(&mut job);
        Jobs::prepare_create(&mut job);
        job
    }

    fn complaints(job: &Job) -> String {
        let mut errors = FieldErrors::new();
        Jobs::validate(job, &mut errors);
        errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_job_selects_its_pods_by_its_own_uid() {
        let job = job("");
        assert_eq!(complaints(&job), "");
        let spec = job.spec.unwrap();
        assert_eq!(common::selector_text(spec.selector.as_ref()), "batch.kubernetes.io/controller-uid=u");
        insta::assert_snapshot!(serde_json::to_string(&spec.template.metadata).unwrap(), @r#"{"labels":{"batch.kubernetes.io/controller-uid":"u","batch.kubernetes.io/job-name":"j","controller-uid":"u","job-name":"j"}}"#);
        assert_eq!((spec.completions, spec.parallelism, spec.backoff_limit), (Some(1), Some(1), Some(6)));
    }

    #[test]
    fn jobs_are_checked() {
        let mut always = job("");
        always.spec.as_mut().unwrap().template.spec.as_mut().unwrap().restart_policy = Some("Always".into());
        let lines = [
            complaints(&job(r#""parallelism":-1,"backoffLimit":-2,"#)),
            complaints(&job(r#""completionMode":"Indexed","parallelism":2,"#)),
            complaints(&always),
        ];
        insta::assert_snapshot!(lines.join("\n--\n"), @r#"
        spec.parallelism: Invalid value: -1: must be greater than or equal to 0
        spec.backoffLimit: Invalid value: -2: must be greater than or equal to 0
        --
        spec.completions: Required value: when completion mode is Indexed
        --
        spec.template.spec.restartPolicy: Unsupported value: "Always": supported values: "OnFailure", "Never"
        "#);
    }

    #[test]
    fn rows_tell_progress() {
        let mut job = job(r#""completions":3,"#);
        job.status = serde_json::from_str(r#"{"succeeded":1,"startTime":"2026-01-01T00:00:00Z"}"#).unwrap();
        let row = Jobs::row(&job, "2026-01-01T00:03:05Z".parse().unwrap());
        insta::assert_snapshot!(serde_json::to_string(&row).unwrap(), @r#"["j","Running","1/3","3m5s","<unknown>","c","i","batch.kubernetes.io/controller-uid=u"]"#);
    }
}
