//! `kubectl attach`: the container's own streams, with and without a terminal.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use pintle_testkit::Cluster;
use serde_json::{Value, json};

use super::driver::{Kubectl, has};
use super::{container, pod};

pub fn pods(_: &Cluster) -> Vec<Value> {
    let open = |more: Value| json!({"containers": [more], "restartPolicy": "Never"});
    vec![
        pod(
            "ticking",
            open(container("main", "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.1; done", json!({}))),
        ),
        pod(
            "echoing",
            open(container(
                "main",
                "while read -r line; do echo heard $line; done",
                json!({"stdin": true, "stdinOnce": true}),
            )),
        ),
        pod("terminal", open(container("main", "exec sh", json!({"stdin": true, "tty": true})))),
    ]
}

pub fn check(k: &Kubectl<'_>, _: &Cluster) {
    for name in ["ticking", "echoing", "terminal"] {
        k.ok(&["wait", &format!("pod/{name}"), "--for=condition=Ready", "--timeout=60s"]);
    }
    let mut watcher = k.spawn(&["attach", "ticking"]);
    let lines: Vec<String> =
        BufReader::new(watcher.stdout.take().unwrap()).lines().map(Result::unwrap).take(3).collect();
    assert!(lines.iter().all(|line| line.starts_with("tick ")), "output from now on: {lines:?}");
    watcher.kill().unwrap();
    watcher.wait().unwrap();

    let (out, _) = k.succeeds(&["attach", "-i", "echoing"], "one\ntwo\n");
    has(&out, &["heard one\n", "heard two\n"]);
    // Its stdin was closed with the first client's (stdinOnce), so that it ended.
    k.until(&["get", "pod", "echoing", "-o", "jsonpath={.status.phase}"], |phase| phase == "Succeeded");

    let kubectl = k.command(&["attach", "-it", "terminal"]);
    let words = std::iter::once(kubectl.get_program()).chain(kubectl.get_args());
    let line: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &line.join(" "), "/dev/null"]);
    command.envs(kubectl.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"tty; echo sum $((40+2)); exit 3\n").unwrap();
    let output = child.wait_with_output().unwrap();
    has(&String::from_utf8_lossy(&output.stdout), &["/dev/", "sum 42"]);
    k.until(&["get", "pod", "terminal", "-o", "jsonpath={.status.phase}"], |phase| phase == "Failed");
    assert_eq!(k.field("pod/terminal", "{.status.containerStatuses[0].state.terminated.exitCode}"), "3");
}
