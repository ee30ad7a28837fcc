//! From an image's name to a script of system calls: rows 7 to 9 of the table.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Service;
use oci_spec::runtime::Spec;
use pintle_kubelet_plan::containers::{Role, uid};
use pintle_kubelet_plan::env::{Objects, environment};
use pintle_kubelet_plan::oci::{ContainerInput, ImageSettings, PodFiles, container_spec};
use pintle_kubelet_plan::{resources, security};
use pintle_rootfs_plan::digest::{Digest, chain_ids};
use pintle_rootfs_plan::overlay::{self, Access, Attempt, OverlayRequest};
use pintle_rootfs_plan::reference::Reference;
use pintle_runtime_plan::{Caller, CgroupJoin, Host, InitPlan, Step, plan_init};

use crate::kubelet::Life;
use crate::tale::Tale;

/// The container's OCI id; a real one has 64 hex digits.
const ID: &str = "httpd-0";
const STORE: &str = "/var/lib/pintle/agent/images";

/// Row 7: which directories become the container's root.
pub fn root(tale: &mut Tale, life: &Life) {
    let given = life.container().image.unwrap();
    let reference: Reference = given.parse().unwrap();
    tale.say(format!("image {given:?}: repository {}, tag {}", reference.repository(), reference.tag().unwrap()));
    let short: Reference = "busybox".parse().unwrap();
    tale.say(format!("(\"busybox\" alone would mean {})", short.or_latest()));
    let layers = [Digest::of(b"a tar with /bin"), Digest::of(b"a tar with /etc")];
    let chains = chain_ids(&layers);
    for (at, (layer, chain)) in layers.iter().zip(&chains).enumerate() {
        tale.say(format!("layer {at}, {layer}, is unpacked once, as chain {chain}"));
    }
    let dirs: Vec<PathBuf> =
        chains.iter().map(|chain| Path::new(STORE).join("layers").join(chain.0.hex()).join("fs")).collect();
    let own = |name: &str| Path::new(STORE).join("snapshots").join(ID).join(name);
    let (upper, work, empty) = (own("upper"), own("work"), own("empty"));
    let request =
        OverlayRequest { layers: &dirs, upper: &upper, work: &work, empty: &empty, access: Access::ReadWrite };
    let attempts = overlay::plan(&request).unwrap();
    let Attempt::Classic { options } = &attempts[0] else { panic!("two layers fit into one page: {attempts:?}") };
    tale.say("mount -t overlay, options:");
    options.split(',').for_each(|option| tale.say(format!("  {option}")));
    tale.say(format!("({} ways in all; the next is tried if the kernel knows no \"volatile\")", attempts.len()));
}

/// Row 8, first half: the container as an OCI spec.
pub fn spec(tale: &mut Tale, life: &Life, services: &[Service]) -> Spec {
    let container = life.container();
    let env = environment(&life.pod, &container, &Objects::default(), services, &life.facts).unwrap();
    let image = ImageSettings { env: vec!["PATH=/bin".to_owned()], ..ImageSettings::default() };
    let passwd = "root:x:0:0:root:/root:/bin/sh";
    let identity = security::identity(&life.pod, &container, &image.user, passwd, "root:x:0:").unwrap();
    let state = Path::new("/var/lib/pintle/agent/pods").join(uid(&life.pod));
    let run = Path::new("/run/pintle/pods").join(uid(&life.pod));
    let spec = container_spec(&ContainerInput {
        pod: &life.pod,
        role: Role::Main,
        container: &container,
        id: ID,
        attempt: 0,
        image: &image,
        env: &env,
        identity: &identity,
        binds: &[],
        files: &PodFiles {
            hosts: state.join("etc-hosts"),
            hostname: state.join("hostname"),
            resolv_conf: state.join("resolv.conf"),
            shm: run.join("shm"),
            termination_log: state.join("containers").join(&container.name).join(ID),
        },
        rootfs: &run.join("containers").join(&container.name).join("rootfs"),
        pod_cgroup: &resources::pod_cgroup("/pintle", resources::qos_class(&life.pod), uid(&life.pod)),
        machine_memory: life.facts.machine_memory,
        devices: &[],
        localhost_seccomp: None,
    });
    let spec = spec.unwrap();
    show_spec(tale, &spec);
    spec
}

fn show_spec(tale: &mut Tale, spec: &Spec) {
    let process = spec.process().as_ref().unwrap();
    let linux = spec.linux().as_ref().unwrap();
    let quoted = |words: &[String]| words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>();
    tale.list("args", &quoted(process.args().as_ref().unwrap()));
    tale.list("env", process.env().as_ref().unwrap());
    tale.say(format!("cgroup: {}", linux.cgroups_path().as_ref().unwrap().display()));
    let limits = linux.resources().as_ref().unwrap();
    let memory = limits.memory().as_ref().and_then(oci_spec::runtime::LinuxMemory::limit).unwrap();
    let shares = limits.cpu().as_ref().and_then(oci_spec::runtime::LinuxCpu::shares).unwrap();
    tale.say(format!("memory limit {} MiB, cpu shares {shares}", memory >> 20));
    let kinds: Vec<String> = linux.namespaces().iter().flatten().map(|ns| ns.typ().to_string()).collect();
    tale.list("namespaces of its own (net, ipc and uts are the pod's)", &kinds);
    let targets: Vec<String> =
        spec.mounts().iter().flatten().map(|mount| mount.destination().display().to_string()).collect();
    tale.list("mounts", &targets);
}

/// Row 8, second half: the spec as steps, each with every byte it needs.
pub fn init(tale: &mut Tale, life: &Life, spec: &Spec) -> InitPlan {
    let bundle = Path::new("/run/pintle/pods").join(uid(&life.pod)).join("containers/httpd");
    let cgroup = spec.linux().as_ref().unwrap().cgroups_path().as_ref().unwrap().display().to_string();
    let plan = plan_init(
        spec,
        &Host {
            id: ID.to_owned(),
            rootfs: bundle.join("rootfs"),
            bundle,
            fifo: Some(Path::new("/run/pintle/runc").join(ID).join("exec.fifo")),
            join: CgroupJoin::Into(std::ffi::CString::new(format!("/sys/fs/cgroup{cgroup}")).unwrap()),
            cgroups_later: false,
            hierarchies: Vec::new(),
            unified: Some(PathBuf::from(format!("/sys/fs/cgroup{cgroup}"))),
            caller: Caller::root(),
            no_pivot: false,
            no_new_keyring: false,
            preserve_fds: 0,
            listen_fds: 0,
            stdio_passed: true,
            home: Some("/root".to_owned()),
            hook_states: (Vec::new(), Vec::new()),
        },
    );
    tale.list("the parent, before clone3", &folded(&plan.parent));
    let cgroup = if plan.into_cgroup.is_some() { "in its cgroup" } else { "in ours" };
    tale.say(format!("clone3 with flags {:#x} (mnt, pid): the child is born {cgroup}", plan.clone_flags));
    tale.list(&format!("the child, {} steps, by sort", plan.child.len()), &folded(&plan.child));
    tale.say(format!("and then: exec {}", plan.exec.candidates[0].to_string_lossy()));
    plan
}

/// Steps by what they do, neighbours of one sort together: reading a hundred mounts teaches no more than one.
fn folded(steps: &[Step]) -> Vec<String> {
    let mut out: Vec<(String, usize)> = Vec::new();
    for step in steps {
        let words = sort_of(step);
        match out.iter_mut().find(|(seen, _)| *seen == words) {
            Some((_, count)) => *count += 1,
            None => out.push((words, 1)),
        }
    }
    out.into_iter().map(|(words, count)| if count == 1 { words } else { format!("{words} ×{count}") }).collect()
}

fn sort_of(step: &Step) -> String {
    match step {
        Step::Open { .. } => "open a path of the host".to_owned(),
        Step::CloneTree { .. } => "copy a mount of the host".to_owned(),
        Step::SetAttr { .. } => "set mount attributes".to_owned(),
        Step::OpenTarget { .. } => "open a path beneath the root".to_owned(),
        Step::NewMount(new) => format!("make {}", new.fstype.to_string_lossy()),
        Step::Attach { .. } => "attach a mount there".to_owned(),
        Step::OpenRealDir { .. } => "open a real directory beneath the root".to_owned(),
        Step::OpenInOwn { .. } => "make a directory in a tmpfs of our own".to_owned(),
        Step::CheckOwn { .. } => "see that nothing covers that tmpfs".to_owned(),
        Step::CheckProcTarget { .. } => "see that it covers nothing in /proc".to_owned(),
        Step::MakeNode(_) => "make a device".to_owned(),
        Step::Symlink { .. } => "make a symlink".to_owned(),
        Step::ReadonlyPath(_) => "make a path of /proc read-only".to_owned(),
        Step::MaskPath(_) => "hide a path".to_owned(),
        Step::CheckCwd => "see that the working directory is in the root".to_owned(),
        Step::WaitForGo { .. } => "wait for the parent".to_owned(),
        other => other.to_string(),
    }
}

/// Row 9: a kernel that refuses what `refuses` says; the child tells the number of the step and the errno through a
/// pipe, and ends. It checks what a real walker relies on: no descriptor is used before it is there.
pub fn walk(plan: &InitPlan, refuses: impl Fn(&Step) -> Option<&'static str>) -> Result<usize, (usize, &'static str)> {
    let mut open: BTreeSet<_> = [pintle_runtime_plan::Slot::PROC].into();
    plan.parent.iter().for_each(|step| use_slots(step, &mut open));
    for (at, step) in plan.child.iter().enumerate() {
        if let Some(errno) = refuses(step) {
            return Err((at, errno));
        }
        use_slots(step, &mut open);
    }
    Ok(plan.child.len())
}

fn use_slots(step: &Step, open: &mut BTreeSet<pintle_runtime_plan::Slot>) {
    let used: &[_] = match step {
        Step::Open { into, .. }
        | Step::CloneTree { into, .. }
        | Step::OpenTarget { into, .. }
        | Step::OpenRealDir { into, .. }
        | Step::OpenInOwn { into, .. } => {
            open.insert(*into);
            &[]
        }
        Step::NewMount(new) => {
            open.insert(new.into);
            &[]
        }
        Step::SetAttr { mount, .. } | Step::IdMap { mount, .. } => &[*mount],
        Step::Attach { mount, on, .. } => &[*mount, *on],
        Step::Close(slot) => &[*slot],
        _ => &[],
    };
    assert!(used.iter().all(|slot| open.contains(slot)), "{step:?} uses a descriptor that is not there");
    if let Step::Close(slot) = step {
        open.remove(slot);
    }
}
