//! What pods may ask of a node: hooks, probes, order, last words, attach, logs; and what they may not, said clearly.
//!
//! One cluster for many cases: each area applies its pods at the start, so that they run beside each other, and looks at
//! them when its turn comes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod attach;
mod credentials;
#[path = "../kubectl/driver.rs"]
#[expect(dead_code, reason = "shared with the test of kubectl's verbs, which uses more of it")]
mod driver;
mod forward;
mod hooks;
mod hosts;
mod lives;
mod logs;
mod probes;
mod refusals;
mod restarts;

use pintle_testkit::{BUSYBOX_IMAGE, Cluster, require_root};
use serde_json::{Value, json};

use driver::Kubectl;

/// One area: what it applies at first, and what it then looks at.
struct Area {
    name: &'static str,
    pods: fn(&Cluster) -> Vec<Value>,
    check: fn(&Kubectl<'_>, &Cluster),
}

const AREAS: [Area; 8] = [
    Area { name: "refusals", pods: refusals::pods, check: refusals::check },
    Area { name: "lives", pods: lives::pods, check: lives::check },
    Area { name: "hooks", pods: hooks::pods, check: hooks::check },
    Area { name: "probes", pods: probes::pods, check: probes::check },
    Area { name: "logs", pods: logs::pods, check: logs::check },
    Area { name: "hosts", pods: hosts::pods, check: hosts::check },
    Area { name: "forward", pods: forward::pods, check: forward::check },
    Area { name: "attach", pods: attach::pods, check: attach::check },
];

/// A pod with this spec; what every pod of these tests has is filled in.
fn pod(name: &str, mut spec: Value) -> Value {
    let fields = spec.as_object_mut().unwrap();
    fields.entry("terminationGracePeriodSeconds").or_insert(json!(5));
    fields.entry("automountServiceAccountToken").or_insert(json!(false));
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
}

/// A container of busybox that runs a script.
fn container(name: &str, script: &str, more: Value) -> Value {
    let mut out = json!({"name": name, "image": BUSYBOX_IMAGE, "command": ["sh", "-c", script]});
    out.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    out
}

/// A volume of a directory both the pod and the test see, at /host.
fn shared(cluster: &Cluster, name: &str) -> (Value, Value) {
    let path = cluster.scratch().join("shared").join(name);
    std::fs::create_dir_all(&path).unwrap();
    let volume = json!({"name": "host", "hostPath": {"path": path, "type": "Directory"}});
    (volume, json!([{"name": "host", "mountPath": "/host"}]))
}

/// A file of such a directory; empty while it is not there.
fn told(cluster: &Cluster, name: &str, file: &str) -> String {
    std::fs::read_to_string(cluster.scratch().join("shared").join(name).join(file)).unwrap_or_default()
}

fn apply(k: &Kubectl<'_>, items: Vec<Value>) {
    k.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string());
}

#[test]
fn what_pods_ask_of_a_node_is_done_or_refused_by_name() {
    if !require_root("a cluster") {
        return;
    }
    let mut cluster = Cluster::start();
    let k = Kubectl::new(&cluster, "v1.37");
    apply(&k, AREAS.iter().flat_map(|area| (area.pods)(&cluster)).collect());
    for area in AREAS {
        let since = std::time::Instant::now();
        println!("--- {}", area.name);
        (area.check)(&k, &cluster);
        println!("    after {} ms", since.elapsed().as_millis());
    }
    k.ok(&["delete", "pods", "--all", "--now"]);
    cluster.down();
}
