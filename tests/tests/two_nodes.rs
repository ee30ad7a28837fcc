//! Two machines on one Ethernet segment: `pintle server` and an agent on the first, an agent with a token on the second.
//! Pods of one Service live on both, and reach each other by direct routes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use pintle_testkit::{Machine, Scope, build_busybox, eventually, feed, kubectl, link, require_root, target_binary};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const SERVER: &str = "https://192.0.2.1:6443";

/// One pod per node, each answering with its own name and that of its node.
const PODS: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers:
        - name: httpd
          image: pintle.example/busybox:1
          imagePullPolicy: Never
          command: ["/bin/sh", "-c", "mkdir /www; echo $NODE > /www/index.html; exec httpd -f -p 8080 -h /www"]
          env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
          readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports: [{port: 80, targetPort: 8080}]
"#;

/// A machine with its own directories, and the daemons started on it.
struct Node {
    machine: Machine,
    dir: PathBuf,
    cgroup: String,
    daemons: Vec<Child>,
}

impl Node {
    fn new(name: &str, scratch: &Path) -> Self {
        let dir = scratch.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let cgroup = format!("pintle-e2e-{}-{name}", std::process::id());
        Self { machine: Machine::new(name, &[]), dir, cgroup, daemons: Vec::new() }
    }

    fn pintle(&self, subcommand: &[&str]) -> Command {
        let mut command = self.machine.command(target_binary("pintle"));
        command.args(subcommand).env("PINTLE_STATE_DIR", self.dir.join("state"));
        command.env("PINTLE_RUN_DIR", self.dir.join("run"));
        command
    }

    fn daemon(&mut self, mut command: Command, log: &str) {
        let log = std::fs::File::create(self.dir.join(log)).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemons.push(command.spawn().unwrap());
    }

    fn agent(&mut self, token: &str) {
        build_busybox(self.pintle(&["image", "build"]));
        let mut command = self.pintle(&["agent", "--server", SERVER]);
        command.env("PINTLE_TOKEN", token);
        command.arg(format!("--node-name={}", self.machine.name()));
        command.arg(format!("--cgroup-root=/{}", self.cgroup));
        command.arg(format!("--pod-logs-dir={}", self.dir.join("pod-logs").display()));
        command.arg(format!("--runtime={}", target_binary("pintle-runc").display()));
        self.daemon(command, "agent.log");
    }

    /// Ends the daemons and removes what they made, as an administrator does on a real node.
    fn stop(&mut self) {
        for mut daemon in self.daemons.drain(..).rev() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.id()).unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
            daemon.wait().unwrap();
        }
        let settings = ["down", "--host-network"];
        let mut command = self.pintle(&settings);
        command.arg(format!("--cgroup-root=/{}", self.cgroup));
        command.arg(format!("--pod-logs-dir={}", self.dir.join("pod-logs").display()));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn leftovers(&self) -> Vec<String> {
        let scope = Scope { paths: vec![self.dir.clone()], cgroup: self.cgroup.clone() };
        scope.leftovers(&self.machine, &["lan0"])
    }

    fn logs(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        format!("--- {}\n{}{}", self.machine.name(), read("server.log"), read("agent.log"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        if !self.daemons.is_empty() {
            self.stop();
        }
    }
}

struct Admin<'a> {
    machine: &'a Machine,
    kubeconfig: PathBuf,
}

impl Admin<'_> {
    fn kubectl(&self, args: &[&str]) -> Command {
        let mut command = self.machine.command(kubectl("v1.37"));
        command.args(args).env("KUBECONFIG", &self.kubeconfig).env("HOME", "/nonexistent");
        command
    }

    fn get(&self, args: &[&str]) -> String {
        let output = self.kubectl(args).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

/// `host:ip` of the Ready pods.
fn ready_pods(admin: &Admin<'_>) -> Vec<(String, String)> {
    let jsonpath = r#"jsonpath={range .items[?(@.status.phase=="Running")]}{.spec.nodeName} {.status.podIP} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
    let text = admin.get(&["get", "pods", "-l", "app=echo", "-o", jsonpath]);
    let words = text.lines().map(|l| l.split(' ').collect::<Vec<_>>());
    words.filter(|w| w.len() == 3 && w[2] == "True").map(|w| (w[0].to_owned(), w[1].to_owned())).collect()
}

/// A shell script that prints what an HTTP server answers. Not wget: asking for the number of `http` loads a library of
/// the C library's, which a static program cannot do where there is none, and Debian's busybox dies of it.
fn fetch(address: &str, port: u16) -> String {
    format!(r"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 {address} {port} | tail -n 1")
}

#[test]
fn a_second_machine_joins_by_token_and_pods_of_one_service_on_both_reach_each_other() {
    if !require_root("two nodes") {
        return;
    }
    let scratch = tempfile::Builder::new().prefix("pintle-two-").tempdir().unwrap();
    let (mut first, mut second) = (Node::new("first", scratch.path()), Node::new("second", scratch.path()));
    link("lan0", (&first.machine, "192.0.2.1/24"), (&second.machine, "192.0.2.2/24"));

    let server = first.pintle(&["server", "--advertise-address=192.0.2.1"]);
    first.daemon(server, "server.log");
    let token_file = first.dir.join("state/server/token");
    let token = eventually("the server makes a token", LIMIT, || std::fs::read_to_string(&token_file).ok());
    first.agent(token.trim());
    let (kubeconfig, state) = (first.dir.join("state/kubeconfig"), first.dir.join("state"));
    let made = eventually("a token can be made for the second machine", LIMIT, || {
        let output = first.pintle(&["token", "create", "--ttl=1h", "--description=second"]).output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    });
    assert!(made.starts_with("K10") && state.exists());
    second.agent(&made);

    {
        let admin = Admin { machine: &first.machine, kubeconfig };
        eventually("two Ready nodes", LIMIT, || {
            let nodes = admin.get(&["get", "nodes", "--no-headers"]);
            (nodes.lines().filter(|l| l.contains(" Ready ")).count() == 2).then_some(())
        });
        let applied = feed(admin.kubectl(&["apply", "-f", "-"]), PODS);
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        let pods = eventually("a Ready pod on each node", LIMIT, || {
            let pods = ready_pods(&admin);
            let nodes: std::collections::BTreeSet<_> = pods.iter().map(|(node, _)| node.clone()).collect();
            (nodes.len() == 2).then_some(pods)
        });
        let ip = admin.get(&["get", "service", "echo", "-o", "jsonpath={.spec.clusterIP}"]);
        for (from, _) in &pods {
            let names = admin.get(&[
                "get",
                "pods",
                "-l",
                "app=echo",
                &format!("--field-selector=spec.nodeName={from}"),
                "-o",
                "name",
            ]);
            for (to, address) in &pods {
                let fetch = fetch(address, 8080);
                let exec = admin.kubectl(&["exec", &names, "--", "sh", "-c", &fetch]).output().unwrap();
                let (got, why) = (String::from_utf8_lossy(&exec.stdout), String::from_utf8_lossy(&exec.stderr));
                assert_eq!(got.trim(), to, "from the pod on {from} to the pod on {to}: {why}");
            }
            let mut seen = std::collections::BTreeSet::new();
            eventually("the Service leads to both nodes", LIMIT, || {
                seen.insert(admin.get(&["exec", &names, "--", "sh", "-c", &fetch(&ip, 80)]));
                (seen.contains("first") && seen.contains("second")).then_some(())
            });
        }
    }
    second.stop();
    first.stop();
    assert_eq!(second.leftovers(), Vec::<String>::new());
    assert_eq!(first.leftovers(), Vec::<String>::new());
}
