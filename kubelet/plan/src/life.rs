//! A pod's life: from what is observed to the next actions and the next moment to look again.
//!
//! Owns: order and timing. Does not own: doing any of it.
//!
//! ```text
//!             rejected ───────────────────────────────────────────────┐
//!                                                                     v
//!  seen ──> sandbox ∥ volumes ∥ images ──> init 1 … n ──> main ∥ … ──> all over ──> torn down ──> deleted
//!              │          (retried with       │  ^           │  ^         ^              (if the API asked)
//!              │           back-off)          └──┘           └──┘         │
//!              │                            crash loop     crash loop     │
//!              └── deletion, deadline: preStop, SIGTERM, grace, SIGKILL ──┘
//!                  (main containers together, then sidecars in reverse order)
//! ```
//!
//! Invariants: nothing is started once the pod is ending; an init container starts only when those before it are
//! done; nothing is torn down while a container runs or the edge is busy with one; a pod is deleted only when it is
//! torn down.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::containers::{RestartPolicy, Role, containers, grace_s, restart_policy, spec};
use crate::observed::{Busy, ContainerObs, Exited, Observed, Stage};

/// Something to do. The edge starts every action of a plan at once; their order matters only to readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Network namespace, addresses, supervisor.
    SetUpSandbox,
    /// All volumes.
    MountVolumes,
    /// Look for a container's image in the local store.
    ResolveImage {
        /// The container.
        container: String,
    },
    /// Make and start a container, run its postStart hook.
    Start {
        /// The container.
        container: String,
        /// Which attempt this is, from 0.
        attempt: u32,
    },
    /// preStop hook, stop signal, grace, SIGKILL.
    Stop {
        /// The container.
        container: String,
        /// When SIGKILL follows.
        deadline: Timestamp,
        /// For the event.
        why: StopReason,
    },
    /// Supervisor, volumes, mounts, network, cgroup: everything but logs and the record of what was.
    TearDown,
    /// Tell the API server that nothing is left of the pod.
    Delete,
}

/// Why a container is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The pod is ending.
    PodEnds,
    /// The main containers are over and this is a sidecar.
    MainsOver,
    /// Its liveness or startup probe gave up.
    Unhealthy,
}

/// What to do now, and when to plan again even if nothing happens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodPlan {
    /// All to be started now.
    pub actions: Vec<Action>,
    /// The next moment at which time alone changes the plan.
    pub wake_at: Option<Timestamp>,
}

impl PodPlan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |old| old.min(at)));
    }
}

/// Where the whole pod stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Containers run or are to run.
    Live,
    /// It is to end: deleted or past its deadline.
    Ending,
    /// Every container is over for good.
    Over,
}

/// The next actions for a pod.
pub fn plan(pod: &Pod, seen: &Observed, now: Timestamp) -> PodPlan {
    let mut out = PodPlan::default();
    match standing(pod, seen, now) {
        Standing::Live => live(pod, seen, now, &mut out),
        Standing::Ending => end(pod, seen, now, &mut out),
        Standing::Over => over(pod, seen, now, &mut out),
    }
    out
}

/// Whether the pod lives, ends or is over.
pub fn standing(pod: &Pod, seen: &Observed, now: Timestamp) -> Standing {
    let ended = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    if seen.rejected.is_some() || matches!(ended, Some("Succeeded" | "Failed")) {
        return if seen.terminating_since.is_some() { Standing::Ending } else { Standing::Over };
    }
    if seen.terminating_since.is_some() || deadline(pod, seen).is_some_and(|at| at <= now) {
        Standing::Ending
    } else if finished(pod, seen) {
        Standing::Over
    } else {
        Standing::Live
    }
}

/// When the pod's activeDeadlineSeconds run out.
pub fn deadline(pod: &Pod, seen: &Observed) -> Option<Timestamp> {
    let seconds = spec(pod).active_deadline_seconds?;
    Some(seen.started_at? + SignedDuration::from_secs(seconds))
}

/// Whether all main containers ended for good, or an init container failed for good.
pub fn finished(pod: &Pod, seen: &Observed) -> bool {
    let init_failed = containers(pod).any(|(role, c)| {
        let exit = seen.container(&c.name).exited();
        role == Role::Init && exit.is_some_and(|e| e.code != 0 && !runs_again(pod, role, c, e))
    });
    let mut mains = containers(pod).filter(|(role, _)| *role == Role::Main).peekable();
    let any = mains.peek().is_some();
    let ended = |role, c: &Container| {
        let exit = seen.container(&c.name).exited();
        exit.is_some_and(|e| !runs_again(pod, role, c, e))
    };
    init_failed || (any && mains.all(|(role, c)| ended(role, c)))
}

/// Whether all init containers are done and all sidecars have started once.
pub fn initialized(pod: &Pod, seen: &Observed) -> bool {
    let main_begun = containers(pod).any(|(role, c)| role == Role::Main && seen.container(&c.name).attempt.is_some());
    main_begun || containers(pod).all(|(role, c)| role == Role::Main || passed(role, seen.container(&c.name)))
}

/// Whether a container that ended like this is started again.
pub fn runs_again(pod: &Pod, role: Role, container: &Container, exit: &Exited) -> bool {
    if role == Role::Init && exit.code == 0 {
        return false;
    }
    for rule in container.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.iter().flatten().any(|c| *c == exit.code);
        let matches = if codes.operator == "NotIn" { !listed } else { listed };
        if matches && rule.action == "Restart" {
            return true;
        }
    }
    match restart_policy(pod, role, container) {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit.code != 0,
        RestartPolicy::Never => false,
    }
}

fn passed(role: Role, obs: &ContainerObs) -> bool {
    match role {
        Role::Init => obs.exited().is_some_and(|e| e.code == 0),
        Role::Sidecar => obs.started(),
        Role::Main => true,
    }
}

fn live(pod: &Pod, seen: &Observed, now: Timestamp, out: &mut PodPlan) {
    if let Some(at) = deadline(pod, seen) {
        out.wake(at);
    }
    let sandbox = stage(&seen.sandbox, Action::SetUpSandbox, now, out);
    let volumes = stage(&seen.volumes, Action::MountVolumes, now, out);
    let may_start = sandbox && volumes;
    for (role, container) in due(pod, seen) {
        advance(pod, role, container, seen, now, may_start, out);
    }
}

/// The containers that may run now, given how far initialisation is.
fn due<'p>(pod: &'p Pod, seen: &Observed) -> Vec<(Role, &'p Container)> {
    if initialized(pod, seen) {
        return containers(pod).filter(|(role, _)| *role != Role::Init).collect();
    }
    let mut out = Vec::new();
    for (role, container) in containers(pod).filter(|(role, _)| *role != Role::Main) {
        let done = passed(role, seen.container(&container.name));
        if !(role == Role::Init && done) {
            out.push((role, container));
        }
        if !done {
            break;
        }
    }
    out
}

fn stage<T>(stage: &Stage<T>, action: Action, now: Timestamp, out: &mut PodPlan) -> bool {
    match stage {
        Stage::Ready(_) => true,
        Stage::Busy | Stage::Removed => false,
        Stage::Absent => {
            out.actions.push(action);
            false
        }
        Stage::Failed { retry_at, .. } => {
            if *retry_at <= now {
                out.actions.push(action);
            } else {
                out.wake(*retry_at);
            }
            false
        }
    }
}

fn advance(
    pod: &Pod,
    role: Role,
    container: &Container,
    seen: &Observed,
    now: Timestamp,
    may_start: bool,
    out: &mut PodPlan,
) {
    let obs = seen.container(&container.name);
    if obs.busy.is_some() {
        return;
    }
    if obs.running() {
        if let Some(unhealthy) = &obs.probes.unhealthy {
            let grace = unhealthy.grace_s.unwrap_or_else(|| grace_s(pod)).max(1);
            let deadline = now + SignedDuration::from_secs(grace);
            let why = StopReason::Unhealthy;
            out.actions.push(Action::Stop { container: container.name.clone(), deadline, why });
        }
        return;
    }
    let allowed_at = match obs.exited() {
        Some(exit) if !runs_again(pod, role, container, exit) => return,
        Some(exit) => obs.crash.allowed_at(exit.finished_at),
        None => now,
    };
    let failed_until = obs.start_failure.as_ref().map_or(now, |f| f.backoff.allowed_at(f.at));
    let at = allowed_at.max(failed_until);
    if at > now {
        out.wake(at);
        return;
    }
    let image = Action::ResolveImage { container: container.name.clone() };
    if stage(&obs.image, image, now, out) && may_start {
        let attempt = obs.attempt.as_ref().map_or(obs.restarts, |a| a.number + 1);
        out.actions.push(Action::Start { container: container.name.clone(), attempt });
    }
}

/// Ends every container: the main and init ones at once, then the sidecars, last first.
fn end(pod: &Pod, seen: &Observed, now: Timestamp, out: &mut PodPlan) {
    let since = seen.terminating_since.or_else(|| deadline(pod, seen)).unwrap_or(now);
    let deadline = since + SignedDuration::from_secs(grace_s(pod));
    stop_in_order(pod, seen, deadline, StopReason::PodEnds, out);
    clear(pod, seen, now, out);
}

fn over(pod: &Pod, seen: &Observed, now: Timestamp, out: &mut PodPlan) {
    let deadline = now + SignedDuration::from_secs(grace_s(pod));
    stop_in_order(pod, seen, deadline, StopReason::MainsOver, out);
    clear(pod, seen, now, out);
}

fn stop_in_order(pod: &Pod, seen: &Observed, deadline: Timestamp, why: StopReason, out: &mut PodPlan) {
    let alive = |name: &str| seen.container(name).running() || seen.container(name).busy.is_some();
    let first: Vec<_> = containers(pod).filter(|(role, c)| *role != Role::Sidecar && alive(&c.name)).collect();
    let mut sidecars: Vec<_> = containers(pod).filter(|(role, c)| *role == Role::Sidecar && alive(&c.name)).collect();
    let last = sidecars.pop();
    let turn = if first.is_empty() { last.into_iter().collect() } else { first };
    for (_, container) in turn {
        let stopping = match &seen.container(&container.name).busy {
            // A shorter grace replaces a longer one that is under way; a start under way is stopped when it is done.
            Some(Busy::Stopping { deadline: old }) => *old <= deadline || why == StopReason::MainsOver,
            Some(Busy::Starting) => true,
            None => false,
        };
        if !stopping {
            out.actions.push(Action::Stop { container: container.name.clone(), deadline, why });
        }
    }
}

/// Once nothing runs: tear down, then delete.
fn clear(pod: &Pod, seen: &Observed, now: Timestamp, out: &mut PodPlan) {
    let idle = containers(pod).all(|(_, c)| {
        let obs = seen.container(&c.name);
        !obs.running() && obs.busy.is_none()
    });
    let busy = matches!(seen.sandbox, Stage::Busy) || matches!(seen.volumes, Stage::Busy);
    if !idle || busy {
        return;
    }
    let removed = matches!(seen.sandbox, Stage::Removed) && matches!(seen.volumes, Stage::Removed);
    if !removed {
        match &seen.sandbox {
            Stage::Failed { retry_at, .. } if *retry_at > now => out.wake(*retry_at),
            _ => out.actions.push(Action::TearDown),
        }
    } else if pod.metadata.deletion_timestamp.is_some() {
        out.actions.push(Action::Delete);
    }
}
