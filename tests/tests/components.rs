//! Every component as a process of its own, meeting the others through the API only. Each is killed with -9 and started
//! again; what runs goes on undisturbed meanwhile, and each does its work again afterwards.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use pintle_client::{Identity, Kubeconfig};
use pintle_testkit::{
    Machine, Scope, build_busybox, eventually, feed, kubectl, repository, require_root, target_binary,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const ADDRESS: &str = "192.0.2.1";
const COMPONENTS: [&str; 5] = ["apiserver", "controller-manager", "scheduler", "kubelet", "proxy"];

/// One machine with the five components on it.
struct Host {
    machine: Machine,
    scratch: tempfile::TempDir,
    cgroup: String,
    running: BTreeMap<&'static str, Child>,
}

impl Host {
    /// A machine on a network, with a way out of it: a packet to a virtual IP needs a route before it meets the rules.
    fn new() -> Self {
        let scratch = tempfile::Builder::new().prefix("pintle-components-").tempdir().unwrap();
        let machine = Machine::new("host", &[]);
        machine.sh(&format!(
            "ip link add lan0 type veth peer name lan1 && ip addr add {ADDRESS}/24 dev lan0 && \
             ip link set lan0 up && ip link set lan1 up && ip route add default dev lan0"
        ));
        let cgroup = format!("pintle-components-{}", std::process::id());
        Self { machine, scratch, cgroup, running: BTreeMap::new() }
    }

    fn state(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    fn pintle(&self, subcommand: &[&str]) -> Command {
        let mut command = self.machine.command(target_binary("pintle"));
        command.args(subcommand).env("PINTLE_STATE_DIR", self.state());
        command.env("PINTLE_RUN_DIR", self.scratch.path().join("run"));
        command
    }

    fn node_flags(&self) -> [String; 3] {
        [
            format!("--cgroup-root=/{}", self.cgroup),
            format!("--pod-logs-dir={}", self.scratch.path().join("pod-logs").display()),
            format!("--runtime={}", target_binary("pintle-runc").display()),
        ]
    }

    fn start(&mut self, component: &'static str) {
        let mut command = self.pintle(&[component]);
        match component {
            "apiserver" => {
                command.arg(format!("--advertise-address={ADDRESS}"));
            }
            "kubelet" => {
                command.args(["--node-name=solo", &format!("--node-ip={ADDRESS}")]).args(self.node_flags());
                command.arg(format!("--bootstrap-kubeconfig={}", self.scratch.path().join("bootstrap").display()));
            }
            "proxy" => {
                let kubeconfig = self.state().join("server/proxy.kubeconfig");
                command.arg("--node-name=solo").arg(format!("--kubeconfig={}", kubeconfig.display()));
            }
            _ => {}
        }
        let path = self.scratch.path().join(format!("{component}.log"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.running.insert(component, command.spawn().unwrap());
    }

    fn end(&mut self, component: &str, signal: nix::sys::signal::Signal) {
        let mut child = self.running.remove(component).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        child.wait().unwrap();
    }

    /// What an administrator hands to a machine that is to join: the token and the authority, as a kubeconfig.
    fn write_bootstrap(&self) {
        let token = std::fs::read_to_string(self.state().join("server/token")).unwrap();
        let token = token.trim().rsplit("::").next().unwrap().to_owned();
        let ca = std::fs::read_to_string(self.state().join("server/pki/ca.crt")).unwrap();
        let url = format!("https://{ADDRESS}:6443");
        let file = Kubeconfig::new("pintle", "bootstrap", &url, &ca, &Identity::Token(token));
        file.write(&self.scratch.path().join("bootstrap")).unwrap();
    }

    fn kubectl(&self, args: &[&str]) -> Command {
        let mut command = self.machine.command(kubectl("v1.37"));
        command.args(args).env("KUBECONFIG", self.state().join("kubeconfig")).env("HOME", self.scratch.path());
        command
    }

    /// What kubectl prints; empty while the API server cannot be reached.
    fn get(&self, args: &[&str]) -> String {
        String::from_utf8_lossy(&self.kubectl(args).output().unwrap().stdout).trim().to_owned()
    }

    fn ok(&self, args: &[&str]) {
        let output = self.kubectl(args).output().unwrap();
        assert!(output.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Names and container ids, with restart counts, of the Ready pods of a label.
    fn ready(&self, label: &str) -> Vec<String> {
        let jsonpath = r#"jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
        let text = self.get(&["get", "pods", "-l", label, "-o", jsonpath]);
        let mut lines: Vec<String> = text.lines().filter(|l| l.ends_with(" True")).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    fn ready_count(&self, what: &str, label: &str, count: usize) -> Vec<String> {
        eventually(what, LIMIT, || Some(self.ready(label)).filter(|pods| pods.len() == count))
    }

    /// One answer of a Service's virtual IP.
    fn answer(&self, ip: &str) -> Option<String> {
        let output = self.machine.command("curl").args(["-sS", "-m", "2", &format!("http://{ip}/")]).output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn stop(&mut self) {
        for component in COMPONENTS.into_iter().rev() {
            if self.running.contains_key(component) {
                self.end(component, nix::sys::signal::Signal::SIGTERM);
            }
        }
        let output = self.pintle(&["down", "--host-network"]).args(self.node_flags()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for component in COMPONENTS {
                let log = std::fs::read_to_string(self.scratch.path().join(format!("{component}.log")));
                eprintln!("--- {component}\n{}", log.unwrap_or_default());
            }
        }
        if !self.running.is_empty() {
            self.stop();
        }
    }
}

const ONE_POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: late, labels: {app: late}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - {name: c, image: pintle.example/busybox:1, imagePullPolicy: Never, command: [sleep, "3600"]}
"#;

#[test]
fn components_that_run_alone_make_a_cluster_and_survive_each_other() {
    if !require_root("five processes that make a cluster") {
        return;
    }
    let mut host = Host::new();
    build_busybox(host.pintle(&["image", "build"]));
    host.start("apiserver");
    let state = host.state();
    eventually("the API server's files", LIMIT, || {
        (state.join("server/token").exists() && host.get(&["get", "--raw=/readyz"]) == "ok").then_some(())
    });
    host.write_bootstrap();
    for component in COMPONENTS.into_iter().skip(1) {
        host.start(component);
    }
    let example = repository().join("examples/web.yaml");
    host.ok(&["apply", "-f", example.to_str().unwrap()]);
    let pods = host.ready_count("three Ready pods", "app=web", 3);
    let ip = host.get(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    eventually("the virtual IP answers", LIMIT, || host.answer(&ip));

    for component in COMPONENTS {
        host.end(component, nix::sys::signal::Signal::SIGKILL);
        assert!(host.answer(&ip).is_some(), "the virtual IP answers without the {component}");
        while_it_is_gone(&host, component);
        host.start(component);
        once_it_is_back(&host, component);
        let now = host.ready_count("three Ready pods again", "app=web", 3);
        assert_eq!(now, pods, "containers after a kill of the {component}");
        assert!(host.answer(&ip).is_some(), "the virtual IP answers after the {component} came back");
    }
    host.stop();
    let scope = Scope { paths: vec![host.scratch.path().to_owned()], cgroup: host.cgroup.clone() };
    assert_eq!(scope.leftovers(&host.machine, &["lan0", "lan1"]), Vec::<String>::new());
}

/// Leaves work behind that only this component can do.
fn while_it_is_gone(host: &Host, component: &str) {
    match component {
        "controller-manager" => {
            host.ok(&["create", "deployment", "more", "--image=pintle.example/busybox:1", "--", "sleep", "3600"])
        }
        "scheduler" => {
            let made = feed(host.kubectl(&["create", "-f", "-"]), ONE_POD);
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        "kubelet" => host.ok(&["delete", "pod", "late", "--wait=false"]),
        "proxy" => host.ok(&["expose", "deployment", "web", "--name=again", "--port=80", "--target-port=8080"]),
        _ => {}
    }
}

/// And sees that it does it.
fn once_it_is_back(host: &Host, component: &str) {
    match component {
        "apiserver" => {
            eventually("the API answers again", LIMIT, || (host.get(&["get", "--raw=/readyz"]) == "ok").then_some(()))
        }
        "controller-manager" => drop(host.ready_count("the other Deployment's pod", "app=more", 1)),
        "scheduler" => drop(host.ready_count("the pod that waited for a node", "app=late", 1)),
        "kubelet" => eventually("the pod that was deleted is gone", LIMIT, || {
            host.get(&["get", "pods", "-l", "app=late", "-o", "name"]).is_empty().then_some(())
        }),
        _ => {
            let ip = host.get(&["get", "service", "again", "-o", "jsonpath={.spec.clusterIP}"]);
            eventually("the other Service answers", LIMIT, || host.answer(&ip).map(drop));
        }
    }
}
