//! Starting one container: environment, root, mounts, bundle, create, start, postStart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Service};
use oci_spec::runtime::{LinuxSeccomp, Spec};
use pintle_kubelet_plan::containers::{Role, name, namespace, uid};
use pintle_kubelet_plan::env::environment;
use pintle_kubelet_plan::logs::pod_dir;
use pintle_kubelet_plan::observed::{Attempt, AttemptState, Exited};
use pintle_kubelet_plan::oci::{ContainerInput, VolumeBind, container_spec};
use pintle_kubelet_plan::resources::{pod_cgroup, qos_class};
use pintle_kubelet_plan::security;
use pintle_kubelet_plan::users::Identity;
use pintle_kubelet_plan::volumes::{MountPlan, env_references, mounts};
use pintle_shim::{Call, FailureKind};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::{blocking, hooks};
use crate::context::Context;
use crate::error::{At as _, PodError, chain};
use crate::images::{ResolvedImage, root_of};
use crate::shim::{Shim, ShimError};
use crate::{disk, files, volumes};

/// How long a start waits for the API server's objects its environment is made from.
const OBSERVE_MS_MAX: u64 = 3000;

/// Names and values.
type Environment = Vec<(String, String)>;

/// What is to be started.
pub(super) struct Order {
    pub(super) ctx: Arc<Context>,
    pub(super) pod: Arc<Pod>,
    pub(super) role: Role,
    pub(super) container: Container,
    pub(super) id: String,
    pub(super) attempt: u32,
    pub(super) old: Option<Attempt>,
    pub(super) image: Arc<ResolvedImage>,
    pub(super) shim: Shim,
    pub(super) ips: Vec<String>,
    pub(super) exited: CancellationToken,
}

/// Why a start failed, and the attempt it left if it got that far.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) attempt: Option<Attempt>,
}

/// A container id: 64 hex digits that no other attempt has.
pub(super) fn new_id(uid: &str, container: &str, attempt: u32, now: Timestamp) -> String {
    let seed = format!("{uid}/{container}/{attempt}/{}", now.as_nanosecond());
    Sha256::digest(seed.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

/// The pod's directory below the log directory.
pub(crate) fn log_dir(pod: &Pod) -> String {
    pod_dir(namespace(pod), name(pod), uid(pod))
}

/// Starts the container.
pub(super) async fn run(order: Order) -> Result<Attempt, Trouble> {
    let order = Arc::new(order);
    let prepared = prepare(&order).await;
    let identity = prepared.map_err(|e| {
        let reason = match e {
            PodError::Config(_) => "CreateContainerConfigError",
            _ => "CreateContainerError",
        };
        Trouble { reason, message: chain(&e), attempt: None }
    })?;
    create(&order).await.map_err(|e| failed_start(&order, &identity, "CreateContainerError", &e))?;
    let message = format!("Created container: {}", order.container.name);
    order.ctx.event(&order.pod, Some(&order.container), "Created", message);
    let start = Call::Start { container: order.id.clone() };
    let started = order.shim.call(start).await;
    started.map_err(|e| failed_start(&order, &identity, "RunContainerError", &e))?;
    let started_at = Timestamp::now();
    let message = format!("Started container {}", order.container.name);
    order.ctx.event(&order.pod, Some(&order.container), "Started", message);
    if let Some(hook) = order.container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) {
        let target = hooks::Target::of(&order.ctx, &order.pod, &order.container, &order.id, &order.ips);
        let outcome = tokio::select! {
            outcome = hooks::run(&target, hook, None) => outcome,
            () = order.exited.cancelled() => Ok(()),
        };
        if let Err(e) = outcome {
            let message = format!("PostStartHook failed: {}", chain(&e));
            order.ctx.event(&order.pod, Some(&order.container), "FailedPostStartHook", message);
            let kill = Call::Kill { container: order.id.clone(), signal: 9, all: true };
            if let Err(e) = order.shim.call(kill).await {
                tracing::warn!(error = chain(&e), "cannot kill a container whose postStart hook failed");
            }
        }
    }
    Ok(attempt(&order, &identity, AttemptState::Running { started_at }))
}

fn attempt(order: &Order, identity: &Identity, state: AttemptState) -> Attempt {
    Attempt {
        id: order.id.clone(),
        number: order.attempt,
        image_id: order.image.reference.clone(),
        user: (identity.uid, identity.gid, identity.groups.clone()),
        state,
    }
}

/// A program that cannot be run is the container's fault and counts as an attempt that ended.
fn failed_start(order: &Order, identity: &Identity, reason: &'static str, error: &ShimError) -> Trouble {
    let message = chain(error);
    let own_fault = matches!(error, ShimError::Failed(f) if f.kind == FailureKind::CannotRun);
    let now = Timestamp::now();
    let exit = Exited {
        started_at: None,
        finished_at: now,
        code: 128,
        signal: 0,
        reason: "StartError".to_owned(),
        message: message.clone(),
    };
    let attempt = own_fault.then(|| attempt(order, identity, AttemptState::Exited(exit)));
    Trouble { reason: if own_fault { "RunContainerError" } else { reason }, message, attempt }
}

/// Everything before the runtime is asked: removes the attempt before, makes root, mounts and bundle.
async fn prepare(order: &Arc<Order>) -> Result<Identity, PodError> {
    let limit = Duration::from_millis(OBSERVE_MS_MAX);
    let current = tokio::time::timeout(limit, current_environment(order)).await;
    let env = match current.unwrap_or(Err(PodError::NoEnvironment)) {
        Ok(env) => env,
        Err(e) if unreachable(&e) => last_environment(order).await.ok_or(e)?,
        Err(e) => return Err(e),
    };
    if let Some(old) = &order.old {
        remove_old(order, old).await;
    }
    let order = order.clone();
    blocking(move || make_bundle(&order, &env)).await
}

/// The environment as the API server's objects now make it.
async fn current_environment(order: &Order) -> Result<Environment, PodError> {
    let objects = order.ctx.objects.collect(&order.pod, &env_references(&order.container)).await?;
    let facts = order.ctx.facts_of(&order.pod, &order.ips);
    order.ctx.services.synced().await;
    let all = order.ctx.services.list();
    let services: Vec<Service> = all.iter().filter(|s| wanted(s, &order.pod)).map(|s| (**s).clone()).collect();
    Ok(environment(&order.pod, &order.container, &objects, &services, &facts)?)
}

/// Whether it is the API server's absence that keeps us from knowing.
fn unreachable(error: &PodError) -> bool {
    match error {
        PodError::NoEnvironment => true,
        PodError::Api(e) => e.is_transient(),
        _ => false,
    }
}

/// The environment of the container's last start: a crash while the API server is away must not end its service.
async fn last_environment(order: &Arc<Order>) -> Option<Environment> {
    let path = environment_file(order);
    let env = blocking(move || serde_json::from_slice(&std::fs::read(path).ok()?).ok()).await;
    if env.is_some() {
        tracing::info!(container = order.container.name, "the API server is away: starting with the last environment");
    }
    env
}

fn environment_file(order: &Order) -> PathBuf {
    order.ctx.config.dirs.bundle(uid(&order.pod), &order.container.name).join("environment.json")
}

fn wanted(service: &Service, pod: &Pod) -> bool {
    let own = service.metadata.namespace.as_deref();
    own == Some(namespace(pod)) || (own == Some("default") && service.metadata.name.as_deref() == Some("kubernetes"))
}

/// The attempt before is dead; what is left of it is in the way.
async fn remove_old(order: &Arc<Order>, old: &Attempt) {
    let delete = Call::Delete { container: old.id.clone() };
    match order.shim.call(delete).await {
        Ok(_) => {}
        Err(ShimError::Failed(f)) if f.kind == FailureKind::NotFound => {}
        Err(e) => tracing::warn!(container = old.id, error = chain(&e), "cannot delete a dead container"),
    }
    let (order, old) = (order.clone(), old.clone());
    let unmounted = blocking(move || {
        let dirs = &order.ctx.config.dirs;
        if let Some(stale) = old.number.checked_sub(1) {
            // `kubectl logs --previous` shows the attempt before this one; older logs are nobody's.
            let log = dirs.log_file(&log_dir(&order.pod), &order.container.name, stale);
            if let Err(e) = disk::remove_file(&log) {
                tracing::warn!(error = chain(&e), "cannot remove an old log");
            }
        }
        let root = root_of(&dirs.bundle(uid(&order.pod), &order.container.name));
        order.ctx.images.unmount(&old.id, &root)
    })
    .await;
    if let Err(e) = unmounted {
        tracing::warn!(error = chain(&e), "cannot unmount a dead container's root");
    }
}

/// Blocking.
fn make_bundle(order: &Order, env: &[(String, String)]) -> Result<Identity, PodError> {
    let (ctx, pod, container) = (&order.ctx, &order.pod, &order.container);
    let dirs = &ctx.config.dirs;
    let bundle = dirs.bundle(uid(pod), &container.name);
    disk::make_dir(&bundle, 0o700)?;
    let rootfs = root_of(&bundle);
    ctx.images.mount(&order.image, &order.id, &rootfs)?;
    let result = fill_bundle(order, env, &bundle, &rootfs);
    if result.is_err() {
        // The reason for failing is what matters; tear-down finds a root that cannot be unmounted now.
        let _ = ctx.images.unmount(&order.id, &rootfs);
    }
    let spec = result?;
    let user = spec.process().as_ref().map(|p| p.user().clone()).unwrap_or_default();
    let groups = user.additional_gids().clone().unwrap_or_default();
    let path = bundle.join("config.json");
    let json = serde_json::to_vec(&spec).map_err(std::io::Error::other).at("encode", &path)?;
    disk::replace(&path, &json, 0o600)?;
    let path = environment_file(order);
    let json = serde_json::to_vec(env).map_err(std::io::Error::other).at("encode", &path)?;
    disk::replace(&path, &json, 0o600)?;
    Ok(Identity { uid: user.uid(), gid: user.gid(), groups, home: None })
}

fn fill_bundle(order: &Order, env: &[(String, String)], _bundle: &Path, rootfs: &Path) -> Result<Spec, PodError> {
    let (ctx, pod, container) = (&order.ctx, &order.pod, &order.container);
    let dirs = &ctx.config.dirs;
    let passwd = read_inside(rootfs, c"etc/passwd")?;
    let group = read_inside(rootfs, c"etc/group")?;
    let identity = security::identity(pod, container, &order.image.settings.user, &passwd, &group)?;
    let volume_dirs = volumes::directories(dirs, pod)?;
    let planned = mounts(container, env, &volume_dirs)?;
    let binds = planned.iter().enumerate().map(|(i, m)| bind(order, i, m)).collect::<Result<Vec<_>, _>>()?;
    let localhost = match security::localhost_seccomp(pod, container) {
        Some(profile) => Some(read_seccomp(&dirs.state.join("agent/seccomp").join(profile))?),
        None => None,
    };
    let devices = if security::privileged(container) { crate::machine::devices() } else { Vec::new() };
    let files = files::of_container(dirs, pod, &container.name, &order.id)?;
    let input = ContainerInput {
        pod,
        role: order.role,
        container,
        id: &order.id,
        attempt: order.attempt,
        image: &order.image.settings,
        env,
        identity: &identity,
        binds: &binds,
        files: &files,
        rootfs: &rootfs.to_owned(),
        pod_cgroup: &pod_cgroup(&dirs.cgroup_root, qos_class(pod), uid(pod)),
        machine_memory: ctx.facts.machine_memory,
        devices: &devices,
        localhost_seccomp: localhost.as_ref(),
    };
    Ok(container_spec(&input)?)
}

fn bind(order: &Order, index: usize, mount: &MountPlan) -> Result<VolumeBind, PodError> {
    let source = volumes::source(&order.ctx.config.dirs, &order.pod, &order.container.name, index, mount)?;
    Ok(VolumeBind::new(source, mount))
}

/// Reads a file of a container's root without following a link out of it; absent is empty.
fn read_inside(root: &Path, file: &std::ffi::CStr) -> Result<String, PodError> {
    use std::io::Read as _;
    let dir = std::fs::File::open(root).at("open", root)?;
    let flags = nix::libc::O_RDONLY | nix::libc::O_CLOEXEC | nix::libc::O_NOCTTY;
    match pintle_sys::open::in_root(&dir, file, flags) {
        Ok(fd) => {
            let mut text = Vec::new();
            std::fs::File::from(fd).take(1 << 20).read_to_end(&mut text).at("read a file of", root)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        Err(nix::Error::ENOENT | nix::Error::ENOTDIR) => Ok(String::new()),
        Err(e) => Err(e).at("open a file of", root).map_err(PodError::from),
    }
}

fn read_seccomp(path: &Path) -> Result<LinuxSeccomp, PodError> {
    let text = std::fs::read(path).at("read", path)?;
    serde_json::from_slice(&text).map_err(|source| PodError::Seccomp { path: path.display().to_string(), source })
}

async fn create(order: &Order) -> Result<(), ShimError> {
    let config = &order.ctx.config;
    let container = &order.container;
    let call = Call::Create {
        container: order.id.clone(),
        bundle: config.dirs.bundle(uid(&order.pod), &container.name),
        log_path: Some(config.dirs.log_file(&log_dir(&order.pod), &container.name, order.attempt)),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        log_max_bytes: config.log_max_bytes,
        log_max_files: config.log_max_files,
    };
    let result = order.shim.call(call).await;
    if result.is_err() {
        let (images, id) = (order.ctx.images.clone(), order.id.clone());
        let root = root_of(&config.dirs.bundle(uid(&order.pod), &container.name));
        // The failure to create is the one to report.
        let _ = blocking(move || images.unmount(&id, &root)).await;
    }
    result.map(drop)
}
