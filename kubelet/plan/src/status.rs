//! A pod's status from what is observed.
//!
//! Owns: phase, conditions, container statuses. Does not own: writing it to the API server.
//! Phases never go back from Succeeded or Failed; conditions of others are left alone.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, HostIP, LinuxContainerUser, Pod, PodCondition, PodIP, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::containers::{Role, containers, host_network, spec};
use crate::env::Facts;
use crate::life::{Standing, deadline, initialized, runs_again, standing};
use crate::observed::{Attempt, AttemptState, ContainerObs, Exited, Failure, Observed, Stage};
use crate::resources::qos_class;

/// The scheme of container ids in statuses.
pub const ID_SCHEME: &str = "pintle://";

/// The status the pod should have. `previous` is the one it has.
pub fn pod_status(pod: &Pod, seen: &Observed, previous: &PodStatus, facts: &Facts, now: Timestamp) -> PodStatus {
    let mut out = PodStatus {
        start_time: seen.started_at.map(whole_second),
        qos_class: Some(qos_class(pod).to_string()),
        observed_generation: pod.metadata.generation,
        nominated_node_name: previous.nominated_node_name.clone(),
        ephemeral_container_statuses: previous.ephemeral_container_statuses.clone(),
        resource_claim_statuses: previous.resource_claim_statuses.clone(),
        ..PodStatus::default()
    };
    add_addresses(&mut out, pod, seen, previous, facts);
    let phase = phase(pod, seen, previous, now);
    if let Some(rejection) = &seen.rejected {
        out.reason = Some(rejection.reason.clone());
        out.message = Some(format!("Pod was rejected: {}", rejection.message));
    } else {
        if deadline(pod, seen).is_some_and(|at| at <= now) {
            out.reason = Some("DeadlineExceeded".to_owned());
            out.message = Some("Pod was active on the node longer than the specified deadline".to_owned());
        }
        let statuses = |init: bool| -> Option<Vec<ContainerStatus>> {
            let list: Vec<_> = containers(pod)
                .filter(|(role, _)| (*role != Role::Main) == init)
                .map(|(role, c)| container_status(pod, role, c, seen, now))
                .collect();
            (!list.is_empty()).then_some(list)
        };
        out.init_container_statuses = statuses(true);
        out.container_statuses = statuses(false);
    }
    out.phase = Some(phase.to_owned());
    out.conditions = Some(conditions(pod, seen, previous, phase, now));
    out
}

fn add_addresses(out: &mut PodStatus, pod: &Pod, seen: &Observed, previous: &PodStatus, facts: &Facts) {
    out.host_ip = facts.host_ips.first().cloned();
    out.host_ips = Some(facts.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect());
    let own: Vec<String> = match &seen.sandbox {
        Stage::Ready(_) if host_network(pod) => facts.host_ips.clone(),
        Stage::Ready(ips) => ips.clone(),
        Stage::Absent | Stage::Busy | Stage::Failed { .. } | Stage::Removed => {
            previous.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect()
        }
    };
    out.pod_ip = own.first().cloned();
    out.pod_ips = (!own.is_empty()).then(|| own.into_iter().map(|ip| PodIP { ip }).collect());
}

/// The pod's phase.
pub fn phase(pod: &Pod, seen: &Observed, previous: &PodStatus, now: Timestamp) -> &'static str {
    match previous.phase.as_deref() {
        Some("Succeeded") => return "Succeeded",
        Some("Failed") => return "Failed",
        _ => {}
    }
    if seen.rejected.is_some() {
        return "Failed";
    }
    let alive = seen.containers.values().any(|c| c.running() || c.busy.is_some());
    let standing = standing(pod, seen, now);
    let begun = seen.containers.values().any(|c| c.attempt.is_some());
    if standing != Standing::Live && !alive {
        let expired = deadline(pod, seen).is_some_and(|at| at <= now);
        return if expired || !all_mains_succeeded(pod, seen) { "Failed" } else { "Succeeded" };
    }
    let main_begun =
        containers(pod).filter(|(role, _)| *role == Role::Main).all(|(_, c)| seen.container(&c.name).attempt.is_some());
    if begun && main_begun { "Running" } else { "Pending" }
}

fn all_mains_succeeded(pod: &Pod, seen: &Observed) -> bool {
    containers(pod)
        .filter(|(role, _)| *role == Role::Main)
        .all(|(_, c)| seen.container(&c.name).exited().is_some_and(|e| e.code == 0))
}

fn container_status(pod: &Pod, role: Role, container: &Container, seen: &Observed, now: Timestamp) -> ContainerStatus {
    let obs = seen.container(&container.name);
    let (state, last) = states(pod, role, container, seen, now);
    let attempt = obs.attempt.as_ref();
    let ready = match role {
        Role::Init => obs.exited().is_some_and(|e| e.code == 0),
        Role::Sidecar | Role::Main => obs.running() && obs.probes.started && obs.probes.ready,
    };
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: attempt.map(|a| a.image_id.clone()).unwrap_or_default(),
        container_id: attempt.map(|a| format!("{ID_SCHEME}{}", a.id)),
        ready,
        started: Some(obs.started()),
        restart_count: i32::try_from(obs.restarts).unwrap_or(i32::MAX),
        state: Some(state),
        last_state: Some(last),
        resources: attempt.and(container.resources.clone()),
        allocated_resources: attempt.and(container.resources.as_ref().and_then(|r| r.requests.clone())),
        user: attempt.filter(|a| running_since(a).is_some()).map(user),
        volume_mounts: attempt.and_then(|_| mount_statuses(container)),
        ..ContainerStatus::default()
    }
}

fn states(
    pod: &Pod,
    role: Role,
    container: &Container,
    seen: &Observed,
    now: Timestamp,
) -> (ContainerState, ContainerState) {
    let obs = seen.container(&container.name);
    let previous = obs.previous.as_ref().map(terminated_of).unwrap_or_default();
    let Some(attempt) = &obs.attempt else {
        return (waiting(waiting_reason(pod, seen, obs)), previous);
    };
    match &attempt.state {
        AttemptState::Running { started_at } => (running(*started_at), previous),
        AttemptState::Exited(exit) => {
            let again = standing(pod, seen, now) == Standing::Live && runs_again(pod, role, container, exit);
            if !again {
                return (terminated(&attempt.id, exit), previous);
            }
            let allowed = obs.crash.allowed_at(exit.finished_at);
            let state = match (&obs.start_failure, &obs.image_failure) {
                (Some(failure), _) | (None, Some(failure)) => waiting(failed(failure)),
                (None, None) if allowed > now => waiting(crash_loop(pod, container, obs)),
                (None, None) => return (terminated(&attempt.id, exit), previous),
            };
            (state, terminated(&attempt.id, exit))
        }
    }
}

fn waiting_reason(pod: &Pod, seen: &Observed, obs: &ContainerObs) -> (String, Option<String>) {
    if let Some(failure) = obs.start_failure.as_ref().or(obs.image_failure.as_ref()) {
        return failed(failure);
    }
    let has_init = containers(pod).any(|(role, _)| role != Role::Main);
    let word = if has_init && !initialized(pod, seen) { "PodInitializing" } else { "ContainerCreating" };
    (word.to_owned(), held_back(&seen.sandbox).or_else(|| held_back(&seen.volumes)))
}

/// What keeps the whole pod from starting, so that its status tells it long after the event is gone.
fn held_back<T>(stage: &Stage<T>) -> Option<String> {
    match stage {
        Stage::Failed { message, .. } => Some(message.clone()),
        Stage::Absent | Stage::Busy | Stage::Ready(_) | Stage::Removed => None,
    }
}

fn failed(failure: &Failure) -> (String, Option<String>) {
    (failure.reason.clone(), Some(failure.message.clone()))
}

fn crash_loop(pod: &Pod, container: &Container, obs: &ContainerObs) -> (String, Option<String>) {
    let delay = backoff_words(obs.crash.delay_s);
    let message = format!(
        "back-off {delay} restarting failed container={} pod={}",
        container.name,
        crate::events::pod_words(pod)
    );
    ("CrashLoopBackOff".to_owned(), Some(message))
}

fn backoff_words(seconds: i64) -> String {
    if seconds >= 60 { format!("{}m{}s", seconds / 60, seconds % 60) } else { format!("{seconds}s") }
}

fn waiting((reason, message): (String, Option<String>)) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn running(since: Timestamp) -> ContainerState {
    let running = ContainerStateRunning { started_at: Some(whole_second(since)) };
    ContainerState { running: Some(running), ..ContainerState::default() }
}

fn terminated_of(attempt: &Attempt) -> ContainerState {
    match &attempt.state {
        AttemptState::Exited(exit) => terminated(&attempt.id, exit),
        AttemptState::Running { .. } => ContainerState::default(),
    }
}

fn terminated(id: &str, exit: &Exited) -> ContainerState {
    let terminated = ContainerStateTerminated {
        container_id: Some(format!("{ID_SCHEME}{id}")),
        exit_code: exit.code,
        signal: (exit.signal != 0).then_some(exit.signal),
        reason: Some(exit.reason.clone()),
        message: (!exit.message.is_empty()).then(|| exit.message.clone()),
        started_at: exit.started_at.map(whole_second),
        finished_at: Some(whole_second(exit.finished_at)),
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

fn running_since(attempt: &Attempt) -> Option<Timestamp> {
    match attempt.state {
        AttemptState::Running { started_at } => Some(started_at),
        AttemptState::Exited(_) => None,
    }
}

fn user(attempt: &Attempt) -> ContainerUser {
    let (uid, gid, groups) = &attempt.user;
    let mut all: Vec<i64> = vec![i64::from(*gid)];
    all.extend(groups.iter().filter(|g| *g != gid).map(|g| i64::from(*g)));
    let linux = LinuxContainerUser { uid: i64::from(*uid), gid: i64::from(*gid), supplemental_groups: Some(all) };
    ContainerUser { linux: Some(linux) }
}

fn mount_statuses(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref()?;
    let one = |m: &k8s_openapi::api::core::v1::VolumeMount| VolumeMountStatus {
        name: m.name.clone(),
        mount_path: m.mount_path.clone(),
        read_only: m.read_only.filter(|r| *r),
        recursive_read_only: m.read_only.filter(|r| *r).map(|_| {
            if matches!(m.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")) {
                "Enabled"
            } else {
                "Disabled"
            }
            .to_owned()
        }),
        ..VolumeMountStatus::default()
    };
    Some(mounts.iter().map(one).collect())
}

/// A condition before it has times: type, status, reason, message.
type Finding = (&'static str, bool, Option<&'static str>, Option<String>);

fn conditions(pod: &Pod, seen: &Observed, previous: &PodStatus, phase: &str, now: Timestamp) -> Vec<PodCondition> {
    let mut findings = findings(pod, seen, previous, phase);
    let order = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    findings.sort_by_key(|f| order.iter().position(|o| *o == f.0));
    let old: Vec<&PodCondition> = previous.conditions.iter().flatten().collect();
    let mut out: Vec<PodCondition> = findings.into_iter().map(|f| condition(pod, f, &old, now)).collect();
    out.extend(old.into_iter().filter(|c| !order.contains(&c.type_.as_str())).cloned());
    out
}

fn condition(pod: &Pod, finding: Finding, old: &[&PodCondition], now: Timestamp) -> PodCondition {
    let (type_, holds, reason, message) = finding;
    let status = if holds { "True" } else { "False" };
    let same = old.iter().find(|c| c.type_ == type_ && c.status == status);
    PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.map(str::to_owned),
        message,
        last_transition_time: same.and_then(|c| c.last_transition_time.clone()).or_else(|| Some(whole_second(now))),
        last_probe_time: None,
        observed_generation: pod.metadata.generation,
    }
}

fn findings(pod: &Pod, seen: &Observed, previous: &PodStatus, phase: &str) -> Vec<Finding> {
    let scheduled: Finding = ("PodScheduled", true, None, None);
    if seen.rejected.is_some() {
        return vec![scheduled];
    }
    let sandbox: Finding = ("PodReadyToStartContainers", seen.sandbox.ready().is_some(), None, None);
    let over = match phase {
        "Succeeded" => Some("PodCompleted"),
        "Failed" => Some("PodFailed"),
        _ => None,
    };
    let ready = containers_ready(pod, seen, over);
    vec![sandbox, init_finding(pod, seen, over), gated(pod, previous, &ready), ready, scheduled]
}

fn init_finding(pod: &Pod, seen: &Observed, over: Option<&'static str>) -> Finding {
    if over == Some("PodCompleted") {
        return ("Initialized", true, over, None);
    }
    if initialized(pod, seen) {
        return ("Initialized", true, None, None);
    }
    let pending: Vec<&str> = containers(pod)
        .filter(|(role, c)| match role {
            Role::Init => seen.container(&c.name).exited().is_none_or(|e| e.code != 0),
            Role::Sidecar => !seen.container(&c.name).started(),
            Role::Main => false,
        })
        .map(|(_, c)| c.name.as_str())
        .collect();
    let message = format!("containers with incomplete status: [{}]", pending.join(" "));
    ("Initialized", false, Some("ContainersNotInitialized"), Some(message))
}

fn containers_ready(pod: &Pod, seen: &Observed, over: Option<&'static str>) -> Finding {
    if over.is_some() {
        return ("ContainersReady", false, over, None);
    }
    let unready: Vec<&str> = containers(pod)
        .filter(|(role, c)| {
            let obs = seen.container(&c.name);
            *role != Role::Init && !(obs.running() && obs.probes.started && obs.probes.ready)
        })
        .map(|(_, c)| c.name.as_str())
        .collect();
    if unready.is_empty() {
        return ("ContainersReady", true, None, None);
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    ("ContainersReady", false, Some("ContainersNotReady"), Some(message))
}

fn gated(pod: &Pod, previous: &PodStatus, ready: &Finding) -> Finding {
    let (_, holds, reason, message) = ready.clone();
    if !holds {
        return ("Ready", false, reason, message);
    }
    let open = |gate: &str| previous.conditions.iter().flatten().any(|c| c.type_ == gate && c.status == "True");
    let gates = spec(pod).readiness_gates.iter().flatten();
    let shut: Vec<String> = gates
        .filter(|g| !open(&g.condition_type))
        .map(|g| {
            format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist or is not True",
                g.condition_type
            )
        })
        .collect();
    match shut.is_empty() {
        true => ("Ready", true, None, None),
        false => ("Ready", false, Some("ReadinessGatesNotReady"), Some(shut.join(", "))),
    }
}

/// metav1.Time has no fractions.
fn whole_second(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// What an earlier status says about containers this node has no record of, after a reboot or a lost directory.
/// A container said to run is lost: nobody saw its end.
pub fn recall(pod: &Pod, now: Timestamp) -> std::collections::BTreeMap<String, ContainerObs> {
    let status = pod.status.clone().unwrap_or_default();
    let all = status.init_container_statuses.into_iter().chain(status.container_statuses).flatten();
    all.filter_map(|s| recall_one(&s, now).map(|obs| (s.name, obs))).collect()
}

fn recall_one(status: &ContainerStatus, now: Timestamp) -> Option<ContainerObs> {
    let id = status.container_id.as_deref()?.trim_start_matches(ID_SCHEME).to_owned();
    let number = u32::try_from(status.restart_count).unwrap_or(0);
    let lost = Exited {
        started_at: None,
        finished_at: now,
        code: 137,
        signal: 0,
        reason: "ContainerStatusUnknown".to_owned(),
        message: "The container could not be located when the kubelet started".to_owned(),
    };
    let exit_of = |state: &ContainerState| state.terminated.as_ref().map(|t| recalled_exit(t, now));
    let current = status.state.as_ref().and_then(exit_of);
    let last = status.last_state.as_ref().and_then(exit_of);
    let waiting = status.state.as_ref().is_some_and(|s| s.waiting.is_some());
    let exit = current.or(if waiting { last } else { None }).unwrap_or(lost);
    let attempt = Attempt {
        id,
        number,
        image_id: status.image_id.clone(),
        user: (0, 0, Vec::new()),
        state: AttemptState::Exited(exit),
    };
    Some(ContainerObs { attempt: Some(attempt), restarts: number, ..ContainerObs::default() })
}

fn recalled_exit(terminated: &ContainerStateTerminated, now: Timestamp) -> Exited {
    Exited {
        started_at: terminated.started_at.as_ref().map(|t| t.0),
        finished_at: terminated.finished_at.as_ref().map_or(now, |t| t.0),
        code: terminated.exit_code,
        signal: terminated.signal.unwrap_or(0),
        reason: terminated.reason.clone().unwrap_or_default(),
        message: terminated.message.clone().unwrap_or_default(),
    }
}
