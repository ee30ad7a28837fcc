//! One pod's life on its node: the real plan, and an edge at which everything it asks for is done by its next turn.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerState, Pod, PodStatus};
use pintle_kubelet_plan::env::Facts;
pub use pintle_kubelet_plan::node::MachineFacts;
use pintle_kubelet_plan::observed::{Attempt, AttemptState, Observed, Stage};
use pintle_kubelet_plan::{Action, plan, status};

/// A machine with one address; pods get what is left of its memory after 100 MiB.
pub fn machine(name: &str, ip: &str, memory_mib: i64) -> MachineFacts {
    MachineFacts {
        name: name.to_owned(),
        hostname: name.to_owned(),
        ips: vec![ip.to_owned()],
        cpus: 2,
        memory: memory_mib << 20,
        disk: 1 << 30,
        pods_max: 110,
        ..MachineFacts::default()
    }
}

/// A pod on its node and what is known about it there.
pub struct Life {
    pub pod: Pod,
    pub facts: Facts,
    pub seen: Observed,
    now: Timestamp,
    ip: String,
}

impl Life {
    pub fn new(pod: Pod, node: &MachineFacts, ip: &str, now: Timestamp) -> Life {
        let facts = Facts {
            node_name: node.name.clone(),
            host_ips: node.ips.clone(),
            pod_ips: vec![ip.to_owned()],
            machine_memory: node.memory,
            ..Facts::default()
        };
        let seen = Observed { started_at: Some(now), ..Observed::default() };
        Life { pod, facts, seen, now, ip: ip.to_owned() }
    }

    /// One round of observe, plan, apply; answers what was planned.
    pub fn turn(&mut self) -> Vec<Action> {
        let actions = plan(&self.pod, &self.seen, self.now).actions;
        actions.iter().for_each(|action| self.apply(action));
        actions
    }

    fn apply(&mut self, action: &Action) {
        let now = self.now;
        match action {
            Action::SetUpSandbox => self.seen.sandbox = Stage::Ready(vec![self.ip.clone()]),
            Action::MountVolumes => self.seen.volumes = Stage::Ready(()),
            Action::ResolveImage { container } => {
                self.seen.containers.entry(container.clone()).or_default().image = Stage::Ready(());
            }
            Action::Start { container, attempt } => {
                let image_id = self.container().image.unwrap();
                let seen = self.seen.containers.entry(container.clone()).or_default();
                seen.attempt = Some(Attempt {
                    id: format!("{container}-{attempt}"),
                    number: *attempt,
                    image_id,
                    user: (0, 0, Vec::new()),
                    state: AttemptState::Running { started_at: now },
                });
                seen.probes.started = true;
            }
            Action::Stop { .. } | Action::TearDown | Action::Delete => panic!("nothing ends on this journey"),
        }
    }

    /// The readiness probe got its first good answer.
    pub fn answers(&mut self) {
        self.seen.containers.values_mut().for_each(|container| container.probes.ready = true);
    }

    /// The pod's only container.
    pub fn container(&self) -> Container {
        self.pod.spec.as_ref().unwrap().containers[0].clone()
    }

    /// What the API is to be told.
    pub fn status(&self) -> PodStatus {
        let before = self.pod.status.clone().unwrap_or_default();
        status::pod_status(&self.pod, &self.seen, &before, &self.facts, self.now)
    }

    /// The same in a few words.
    pub fn summary(&self) -> String {
        let status = self.status();
        let state = status.container_statuses.unwrap()[0].state.clone().unwrap();
        let word = match state {
            ContainerState { waiting: Some(waiting), .. } => waiting.reason.unwrap_or_default(),
            ContainerState { running: Some(_), .. } => "running".to_owned(),
            ContainerState { .. } => "over".to_owned(),
        };
        let conditions: Vec<String> =
            status.conditions.unwrap().iter().filter(|c| c.status == "True").map(|c| c.type_.clone()).collect();
        format!("{} ({word}); true: {}", status.phase.unwrap(), conditions.join(" "))
    }
}
