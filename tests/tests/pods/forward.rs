//! `kubectl port-forward`: to a server on the pod's own loopback, several connections, and to a port nobody listens on.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Output;

use pintle_testkit::Cluster;
use serde_json::{Value, json};

use super::driver::{Kubectl, has};
use super::{container, pod};

/// More than what fits into any buffer on the way.
const LONG: usize = 3_000_000;

pub fn pods(_: &Cluster) -> Vec<Value> {
    let script = format!(
        "mkdir -p /www; echo from inside > /www/short; head -c {LONG} /dev/zero > /www/long
         exec httpd -f -p 127.0.0.1:8080 -h /www"
    );
    let ready = json!({"readinessProbe": {"exec": {"command": ["wget", "-qO-", "http://127.0.0.1:8080/short"]},
        "periodSeconds": 1}});
    vec![pod("served", json!({"containers": [container("main", &script, ready)]}))]
}

pub fn check(k: &Kubectl<'_>, cluster: &Cluster) {
    k.ok(&["wait", "pod/served", "--for=condition=Ready", "--timeout=60s"]);
    for k in [k, &Kubectl::new(cluster, "v1.33")] {
        let mut forwarding = k.spawn(&["port-forward", "pod/served", ":8080", ":9"]);
        let mut lines = BufReader::new(forwarding.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut local = |remote: &str| {
            let line = lines.by_ref().find(|line| line.contains("127.0.0.1:") && line.ends_with(remote)).unwrap();
            line.split("127.0.0.1:").nth(1).unwrap().split(' ').next().unwrap().to_owned()
        };
        let (port, dead) = (local("-> 8080"), local("-> 9"));
        let get = |port: &str, path: &str| -> Output {
            let url = format!("http://127.0.0.1:{port}/{path}");
            cluster.command(pintle_testkit::busybox().to_str().unwrap()).args(["wget", "-qO-", &url]).output().unwrap()
        };
        for _ in 0..3 {
            assert_eq!(String::from_utf8_lossy(&get(&port, "short").stdout), "from inside\n");
        }
        assert_eq!(get(&port, "long").stdout.len(), LONG);
        assert!(!get(&dead, "short").status.success());
        // Its own way of ending: it takes any failure of a connection for the end of them all.
        let mut complaint = String::new();
        let mut stderr = BufReader::new(forwarding.stderr.take().unwrap());
        while !complaint.contains("Connection refused") && stderr.read_line(&mut complaint).unwrap() > 0 {}
        has(&complaint, &["error forwarding port 9 to pod served: connect to 127.0.0.1:9: Connection refused"]);
        // It may have ended by itself.
        let _ = forwarding.kill();
        forwarding.wait().unwrap();
        stderr.read_to_string(&mut complaint).unwrap();
    }
}
