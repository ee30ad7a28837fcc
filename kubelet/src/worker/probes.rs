//! Asking a container's probes: one task per probe, one timer, the verdict told to the pod's task.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use pintle_kubelet_plan::containers::uid;
use pintle_kubelet_plan::probe::{Check, ProbeKind, ProbePlan, Tally, eager_delay};
use tokio::sync::mpsc;

use super::{Message, ProbeReport, exec, grpc, http};
use crate::context::Context;
use crate::error::{PodError, chain};

/// Whom a probe asks.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) ctx: Arc<Context>,
    pub(super) tell: mpsc::UnboundedSender<Message>,
    pub(super) pod: Arc<Pod>,
    pub(super) container: String,
    pub(super) id: String,
    pub(super) ip: Option<String>,
}

/// A probe's task; dropping it ends the probe.
pub(super) struct Task(tokio::task::AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts a probe.
pub(super) fn spawn(target: Target, plan: ProbePlan) -> Task {
    Task(tokio::spawn(Box::pin(run(target, plan))).abort_handle())
}

/// An answer that is good, though people may be told of something.
#[derive(Default)]
struct Good {
    warning: Option<String>,
}

async fn run(target: Target, plan: ProbePlan) {
    let mut tally = Tally::default();
    let mut line = None;
    tokio::time::sleep(seconds(plan.initial_delay_s)).await;
    loop {
        let answer = ask(&target, &plan, &mut line).await;
        let eager = eager_delay(&plan, &tally).filter(|_| answer.is_err());
        if let Some(delay) = eager {
            tally.eager += 1;
            tokio::time::sleep(Duration::try_from(delay).unwrap_or_default()).await;
            continue;
        }
        let before = tally;
        tally = tally.after(answer.is_ok(), &plan);
        let warning = answer.as_ref().ok().and_then(|good| good.warning.clone());
        if answer.is_err() || warning.is_some() || tally.good != before.good {
            let report = ProbeReport {
                container: target.container.clone(),
                id: target.id.clone(),
                kind: plan.kind,
                good: tally.good,
                failure: answer.err(),
                warning,
                grace_s: plan.grace_s,
            };
            if target.tell.send(Message::Probe(report)).is_err() {
                return;
            }
        }
        if plan.kind == ProbeKind::Startup && tally.good == Some(true) {
            return;
        }
        tokio::time::sleep(seconds(plan.period_s)).await;
    }
}

async fn ask(target: &Target, plan: &ProbePlan, line: &mut Option<exec::Line>) -> Result<Good, String> {
    let limit = seconds(plan.timeout_s);
    let host = |own: &Option<String>| own.clone().or_else(|| target.ip.clone()).unwrap_or_default();
    match &plan.check {
        Check::Http { https, host: own, port, path, headers } => {
            let request = http::Request {
                https: *https,
                host: host(own),
                port: *port,
                path: path.clone(),
                headers: headers.clone(),
                agent: "kube-probe/1.37",
            };
            match http::get(&request, limit).await? {
                http::Good::Plain => Ok(Good::default()),
                http::Good::Redirect(why) => Ok(Good { warning: Some(why) }),
            }
        }
        Check::Tcp { host: own, port } => http::dial(&host(own), *port, limit).await.map(|()| Good::default()),
        Check::Grpc { port, service } => {
            grpc::check(&host(&None), *port, service, limit).await.map(|()| Good::default())
        }
        Check::Exec { command } => {
            let outcome = execute(target, command.clone(), limit, line).await.map_err(|e| chain(&e))?;
            match outcome.exit.code {
                _ if outcome.exit.timed_out => Err(format!("command timed out after {} s", plan.timeout_s)),
                0 => Ok(Good::default()),
                _ => Err(outcome.output),
            }
        }
        Check::Impossible { reason } => Err(reason.clone()),
    }
}

/// Runs the command on the probe's own line, which is kept as long as it works.
async fn execute(
    target: &Target,
    command: Vec<String>,
    limit: Duration,
    kept: &mut Option<exec::Line>,
) -> Result<exec::Captured, PodError> {
    let mut line = match kept.take() {
        Some(line) => line,
        None => exec::Line::open(&target.ctx, uid(&target.pod), &target.container, &target.id).await?,
    };
    let outcome = line.capture(command, Some(limit)).await?;
    *kept = Some(line);
    Ok(outcome)
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
