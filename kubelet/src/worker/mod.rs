//! One pod's owner task: it alone knows the pod's state, asks the plan what to do and starts it.
//!
//! ```text
//!   messages (pod changed, step done, event of the supervisor, probe's verdict, timer)
//!        v
//!   observe ──> plan (pure) ──> apply: each action a task of its own that reports by a message
//!        └────> record on disk, status to the API server, view for the kubelet's API
//! ```
//!
//! The pod's life itself is drawn in `kubelet/plan/src/life.rs`.

mod adopt;
mod apply;
mod containers;
pub(crate) mod exec;
mod grpc;
mod handle;
mod hooks;
mod http;
mod probes;
mod sandbox;
mod start;
mod status;
mod stop;
mod tear_down;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use pintle_kubelet_plan::containers::uid;
use pintle_kubelet_plan::observed::{Attempt, Observed, Rejection};
use pintle_kubelet_plan::probe::ProbeKind;
use pintle_shim::{ContainerState, Event};
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use start::log_dir;
pub(crate) use tear_down::orphan as tear_down_orphan;

use crate::context::Context;
use crate::error::PodError;
use crate::images::{ImageError, ResolvedImage};
use crate::record::Record;
use crate::shim::Shim;
use crate::tokens::Tokens;

/// Something a pod's task is told.
pub(crate) enum Message {
    /// The pod as the API server or the manifest now has it.
    Pod(Arc<Pod>),
    /// The object to write the status to, if not the pod itself: a static pod's mirror.
    Mirror(Option<Arc<Pod>>),
    /// It is no longer in the API server, or its manifest is gone.
    Gone(Arc<Pod>),
    /// A ConfigMap or Secret it refers to changed.
    ObjectsChanged,
    /// Only look again.
    Wake,
    /// The sandbox is up, or why not.
    Sandbox(Result<(Shim, Vec<String>), PodError>),
    /// The volumes are there, or why not.
    Volumes(Result<(), PodError>),
    /// An image was looked for.
    Image { container: String, result: Result<Option<ResolvedImage>, ImageError> },
    /// A start is over.
    Started { container: String, id: String, result: Result<Attempt, start::Trouble> },
    /// The supervisor said something; `None`: it is gone.
    Shim(Option<Event>),
    /// A probe asked once.
    Probe(ProbeReport),
    /// Tear-down is over.
    TornDown(Result<(), PodError>),
    /// The API server deleted the pod.
    Deleted,
    /// A status was written; the pod as it then was.
    StatusWritten(Result<Box<Pod>, pintle_client::Error>),
}

/// The outcome of one question of a probe.
pub(crate) struct ProbeReport {
    pub(crate) container: String,
    pub(crate) id: String,
    pub(crate) kind: ProbeKind,
    /// The verdict so far.
    pub(crate) good: Option<bool>,
    /// Why this question failed, if it did and is to be told.
    pub(crate) failure: Option<String>,
    /// What people should know of a question that succeeded.
    pub(crate) warning: Option<String>,
    pub(crate) grace_s: Option<i64>,
}

/// What the kubelet's API may know of a pod.
#[derive(Debug, Clone, Default)]
pub(crate) struct PodView {
    pub(crate) pod: Arc<Pod>,
    pub(crate) status: PodStatus,
    pub(crate) containers: BTreeMap<String, ContainerView>,
}

/// What the kubelet's API may know of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ContainerView {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) running: bool,
    pub(crate) previous_attempt: Option<u32>,
}

/// Who wants a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An object of the API server.
    ApiServer,
    /// A file on this node.
    Manifest,
}

/// How others reach a pod's task.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) origin: Origin,
    pub(crate) tell: mpsc::UnboundedSender<Message>,
    pub(crate) view: watch::Receiver<PodView>,
}

/// What goes with one attempt at running a container.
struct Job {
    id: String,
    exited: CancellationToken,
    probes: Vec<probes::Task>,
    stop: Option<tokio::task::AbortHandle>,
}

pub(crate) struct Worker {
    ctx: Arc<Context>,
    tell: mpsc::UnboundedSender<Message>,
    inbox: mpsc::UnboundedReceiver<Message>,
    pod: Arc<Pod>,
    origin: Origin,
    mirror: Option<Arc<Pod>>,
    gone: bool,
    born: Timestamp,
    seen: Observed,
    shim: Option<Shim>,
    images: HashMap<String, Arc<ResolvedImage>>,
    jobs: HashMap<String, Job>,
    early_exits: HashMap<String, ContainerState>,
    tokens: Arc<Mutex<Tokens>>,
    refresh_volumes: bool,
    refresh_at: Option<Timestamp>,
    deleting: bool,
    /// Failures of sandbox, volumes or tear-down in a row.
    failures: u32,
    saved: Option<Record>,
    reporter: status::Reporter,
    view: watch::Sender<PodView>,
    finished: bool,
}

impl Worker {
    /// Starts a pod's task. `rejection` says why the node refuses a pod it has not seen before.
    pub(crate) fn spawn(
        ctx: Arc<Context>,
        pod: Arc<Pod>,
        origin: Origin,
        rejection: Option<Rejection>,
        on_end: impl FnOnce(String) + Send + 'static,
    ) -> Handle {
        let (tell, inbox) = mpsc::unbounded_channel();
        let (view, view_out) = watch::channel(PodView { pod: pod.clone(), ..PodView::default() });
        let worker = Worker {
            ctx,
            tell: tell.clone(),
            inbox,
            pod,
            origin,
            mirror: None,
            gone: false,
            born: Timestamp::now(),
            seen: Observed { rejected: rejection, ..Observed::default() },
            shim: None,
            images: HashMap::new(),
            jobs: HashMap::new(),
            early_exits: HashMap::new(),
            tokens: Arc::default(),
            refresh_volumes: false,
            refresh_at: None,
            deleting: false,
            failures: 0,
            saved: None,
            reporter: status::Reporter::default(),
            view,
            finished: false,
        };
        tokio::spawn(async move { on_end(Box::pin(worker.run()).await) });
        Handle { origin, tell, view: view_out }
    }

    /// Lives until the pod is gone; returns its uid.
    async fn run(mut self) -> String {
        self.ctx.objects.watch(&self.pod, &self.tell);
        self.adopt().await;
        loop {
            let wake_at = self.step();
            if self.finished {
                break;
            }
            let Some(message) = self.next(wake_at).await else { break };
            self.handle(message);
            while let Ok(more) = self.inbox.try_recv() {
                self.handle(more);
            }
        }
        self.ctx.objects.forget(uid(&self.pod));
        uid(&self.pod).to_owned()
    }

    async fn next(&mut self, wake_at: Option<Timestamp>) -> Option<Message> {
        let wake = async {
            match wake_at {
                Some(at) => crate::bootstrap::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = self.inbox.recv() => message,
            () = wake => Some(Message::Wake),
            () = self.ctx.cancel.cancelled() => None,
        }
    }

    /// Plans, starts what the plan says, tells the world. Returns when to plan again if nothing happens.
    fn step(&mut self) -> Option<Timestamp> {
        let now = Timestamp::now();
        if self.seen.terminating_since.is_none() && (self.gone || self.pod.metadata.deletion_timestamp.is_some()) {
            self.seen.terminating_since = Some(now);
        }
        let plan = pintle_kubelet_plan::plan(&self.pod, &self.seen, now);
        for action in plan.actions {
            self.apply(action, now);
        }
        self.finish_if_gone();
        if self.finished {
            return None;
        }
        self.refresh(now);
        self.save(now);
        let report_at = self.report(now);
        [plan.wake_at, self.refresh_at, report_at].into_iter().flatten().min()
    }

    fn run_dir(&self) -> PathBuf {
        self.ctx.config.dirs.pod_run(uid(&self.pod))
    }

    fn ips(&self) -> Vec<String> {
        self.seen.sandbox.ready().cloned().unwrap_or_default()
    }

    /// Runs a step of the pod's life beside the task; its outcome comes back as a message.
    fn spawn_step(&self, step: impl Future<Output = Message> + Send + 'static) -> tokio::task::AbortHandle {
        let tell = self.tell.clone();
        // The pod's task may have ended; then nobody needs the outcome.
        tokio::spawn(async move { drop(tell.send(Box::pin(step).await)) }).abort_handle()
    }

    fn save(&mut self, now: Timestamp) {
        let record = Record::of(&self.pod, self.origin == Origin::Manifest, &self.seen, now);
        if self.saved.as_ref() == Some(&record) {
            return;
        }
        match record.save(&self.run_dir()) {
            Ok(()) => self.saved = Some(record),
            Err(e) => tracing::warn!(error = crate::error::chain(&e), "cannot record a pod's state"),
        }
    }
}

/// Runs blocking work on the blocking pool.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}
