//! What becomes of containers: starts that ended, exits, a supervisor that is gone.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use pintle_kubelet_plan::containers::{Role, containers, find, uid};
use pintle_kubelet_plan::events::pod_words;
use pintle_kubelet_plan::life::runs_again;
use pintle_kubelet_plan::observed::{Attempt, AttemptState, Busy, Exited, Failure, ProbeView, Stage};
use pintle_kubelet_plan::probe::{ProbeKind, probes};
use pintle_shim::ContainerState;

use super::{Worker, probes, start};
use crate::error::chain;
use crate::files;

/// Kubernetes keeps this many bytes of a termination message.
const MESSAGE_MAX: usize = 4096;
/// `FallbackToLogsOnError` takes this many bytes and lines of the log.
const LOG_TAIL_MAX: usize = 2048;
const LOG_LINES_MAX: usize = 80;

impl Worker {
    pub(super) fn started(&mut self, container: &str, id: &str, result: Result<Attempt, start::Trouble>) {
        let now = Timestamp::now();
        let early = self.early_exits.remove(id);
        let Some(obs) = self.seen.containers.get_mut(container) else { return };
        obs.busy = None;
        match result {
            Ok(attempt) => {
                obs.previous = obs.attempt.take();
                obs.restarts = attempt.number;
                obs.attempt = Some(attempt);
                obs.start_failure = None;
                self.begin_probes(container, false);
            }
            Err(trouble) => {
                if let Some(attempt) = trouble.attempt {
                    obs.previous = obs.attempt.take();
                    obs.restarts = attempt.number;
                    obs.attempt = Some(attempt);
                    obs.image = Stage::Absent;
                }
                let known = obs.start_failure.take().filter(|f| f.reason == trouble.reason);
                let backoff = known.map(|f| f.backoff).unwrap_or_default().raised(now);
                let message = trouble.message.clone();
                obs.start_failure = Some(Failure { reason: trouble.reason.to_owned(), message, at: now, backoff });
                self.jobs.remove(container);
                if let Some((_, spec)) = find(&self.pod, container) {
                    self.ctx.event(&self.pod, Some(spec), "Failed", format!("Error: {}", trouble.message));
                }
            }
        }
        if let Some(state) = early {
            self.exited(state);
        }
    }

    pub(super) fn exited(&mut self, state: ContainerState) {
        let owner = self.jobs.iter().find(|(_, job)| job.id == state.id).map(|(name, _)| name.clone());
        let Some(name) = owner else { return };
        if let Some(job) = self.jobs.get(&name) {
            job.exited.cancel();
        }
        let starting = self.seen.container(&name).busy == Some(Busy::Starting);
        if starting {
            self.early_exits.insert(state.id.clone(), state);
            return;
        }
        let Some((_, spec)) = find(&self.pod, &name) else { return };
        let exit = self.exit_of(spec, &state);
        self.end(&name, exit);
    }

    /// Notes the end of a container's newest attempt.
    fn end(&mut self, name: &str, exit: Exited) {
        self.jobs.remove(name);
        let Some(obs) = self.seen.containers.get_mut(name) else { return };
        let again_at = obs.crash.allowed_at(exit.finished_at);
        if let Some(attempt) = &mut obs.attempt {
            attempt.state = AttemptState::Exited(exit);
        }
        obs.busy = None;
        obs.probes = ProbeView::default();
        // The next attempt looks for the image anew: it may have been replaced or removed.
        obs.image = Stage::Absent;
        if self.seen.terminating_since.is_none() && again_at > Timestamp::now() {
            self.tell_back_off(name);
        }
    }

    fn tell_back_off(&self, name: &str) {
        let (Some((role, spec)), Some(exit)) = (find(&self.pod, name), self.seen.container(name).exited()) else {
            return;
        };
        if runs_again(&self.pod, role, spec, exit) {
            let message = format!("Back-off restarting failed container {name} in pod {}", pod_words(&self.pod));
            self.ctx.event(&self.pod, Some(spec), "BackOff", message);
        }
    }

    pub(super) fn exit_of(&self, spec: &Container, state: &ContainerState) -> Exited {
        let exit = state.exit;
        let code = exit.map_or(137, |e| e.code);
        let reason = match exit {
            Some(e) if e.oom_killed => "OOMKilled",
            Some(e) if e.code == 0 => "Completed",
            Some(_) => "Error",
            None => "ContainerStatusUnknown",
        };
        let at = |ms: u64| Timestamp::from_millisecond(i64::try_from(ms).unwrap_or(0)).ok().filter(|_| ms > 0);
        let attempt = self.seen.container(&spec.name).attempt.as_ref().map_or(0, |a| a.number);
        Exited {
            started_at: at(state.started_ms),
            finished_at: at(state.finished_ms).unwrap_or_else(Timestamp::now),
            code,
            signal: exit.map_or(0, |e| e.signal),
            reason: reason.to_owned(),
            message: self.termination_message(spec, &state.id, attempt, code),
        }
    }

    fn termination_message(&self, spec: &Container, id: &str, attempt: u32, code: i32) -> String {
        let dirs = &self.ctx.config.dirs;
        let file = files::termination_log(dirs, uid(&self.pod), &spec.name, id);
        // An image may have replaced the file; no message is no reason to fail.
        let mut text = std::fs::read(&file).unwrap_or_default();
        text.truncate(MESSAGE_MAX);
        let fall_back = spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        if text.is_empty() && fall_back && code != 0 {
            let log = dirs.log_file(&start::log_dir(&self.pod), &spec.name, attempt);
            return log_tail(&log);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Starts the probes of a running container: at first the startup probe or, without one, the others.
    pub(super) fn begin_probes(&mut self, name: &str, started: bool) {
        let Some((role, spec)) = find(&self.pod, name) else { return };
        let plans = probes(spec);
        let has = |kind| plans.iter().any(|p| p.kind == kind);
        let started = started || !has(ProbeKind::Startup);
        let ready = !has(ProbeKind::Readiness);
        let Some(obs) = self.seen.containers.get_mut(name) else { return };
        obs.probes.started |= started;
        obs.probes.ready |= started && ready;
        let Some(job) = self.jobs.get_mut(name).filter(|_| role != Role::Init) else { return };
        let due = plans.into_iter().filter(|p| (p.kind == ProbeKind::Startup) != started);
        let target = probes::Target {
            ctx: self.ctx.clone(),
            tell: self.tell.clone(),
            pod: self.pod.clone(),
            container: name.to_owned(),
            id: job.id.clone(),
            ip: self
                .ctx
                .facts_of(&self.pod, self.seen.sandbox.ready().map_or(&[], Vec::as_slice))
                .pod_ips
                .first()
                .cloned(),
        };
        job.probes = due.map(|plan| probes::spawn(target.clone(), plan)).collect();
    }

    /// The supervisor ended without being asked to: its containers have no parent, so they are ended too.
    pub(super) fn shim_gone(&mut self) {
        if self.shim.take().is_none() {
            return;
        }
        tracing::warn!(pod = self.pod.metadata.name, "the pod's supervisor is gone; its containers are lost");
        self.ctx.event(&self.pod, None, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
        self.lose_sandbox();
    }

    /// Forgets a sandbox that died: containers are lost, init containers run again in the new one.
    pub(super) fn lose_sandbox(&mut self) {
        let now = Timestamp::now();
        self.jobs.clear();
        self.early_exits.clear();
        let roles: Vec<(Role, String)> = containers(&self.pod).map(|(r, c)| (r, c.name.clone())).collect();
        for (role, name) in roles {
            let Some(obs) = self.seen.containers.get_mut(&name) else { continue };
            let was_running = obs.running();
            if let Some(attempt) = obs.attempt.as_mut().filter(|_| was_running) {
                attempt.state = AttemptState::Exited(lost(attempt, now));
            }
            obs.busy = None;
            obs.probes = ProbeView::default();
            obs.image = Stage::Absent;
            if role != Role::Main && obs.attempt.is_some() {
                obs.restarts += 1;
                obs.previous = obs.attempt.take();
            }
        }
        self.seen.sandbox = Stage::Absent;
    }
}

fn lost(attempt: &Attempt, now: Timestamp) -> Exited {
    let started_at = match attempt.state {
        AttemptState::Running { started_at } => Some(started_at),
        AttemptState::Exited(_) => None,
    };
    Exited {
        started_at,
        finished_at: now,
        code: 137,
        signal: 0,
        reason: "ContainerStatusUnknown".to_owned(),
        message: "The container's supervisor ended; its exit code is not known".to_owned(),
    }
}

fn log_tail(path: &std::path::Path) -> String {
    use pintle_kubelet_plan::logs::Line;
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) => {
            tracing::debug!(error = chain(&e), "no log to take a termination message from");
            return String::new();
        }
    };
    let lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
    let from = lines.len().saturating_sub(LOG_LINES_MAX);
    let mut out = Vec::new();
    for line in lines[from..].iter().filter_map(|l| Line::parse(l)) {
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
    }
    let from = out.len().saturating_sub(LOG_TAIL_MAX);
    String::from_utf8_lossy(&out[from..]).into_owned()
}
