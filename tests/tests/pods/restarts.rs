//! The kubelet dies and returns: static pods and their mirrors, and pods while the API server is away.

use std::path::PathBuf;
use std::time::Duration;

use pintle_testkit::{Cluster, eventually, require_root};
use serde_json::json;

use super::driver::Kubectl;
use super::{apply, container, pod, shared, told};

pub const LIMIT: Duration = Duration::from_secs(60);

pub fn kill(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

pub fn pid_of(cluster: &Cluster, role: &str) -> i32 {
    cluster.processes().into_iter().find(|(r, _)| r == role).map(|(_, pid)| pid).unwrap()
}

/// Kills the agent and waits for the next one; `down` runs while there is none.
pub fn restart_agent(cluster: &Cluster, down: impl FnOnce()) {
    let old = pid_of(cluster, "agent");
    let monitor = pid_of(cluster, "monitor");
    kill(monitor, nix::sys::signal::Signal::SIGSTOP);
    kill(old, nix::sys::signal::Signal::SIGKILL);
    down();
    kill(monitor, nix::sys::signal::Signal::SIGCONT);
    eventually("the monitor starts another agent", LIMIT, || {
        cluster.processes().iter().any(|(role, pid)| role == "agent" && *pid != old).then_some(())
    });
}

fn manifest(cluster: &Cluster, name: &str) -> PathBuf {
    cluster.state_dir().join("agent/manifests").join(format!("{name}.yaml"))
}

fn write_manifest(cluster: &Cluster, name: &str, script: &str) {
    let mut pod = pod(name, json!({"containers": [container("main", script, json!({}))]}));
    pod["spec"].as_object_mut().unwrap().remove("automountServiceAccountToken");
    // By rename, as editors and configuration tools write: never half a file.
    let path = manifest(cluster, name);
    let new = path.with_extension("new");
    std::fs::write(&new, pod.to_string()).unwrap();
    std::fs::rename(new, path).unwrap();
}

struct Mirrors<'a> {
    k: Kubectl<'a>,
    node: String,
}

impl Mirrors<'_> {
    fn ready(&self, name: &str) -> String {
        let mirror = format!("{name}-{}", self.node);
        let path = r#"jsonpath={.metadata.uid} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.conditions[?(@.type=="Ready")].status}"#;
        self.k.until(&["get", "pod", &mirror, "-o", path], |text| text.ends_with(" True"))
    }
    fn gone(&self, name: &str) {
        let mirror = format!("{name}-{}", self.node);
        self.k.until(&["get", "pods", "-o", "name"], |text| !text.contains(&mirror));
    }
    fn log(&self, name: &str, wanted: &str) {
        self.k.until(&["logs", &format!("{name}-{}", self.node)], |text| text.contains(wanted));
    }
}

#[test]
fn static_pods_follow_their_manifests_while_the_kubelet_lives_dies_and_returns() {
    if !require_root("a cluster") {
        return;
    }
    let mut cluster = Cluster::start();
    let k = Kubectl::new(&cluster, "v1.37");
    let node = k.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
    let m = Mirrors { k, node };
    let shims = |count: usize| {
        eventually(&format!("{count} supervisors"), LIMIT, || {
            (cluster.processes().iter().filter(|(role, _)| role == "shim").count() == count).then_some(())
        });
    };
    // Added, changed.
    for name in ["stays", "changes", "goes", "goes-soon"] {
        write_manifest(&cluster, name, "echo first; exec sleep 1000");
    }
    let stays = m.ready("stays");
    let changes = m.ready("changes");
    m.ready("goes");
    m.ready("goes-soon");
    write_manifest(&cluster, "changes", "echo second; exec sleep 1000");
    m.log("changes", "second");
    assert_ne!(m.ready("changes"), changes);
    // A mirror deleted by hand comes back; the pod behind it never noticed.
    let mirror = format!("stays-{}", m.node);
    m.k.ok(&["delete", "pod", &mirror, "--now"]);
    let again = m.ready("stays");
    assert_ne!(again.split(' ').next(), stays.split(' ').next(), "another mirror");
    assert_eq!(again.split_once(' ').unwrap().1, stays.split_once(' ').unwrap().1, "the same container");
    // While there is no kubelet: one changes, one goes, one comes, one stays as it was.
    restart_agent(&cluster, || {
        write_manifest(&cluster, "changes", "echo third; exec sleep 1000");
        std::fs::remove_file(manifest(&cluster, "goes")).unwrap();
        write_manifest(&cluster, "comes", "echo new; exec sleep 1000");
    });
    m.log("changes", "third");
    m.ready("comes");
    m.gone("goes");
    assert_eq!(m.ready("stays"), again, "same mirror, same container, same restart count");
    shims(4);
    // Just after a restart, while the kubelet is still finding what it left.
    restart_agent(&cluster, || ());
    std::fs::remove_file(manifest(&cluster, "goes-soon")).unwrap();
    m.gone("goes-soon");
    shims(3);
    assert_eq!(m.ready("stays"), again);
    for name in ["stays", "changes", "comes"] {
        std::fs::remove_file(manifest(&cluster, name)).unwrap();
        m.gone(name);
    }
    shims(0);
    cluster.down();
}

/// The process of a container of this test, by what only it runs.
fn server_on(port: u16) -> Option<i32> {
    let wanted = format!("httpd\0-f\0-p\0{port}\0");
    let mut all = std::fs::read_dir("/proc").unwrap().flatten();
    all.find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        std::fs::read(entry.path().join("cmdline")).ok()?.starts_with(wanted.as_bytes()).then_some(pid)
    })
}

#[test]
fn pods_go_on_under_a_restarted_kubelet_while_the_api_server_is_silent() {
    if !require_root("a cluster") {
        return;
    }
    let mut cluster = Cluster::start();
    let k = Kubectl::new(&cluster, "v1.37");
    let enduring = |name: &str, port: u16| {
        let (volume, mount) = shared(&cluster, name);
        let script = format!(
            "echo \"start $GREETING\" >> /host/story; mkdir -p /www; echo ok > /www/alive
             exec httpd -f -p {port} -h /www"
        );
        let more = json!({
            "volumeMounts": mount,
            "env": [{"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "words", "key": "greeting"}}}],
            "livenessProbe": {"exec": {"command": ["test", "-e", "/www/alive"]}, "periodSeconds": 1,
                "failureThreshold": 1},
        });
        let spec = json!({"volumes": [volume], "containers": [container("main", &script, more)]});
        pod(name, spec)
    };
    let words = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words"},
        "data": {"greeting": "hello"}});
    let with_token =
        json!({"automountServiceAccountToken": true, "containers": [container("main", "sleep 1000", json!({}))]});
    apply(&k, vec![words, enduring("killed", 8091), enduring("unwell", 8092), pod("untouched", with_token)]);
    for name in ["killed", "unwell", "untouched"] {
        k.ok(&["wait", &format!("pod/{name}"), "--for=condition=Ready", "--timeout=60s"]);
    }
    let state = "{.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}";
    let untouched = k.field("pod/untouched", state);
    let started = |name: &str, count: usize| {
        eventually(&format!("{name} started {count} times"), LIMIT, || {
            (told(&cluster, name, "story") == "start hello\n".repeat(count)).then_some(())
        });
    };
    started("killed", 1);
    started("unwell", 1);
    let server = pid_of(&cluster, "server");
    kill(server, nix::sys::signal::Signal::SIGSTOP);
    restart_agent(&cluster, || ());
    // Both verdicts need the new kubelet: one by the policy alone, one by a probe.
    kill(server_on(8091).unwrap(), nix::sys::signal::Signal::SIGKILL);
    std::fs::remove_file(format!("/proc/{}/root/www/alive", server_on(8092).unwrap())).unwrap();
    started("killed", 2);
    started("unwell", 2);
    kill(server, nix::sys::signal::Signal::SIGCONT);
    for name in ["killed", "unwell"] {
        let path = "jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}";
        k.until(&["get", "pod", name, "-o", path], |text| text == "1 true");
    }
    assert_eq!(k.field("pod/untouched", state), untouched, "same container, same restart count");
    for name in ["killed", "unwell"] {
        started(name, 2);
    }
    assert_eq!(pid_of(&cluster, "server"), server, "the API server is the one that was silent");
    cluster.down();
}
