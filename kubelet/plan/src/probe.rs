//! Probes: what is asked of a container, and when the answers change a verdict.
//!
//! Owns: reading the spec, thresholds, the next moment to ask. Does not own: asking.
//!
//! ```text
//!            success × successThreshold
//!   unknown ───────────────────────────> good <──┐
//!      │                                  │      │ success × successThreshold
//!      │ failure × failureThreshold       v      │
//!      └────────────────────────────────> bad ───┘
//! ```

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What a probe decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Whether the container has come up; the other two wait for it.
    Startup,
    /// Whether it takes traffic.
    Readiness,
    /// Whether it is to be restarted.
    Liveness,
}

impl ProbeKind {
    /// As events say it.
    pub fn word(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Readiness => "Readiness",
            ProbeKind::Liveness => "Liveness",
        }
    }
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// Run a command in the container; exit code 0 is success.
    Exec {
        /// The command.
        command: Vec<String>,
    },
    /// GET; 200 to 399 is success.
    Http {
        /// TLS, unverified.
        https: bool,
        /// Host; `None` is the pod's address.
        host: Option<String>,
        /// Port.
        port: u16,
        /// Path with query.
        path: String,
        /// More headers.
        headers: Vec<(String, String)>,
    },
    /// Open a connection.
    Tcp {
        /// Host; `None` is the pod's address.
        host: Option<String>,
        /// Port.
        port: u16,
    },
    /// Ask `grpc.health.v1.Health`; SERVING is success. Always at the pod's address.
    Grpc {
        /// Port.
        port: u16,
        /// Which service; empty asks for the whole server.
        service: String,
    },
    /// Cannot be asked; says why.
    Impossible {
        /// Why.
        reason: String,
    },
}

/// A probe with its defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbePlan {
    /// What it decides.
    pub kind: ProbeKind,
    /// What is asked.
    pub check: Check,
    /// Seconds after start before the first question.
    pub initial_delay_s: i64,
    /// Seconds between questions.
    pub period_s: i64,
    /// Seconds to wait for the answer.
    pub timeout_s: i64,
    /// Successes in a row that make it good.
    pub success_min: i32,
    /// Failures in a row that make it bad.
    pub failure_min: i32,
    /// Seconds to end the container when this probe gives up, if it says so.
    pub grace_s: Option<i64>,
}

/// What a probe knows so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// The verdict; `None` before the first.
    pub good: Option<bool>,
    /// Length of the current run of equal answers.
    pub run: i32,
    /// Whether that run is of successes.
    pub succeeding: bool,
    /// Eager questions asked before the first success.
    pub eager: u32,
}

impl Tally {
    /// The tally after one more answer, and whether the verdict changed or was confirmed as bad.
    #[must_use]
    pub fn after(self, success: bool, plan: &ProbePlan) -> Tally {
        let run = if success == self.succeeding { self.run.saturating_add(1) } else { 1 };
        let enough = run >= if success { plan.success_min } else { plan.failure_min };
        Tally { good: if enough { Some(success) } else { self.good }, run, succeeding: success, eager: self.eager }
    }
}

/// The probes of a container.
pub fn probes(container: &Container) -> Vec<ProbePlan> {
    [
        (ProbeKind::Startup, &container.startup_probe),
        (ProbeKind::Readiness, &container.readiness_probe),
        (ProbeKind::Liveness, &container.liveness_probe),
    ]
    .into_iter()
    .filter_map(|(kind, probe)| Some(read(kind, probe.as_ref()?, container)))
    .collect()
}

/// How long to wait before an extra question to a container that just started and has not answered well yet;
/// `None` once the period's own rhythm takes over. Extra failures do not count. Exec probes are too dear for it.
pub fn eager_delay(plan: &ProbePlan, tally: &Tally) -> Option<SignedDuration> {
    const FIRST_MS: i64 = 5;
    let cheap = matches!(plan.check, Check::Http { .. } | Check::Tcp { .. } | Check::Grpc { .. });
    if !cheap || plan.kind == ProbeKind::Liveness || tally.good.is_some() || tally.eager >= 20 {
        return None;
    }
    let delay_ms = FIRST_MS << tally.eager.min(20);
    (delay_ms < plan.period_s * 1000).then(|| SignedDuration::from_millis(delay_ms))
}

/// The check an httpGet, tcpSocket or exec of a probe or hook asks for.
pub fn http_check(action: &k8s_openapi::api::core::v1::HTTPGetAction, container: &Container) -> Check {
    let path = action.path.clone().unwrap_or_default();
    match port(&action.port, container) {
        Ok(port) => Check::Http {
            https: action.scheme.as_deref() == Some("HTTPS"),
            host: action.host.clone().filter(|h| !h.is_empty()),
            port,
            path: if path.starts_with('/') { path } else { format!("/{path}") },
            headers: action.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect(),
        },
        Err(reason) => Check::Impossible { reason },
    }
}

fn read(kind: ProbeKind, probe: &Probe, container: &Container) -> ProbePlan {
    let or = |value: Option<i32>, default: i32| value.filter(|v| *v > 0).unwrap_or(default);
    ProbePlan {
        kind,
        check: check(probe, container),
        initial_delay_s: i64::from(or(probe.initial_delay_seconds, 0)),
        period_s: i64::from(or(probe.period_seconds, 10)),
        timeout_s: i64::from(or(probe.timeout_seconds, 1)),
        success_min: if kind == ProbeKind::Readiness { or(probe.success_threshold, 1) } else { 1 },
        failure_min: or(probe.failure_threshold, 3),
        grace_s: probe.termination_grace_period_seconds,
    }
}

fn check(probe: &Probe, container: &Container) -> Check {
    if let Some(exec) = &probe.exec {
        return Check::Exec { command: exec.command.clone().unwrap_or_default() };
    }
    if let Some(http) = &probe.http_get {
        return http_check(http, container);
    }
    if let Some(tcp) = &probe.tcp_socket {
        return match port(&tcp.port, container) {
            Ok(port) => Check::Tcp { host: tcp.host.clone().filter(|h| !h.is_empty()), port },
            Err(reason) => Check::Impossible { reason },
        };
    }
    if let Some(grpc) = &probe.grpc {
        let service = grpc.service.clone().unwrap_or_default();
        return match port(&IntOrString::Int(grpc.port), container) {
            Ok(port) => Check::Grpc { port, service },
            Err(reason) => Check::Impossible { reason },
        };
    }
    Check::Impossible { reason: "the probe has none of exec, httpGet, tcpSocket and grpc".to_owned() }
}

fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())
        }
    };
    number
        .and_then(|n| u16::try_from(n).ok())
        .filter(|n| *n != 0)
        .ok_or_else(|| format!("container \"{}\" has no port {port:?}", container.name))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn plan(success: i32, failure: i32) -> ProbePlan {
        let container: Container = serde_json::from_value(serde_json::json!({"name": "c",
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"port": "http", "path": "ready"},
                "successThreshold": success, "failureThreshold": failure}}))
        .unwrap();
        probes(&container).remove(0)
    }

    #[test]
    fn verdicts_change_only_after_their_threshold() {
        let table = [
            (1, 3, "f", "?"),
            (1, 3, "fff", "??-"),
            (1, 3, "s", "+"),
            (1, 3, "sffsff", "++++++"),
            (1, 3, "sfffs", "+++-+"),
            (2, 1, "sfss", "?--+"),
        ];
        for (success, failure, answers, verdicts) in table {
            let plan = plan(success, failure);
            let mut tally = Tally::default();
            let mut seen = String::new();
            for answer in answers.chars() {
                tally = tally.after(answer == 's', &plan);
                seen.push(match tally.good {
                    None => '?',
                    Some(true) => '+',
                    Some(false) => '-',
                });
            }
            assert_eq!(seen, verdicts, "{answers}");
        }
    }

    #[test]
    fn a_named_port_is_looked_up_and_a_path_made_absolute() {
        let wanted = Check::Http { https: false, host: None, port: 8080, path: "/ready".to_owned(), headers: vec![] };
        assert_eq!(plan(1, 1).check, wanted);
    }
}
