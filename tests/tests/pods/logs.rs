//! A follower of a log sees every line once and in order, however often the file is rotated meanwhile.

use std::io::{BufRead as _, BufReader};

use pintle_testkit::Cluster;
use serde_json::{Value, json};

use super::driver::Kubectl;
use super::{container, pod, shared};

/// Lines of 500 bytes: with their heads three times the size at which a file is rotated.
const LINES: usize = 60_000;

pub fn pods(cluster: &Cluster) -> Vec<Value> {
    let (volume, mount) = shared(cluster, "talkative");
    let script = format!(
        "echo ready; while ! test -e /host/go; do sleep 0.1; done
         awk 'BEGIN {{ tail = sprintf(\"%490s\", \"x\"); for (i = 1; i <= {LINES}; i++) print i tail }}'"
    );
    let more = json!({"volumeMounts": mount});
    let spec = json!({"restartPolicy": "Never", "volumes": [volume], "containers": [container("main", &script, more)]});
    vec![pod("talkative", spec)]
}

pub fn check(k: &Kubectl<'_>, cluster: &Cluster) {
    k.until(&["logs", "talkative"], |text| text.contains("ready"));
    let mut follower = k.spawn(&["logs", "-f", "talkative"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "ready");
    std::fs::write(cluster.scratch().join("shared/talkative/go"), "").unwrap();
    let mut count = 0;
    for line in lines {
        count += 1;
        let number: usize = line.split_whitespace().next().unwrap_or_default().parse().unwrap();
        assert_eq!(number, count, "no line is missing, none comes twice");
    }
    assert!(follower.wait().unwrap().success());
    assert_eq!(count, LINES);
    let dir = std::fs::read_dir(cluster.scratch().join("pod-logs")).unwrap().flatten();
    let logs = dir.map(|e| e.path()).find(|p| p.to_string_lossy().contains("default_talkative_")).unwrap();
    let files = std::fs::read_dir(logs.join("main")).unwrap().count();
    assert!((3..=5).contains(&files), "rotated at 10 MiB: {files} files");
}
