//! Tables over columns, updates and deletion of pods.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn pod(json: &str) -> Pod {
    serde_json::from_str(json).unwrap()
}

fn shown(json: &str) -> String {
    let row = Pods::row(&pod(json), "2026-01-01T01:00:00Z".parse().unwrap());
    row.iter().skip(1).take(3).map(|cell| cell.as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" | ")
}

const MAIN: &str = r#""containers":[{"name":"a"},{"name":"b"}]"#;

#[test]
fn the_status_column_tells_what_kubectl_users_expect() {
    let table = [
        r#""status":{"phase":"Pending"}"#.to_owned(),
        r#""status":{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"SchedulingGated"}]}"#.to_owned(),
        r#""status":{"phase":"Pending","containerStatuses":[{"name":"a","state":{"waiting":{"reason":"ContainerCreating"}}}]}"#.to_owned(),
        r#""status":{"phase":"Running","containerStatuses":[{"name":"a","ready":true,"state":{"running":{}}},{"name":"b","restartCount":3,"lastState":{"terminated":{"exitCode":1,"finishedAt":"2026-01-01T00:55:00Z"}},"state":{"waiting":{"reason":"CrashLoopBackOff"}}}]}"#.to_owned(),
        r#""status":{"phase":"Succeeded","containerStatuses":[{"name":"a","state":{"terminated":{"exitCode":0,"reason":"Completed"}}}]}"#.to_owned(),
        r#""status":{"phase":"Failed","containerStatuses":[{"name":"a","state":{"terminated":{"exitCode":137,"signal":9}}}]}"#.to_owned(),
        r#""status":{"phase":"Failed","reason":"Evicted"}"#.to_owned(),
        r#""status":{"phase":"Running","containerStatuses":[{"name":"a","state":{"terminated":{"exitCode":0,"reason":"Completed"}}},{"name":"b","ready":true,"state":{"running":{}}}],"conditions":[{"type":"Ready","status":"False"}]}"#.to_owned(),
    ];
    let lines: Vec<String> = table.iter().map(|status| shown(&format!(r#"{{"spec":{{{MAIN}}},{status}}}"#))).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    0/2 | Pending | 0
    0/2 | SchedulingGated | 0
    0/2 | ContainerCreating | 0
    1/2 | CrashLoopBackOff | 3 (5m ago)
    0/2 | Completed | 0
    0/2 | Signal:9 | 0
    0/2 | Evicted | 0
    1/2 | NotReady | 0
    ");
}

#[test]
fn init_containers_show_their_progress() {
    let spec = r#""spec":{"containers":[{"name":"m"}],"initContainers":[{"name":"i"},{"name":"s","restartPolicy":"Always"},{"name":"j"}]}"#;
    let table = [
        r#"[{"name":"i","state":{"running":{}}}]"#,
        r#"[{"name":"i","state":{"terminated":{"exitCode":0}}},{"name":"s","started":true,"ready":true,"state":{"running":{}}},{"name":"j","state":{"waiting":{"reason":"PodInitializing"}}}]"#,
        r#"[{"name":"i","restartCount":2,"state":{"waiting":{"reason":"CrashLoopBackOff"}}}]"#,
        r#"[{"name":"i","state":{"terminated":{"exitCode":2}}}]"#,
        r#"[{"name":"i","restartCount":2,"state":{"terminated":{"exitCode":0}}},{"name":"s","restartCount":1,"started":true,"ready":true,"state":{"running":{}}},{"name":"j","state":{"terminated":{"exitCode":0}}}]"#,
    ];
    let lines: Vec<String> = table
        .iter()
        .map(|inits| shown(&format!(r#"{{{spec},"status":{{"phase":"Pending","initContainerStatuses":{inits}}}}}"#)))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    0/2 | Init:0/3 | 0
    1/2 | Init:2/3 | 0
    0/2 | Init:CrashLoopBackOff | 2
    0/2 | Init:ExitCode:2 | 0
    1/2 | Pending | 1
    ");
}

#[test]
fn a_deleted_pod_is_terminating_unless_it_is_over() {
    let json = |phase: &str| {
        format!(
            r#"{{"metadata":{{"deletionTimestamp":"2026-01-01T00:00:00Z"}},"spec":{{{MAIN}}},"status":{{"phase":"{phase}"}}}}"#
        )
    };
    assert!(shown(&json("Running")).contains("Terminating"));
    assert!(shown(&json("Failed")).contains("Failed"));
}

#[test]
fn only_what_upstream_allows_may_change_in_a_running_pod() {
    let old = r#"{"spec":{"containers":[{"name":"a","image":"1"}],"activeDeadlineSeconds":10,"tolerations":[{"key":"k","operator":"Exists"}],"terminationGracePeriodSeconds":30}}"#;
    let table = [
        r#"{"spec":{"containers":[{"name":"a","image":"2"}],"activeDeadlineSeconds":5,"tolerations":[{"key":"k","operator":"Exists"},{"key":"l","operator":"Exists"}],"terminationGracePeriodSeconds":30}}"#,
        r#"{"spec":{"containers":[{"name":"b","image":"1"}],"activeDeadlineSeconds":10,"tolerations":[{"key":"k","operator":"Exists"}],"terminationGracePeriodSeconds":30}}"#,
        r#"{"spec":{"containers":[{"name":"a","image":"1"}],"activeDeadlineSeconds":20,"terminationGracePeriodSeconds":40}}"#,
        r#"{"spec":{"containers":[{"name":"a","image":"1"}],"tolerations":[{"key":"k","operator":"Exists"}],"terminationGracePeriodSeconds":30,"schedulingGates":[{"name":"g"}]}}"#,
    ];
    let lines: Vec<String> = table
        .iter()
        .map(|new| {
            let mut errors = FieldErrors::new();
            Pods::validate_update(&pod(new), &pod(old), &mut errors);
            if errors.is_empty() { "fine".to_owned() } else { errors.summary() }
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    fine
    spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
    [spec.activeDeadlineSeconds: Invalid value: 20: must be less than or equal to previous value, spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds, spec.terminationGracePeriodSeconds: Forbidden: field is immutable]
    [spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value, spec.schedulingGates: Forbidden: only deletion is allowed, but found new scheduling gate 'g']
    ");
}

#[test]
fn pods_end_gracefully_only_where_somebody_runs_them() {
    let plan = |json: &str, asked| Pods::delete(&pod(json), asked);
    let bound = r#"{"spec":{"nodeName":"n","containers":[],"terminationGracePeriodSeconds":7}}"#;
    assert_eq!(plan(r#"{"spec":{"containers":[]}}"#, Some(30)), DeletePlan::Now);
    assert_eq!(plan(bound, None), DeletePlan::Graceful { grace_s: 7 });
    assert_eq!(plan(bound, Some(0)), DeletePlan::Now);
    assert_eq!(plan(bound, Some(-1)), DeletePlan::Graceful { grace_s: 1 });
    assert_eq!(plan(r#"{"spec":{"nodeName":"n","containers":[]},"status":{"phase":"Failed"}}"#, None), DeletePlan::Now);
}
