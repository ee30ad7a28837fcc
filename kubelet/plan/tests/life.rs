//! Pods' lives told as stories: the real plan against a node that does at once what it is told.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pintle_kubelet_plan::env::Facts;
use pintle_kubelet_plan::observed::{
    Attempt, AttemptState, Busy, ContainerObs, Exited, Failure, Observed, Stage, Unhealthy,
};
use pintle_kubelet_plan::status::{pod_status, recall};
use pintle_kubelet_plan::{Action, plan};

/// A node with one pod, and what happened on it.
struct Story {
    pod: Pod,
    seen: Observed,
    now: Timestamp,
    told: PodStatus,
    text: String,
    /// Images the store lacks.
    missing: Vec<&'static str>,
    /// Containers that ignore their stop signal.
    stubborn: Vec<&'static str>,
    deleted: bool,
}

impl Story {
    fn of(spec: serde_json::Value) -> Story {
        let pod = serde_json::json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u", "generation": 1},
            "spec": spec});
        let now = Timestamp::UNIX_EPOCH;
        let seen = Observed { started_at: Some(now), ..Observed::default() };
        Story {
            pod: serde_json::from_value(pod).unwrap(),
            seen,
            now,
            told: PodStatus::default(),
            text: String::new(),
            missing: Vec::new(),
            stubborn: Vec::new(),
            deleted: false,
        }
    }

    /// Plans and applies until nothing more is to do.
    fn settle(&mut self) -> &mut Story {
        for _ in 0..30 {
            let plan = plan(&self.pod, &self.seen, self.now);
            if plan.actions.is_empty() {
                let wake = plan.wake_at.map(|at| format!(", wakes in {} s", at.duration_since(self.now).as_secs()));
                self.show(&wake.unwrap_or_default());
                return self;
            }
            for action in plan.actions {
                self.apply(action);
            }
            if self.deleted {
                return self;
            }
        }
        panic!("the plan never comes to rest:\n{}", self.text);
    }

    fn say(&mut self, line: String) {
        writeln!(self.text, "{line}").unwrap();
    }

    fn show(&mut self, wake: &str) {
        self.told = pod_status(&self.pod, &self.seen, &self.told, &Facts::default(), self.now);
        let ready = self.told.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
        let init = self.told.init_container_statuses.iter().flatten();
        let all = init.chain(self.told.container_statuses.iter().flatten()).map(word).collect::<Vec<_>>();
        let phase = self.told.phase.clone().unwrap_or_default();
        let ready = if ready { " Ready" } else { "" };
        self.say(format!("= {phase}{ready} [{}]{wake}", all.join(", ")));
    }

    fn obs(&mut self, name: &str) -> &mut ContainerObs {
        self.seen.containers.entry(name.to_owned()).or_default()
    }

    fn apply(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::SetUpSandbox => {
                self.say("set up sandbox".to_owned());
                self.seen.sandbox = Stage::Ready(vec!["10.42.0.2".to_owned()]);
            }
            Action::MountVolumes => {
                self.say("mount volumes".to_owned());
                self.seen.volumes = Stage::Ready(());
            }
            Action::ResolveImage { container } => self.resolve(&container),
            Action::Start { container, attempt } => {
                self.say(format!("start {container} #{attempt}"));
                let obs = self.obs(&container);
                if obs.attempt.is_some() {
                    obs.crash = obs.crash.raised(now);
                }
                obs.previous = obs.attempt.take();
                obs.restarts = attempt;
                let state = AttemptState::Running { started_at: now };
                obs.attempt = Some(Attempt {
                    id: format!("{container}-{attempt}"),
                    number: attempt,
                    image_id: "i".to_owned(),
                    user: (0, 0, vec![]),
                    state,
                });
                obs.probes.started = true;
                obs.probes.ready = true;
            }
            Action::Stop { container, deadline, why } => {
                let left = deadline.duration_since(now).as_secs();
                self.say(format!("stop {container} ({why:?}, {left} s)"));
                if self.stubborn.iter().any(|s| *s == container) {
                    self.obs(&container).busy = Some(Busy::Stopping { deadline });
                } else {
                    self.end(&container, 143);
                }
            }
            Action::TearDown => {
                self.say("tear down".to_owned());
                self.seen.sandbox = Stage::Removed;
                self.seen.volumes = Stage::Removed;
            }
            Action::Delete => {
                self.say("delete".to_owned());
                self.deleted = true;
            }
        }
    }

    fn resolve(&mut self, container: &str) {
        let (now, missing) = (self.now, self.missing.contains(&container));
        let obs = self.obs(container);
        if missing {
            let backoff = obs.image_failure.as_ref().map(|f| f.backoff).unwrap_or_default().raised(now);
            let reason = if obs.image_failure.is_some() { "ImagePullBackOff" } else { "ErrImagePull" };
            obs.image = Stage::Failed { message: String::new(), retry_at: backoff.allowed_at(now) };
            let message = "import it".to_owned();
            obs.image_failure = Some(Failure { reason: reason.to_owned(), message, at: now, backoff });
            self.say(format!("no image for {container}"));
        } else {
            obs.image = Stage::Ready(());
            obs.image_failure = None;
        }
    }

    fn end(&mut self, name: &str, code: i32) {
        let now = self.now;
        let obs = self.obs(name);
        let reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
        let exit = Exited { started_at: None, finished_at: now, code, signal: 0, reason, message: String::new() };
        obs.attempt.as_mut().unwrap().state = AttemptState::Exited(exit);
        obs.busy = None;
        obs.probes = Default::default();
        obs.image = Stage::Absent;
    }

    fn exits(&mut self, name: &str, code: i32) -> &mut Story {
        self.say(format!("> {name} exits with {code}"));
        self.end(name, code);
        self.settle()
    }

    fn after(&mut self, seconds: i64) -> &mut Story {
        self.say(format!("> {seconds} s pass"));
        self.now += SignedDuration::from_secs(seconds);
        self.settle()
    }

    fn delete(&mut self, grace_s: i64) -> &mut Story {
        self.say(format!("> deleted with a grace of {grace_s} s"));
        self.pod.metadata.deletion_timestamp = Some(Time(self.now));
        self.pod.metadata.deletion_grace_period_seconds = Some(grace_s);
        self.seen.terminating_since.get_or_insert(self.now);
        self.settle()
    }
}

fn word(status: &ContainerStatus) -> String {
    let state = match status.state.clone().unwrap_or_default() {
        ContainerState { waiting: Some(w), .. } => w.reason.unwrap_or_default(),
        ContainerState { running: Some(_), .. } => "running".to_owned(),
        ContainerState { terminated: Some(t), .. } => format!("exit {}", t.exit_code),
        ContainerState { .. } => "?".to_owned(),
    };
    let restarts = if status.restart_count > 0 { format!(" x{}", status.restart_count) } else { String::new() };
    format!("{} {state}{restarts}", status.name)
}

#[test]
fn a_crashing_container_is_started_again_with_growing_patience_and_the_pod_ends_when_deleted() {
    let mut story = Story::of(serde_json::json!({"containers": [{"name": "web", "image": "b"}]}));
    story.settle().exits("web", 1).exits("web", 1).after(10).exits("web", 1).delete(30);
    insta::assert_snapshot!(story.text, @r"
    set up sandbox
    mount volumes
    start web #0
    = Running Ready [web running]
    > web exits with 1
    start web #1
    = Running Ready [web running x1]
    > web exits with 1
    = Running [web CrashLoopBackOff x1], wakes in 10 s
    > 10 s pass
    start web #2
    = Running Ready [web running x2]
    > web exits with 1
    = Running [web CrashLoopBackOff x2], wakes in 20 s
    > deleted with a grace of 30 s
    tear down
    delete
    ");
}

#[test]
fn init_containers_run_in_order_and_a_sidecar_outlives_the_main_container() {
    let mut story = Story::of(serde_json::json!({"restartPolicy": "Never",
        "initContainers": [{"name": "one", "image": "b"}, {"name": "mesh", "image": "b", "restartPolicy": "Always"},
            {"name": "two", "image": "b"}],
        "containers": [{"name": "job", "image": "b"}]}));
    story.settle().exits("one", 0).exits("two", 0).exits("job", 0);
    insta::assert_snapshot!(story.text, @r"
    set up sandbox
    mount volumes
    start one #0
    = Pending [one running, mesh PodInitializing, two PodInitializing, job PodInitializing]
    > one exits with 0
    start mesh #0
    start two #0
    = Pending [one exit 0, mesh running, two running, job PodInitializing]
    > two exits with 0
    start job #0
    = Running Ready [one exit 0, mesh running, two exit 0, job running]
    > job exits with 0
    stop mesh (MainsOver, 30 s)
    tear down
    = Succeeded [one exit 0, mesh exit 143, two exit 0, job exit 0]
    ");
}

#[test]
fn an_init_container_that_fails_for_good_fails_the_pod() {
    let mut story = Story::of(serde_json::json!({"restartPolicy": "Never",
        "initContainers": [{"name": "one", "image": "b"}], "containers": [{"name": "job", "image": "b"}]}));
    story.settle().exits("one", 2);
    insta::assert_snapshot!(story.text, @r"
    set up sandbox
    mount volumes
    start one #0
    = Pending [one running, job PodInitializing]
    > one exits with 2
    tear down
    = Failed [one exit 2, job PodInitializing]
    ");
}

#[test]
fn a_missing_image_is_looked_for_again_with_back_off() {
    let mut story = Story::of(serde_json::json!({"containers": [{"name": "web", "image": "b"}]}));
    story.missing = vec!["web"];
    story.settle().after(10).after(20);
    story.missing.clear();
    story.after(40);
    insta::assert_snapshot!(story.text, @r"
    set up sandbox
    mount volumes
    no image for web
    = Pending [web ErrImagePull], wakes in 10 s
    > 10 s pass
    no image for web
    = Pending [web ImagePullBackOff], wakes in 20 s
    > 20 s pass
    no image for web
    = Pending [web ImagePullBackOff], wakes in 40 s
    > 40 s pass
    start web #0
    = Running Ready [web running]
    ");
}

#[test]
fn a_shorter_grace_replaces_a_longer_one_and_nothing_is_torn_down_while_a_container_lives() {
    let mut story =
        Story::of(serde_json::json!({"containers": [{"name": "a", "image": "b"}, {"name": "c", "image": "b"}]}));
    story.stubborn = vec!["a"];
    story.settle().delete(30).delete(5).exits("a", 137);
    insta::assert_snapshot!(story.text, @r"
    set up sandbox
    mount volumes
    start a #0
    start c #0
    = Running Ready [a running, c running]
    > deleted with a grace of 30 s
    stop a (PodEnds, 30 s)
    stop c (PodEnds, 30 s)
    = Running [a running, c exit 143]
    > deleted with a grace of 5 s
    stop a (PodEnds, 5 s)
    = Running [a running, c exit 143]
    > a exits with 137
    tear down
    delete
    ");
}

#[test]
fn a_deadline_ends_the_pod_and_it_stays_failed() {
    let mut story =
        Story::of(serde_json::json!({"activeDeadlineSeconds": 60, "containers": [{"name": "web", "image": "b"}]}));
    story.settle().after(60);
    assert_eq!(story.told.reason.as_deref(), Some("DeadlineExceeded"));
    insta::assert_snapshot!(story.text, @r"
    set up sandbox
    mount volumes
    start web #0
    = Running Ready [web running], wakes in 60 s
    > 60 s pass
    stop web (PodEnds, 30 s)
    tear down
    = Failed [web exit 143]
    ");
}

#[test]
fn an_unhealthy_container_is_stopped_and_started_again() {
    let mut story = Story::of(serde_json::json!({"containers": [{"name": "web", "image": "b"}]}));
    story.settle();
    story.obs("web").probes.unhealthy = Some(Unhealthy { probe: "liveness", grace_s: Some(3) });
    story.settle();
    insta::assert_snapshot!(story.text, @r"
    set up sandbox
    mount volumes
    start web #0
    = Running Ready [web running]
    stop web (Unhealthy, 3 s)
    start web #1
    = Running Ready [web running x1]
    ");
}

#[test]
fn what_an_old_status_tells_is_enough_to_go_on_after_a_reboot() {
    let mut story = Story::of(serde_json::json!({"containers": [{"name": "web", "image": "b"}]}));
    story.settle().exits("web", 1);
    let mut pod = story.pod.clone();
    pod.status = Some(story.told.clone());
    let mut after = Story::of(serde_json::json!({}));
    after.now = story.now + SignedDuration::from_secs(100);
    after.seen.containers = recall(&pod, after.now);
    after.pod = pod;
    after.settle();
    insta::assert_snapshot!(after.text, @r"
    set up sandbox
    mount volumes
    start web #2
    = Running Ready [web running x2]
    ");
}

#[test]
fn a_finished_pod_of_an_earlier_life_is_only_torn_down() {
    let mut story = Story::of(serde_json::json!({"containers": [{"name": "web", "image": "b"}]}));
    story.pod.status = Some(PodStatus { phase: Some("Succeeded".to_owned()), ..PodStatus::default() });
    story.told = story.pod.status.clone().unwrap();
    story.settle();
    insta::assert_snapshot!(story.text, @r"
    tear down
    = Succeeded [web ContainerCreating]
    ");
}
