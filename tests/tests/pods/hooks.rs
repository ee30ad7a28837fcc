//! postStart and preStop: commands, requests, pauses, and what their failure does.

use pintle_testkit::{Cluster, eventually};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

use super::driver::Kubectl;
use super::{container, pod, shared, told};

/// Serves CGI programs that note that they were asked.
const SERVE: &str = "trap 'echo term >> /host/story; exit 0' TERM
mkdir -p /www/cgi-bin
for name in started stopping; do
  printf '#!/bin/sh\\necho %s >> /host/story\\nprintf \"Content-type: text/plain\\\\n\\\\nok\"\\n' $name > /www/cgi-bin/$name
  chmod +x /www/cgi-bin/$name
done
httpd -f -p 8080 -h /www & wait";

pub fn pods(cluster: &Cluster) -> Vec<Value> {
    let hooked = |name: &str, script: &str, lifecycle: Value| {
        let (volume, mount) = shared(cluster, name);
        let more = json!({"volumeMounts": mount, "lifecycle": lifecycle});
        pod(name, json!({"volumes": [volume], "containers": [container("main", script, more)]}))
    };
    let exec = |script: &str| json!({"exec": {"command": ["sh", "-c", script]}});
    let waits = "while ! test -e /host/go; do sleep 0.1; done; echo hook >> /host/story";
    let commands = hooked(
        "commands",
        "trap 'echo term >> /host/story; exit 0' TERM; sleep 1000 & wait",
        json!({"postStart": exec(waits), "preStop": exec("echo stopping >> /host/story")}),
    );
    let requests =
        hooked("requests", SERVE, json!({"preStop": {"httpGet": {"port": 8080, "path": "/cgi-bin/stopping"}}}));
    let pauses = hooked(
        "pauses",
        "trap 'echo term >> /host/story; exit 0' TERM; sleep 1000 & wait",
        json!({"preStop": {"sleep": {"seconds": 2}}}),
    );
    let mut fails = hooked("fails", "sleep 1000", json!({"postStart": exec("echo no luck; exit 9")}));
    fails["spec"]["restartPolicy"] = json!("Never");
    let mut signalled = hooked(
        "signalled",
        "trap 'echo usr1 >> /host/story; exit 0' USR1; sleep 1000 & wait",
        json!({"stopSignal": "SIGUSR1"}),
    );
    signalled["spec"]["os"] = json!({"name": "linux"});
    // A hook Kubernetes' types still have and no kubelet runs.
    let dialled = hooked("dialled", "sleep 1000", json!({"postStart": {"tcpSocket": {"port": 80}}}));
    vec![commands, requests, pauses, fails, signalled, dialled]
}

pub fn check(k: &Kubectl<'_>, cluster: &Cluster) {
    // The hook is still waiting: the container is not Running for anybody.
    k.until(&["get", "events", "--field-selector", "involvedObject.name=commands,reason=Started"], |text| {
        text.contains("Started container main")
    });
    assert_eq!(k.field("pod/commands", "{.status.containerStatuses[0].state.running}"), "");
    std::fs::write(cluster.scratch().join("shared/commands/go"), "").unwrap();
    k.ok(&["wait", "pod/commands", "--for=condition=Ready", "--timeout=60s"]);
    k.ok(&["delete", "pod", "commands"]);
    assert_eq!(told(cluster, "commands", "story"), "hook\nstopping\nterm\n");

    k.ok(&["wait", "pod/requests", "--for=condition=Ready", "--timeout=60s"]);
    eventually("the server answers", Duration::from_secs(30), || {
        let output =
            k.command(&["exec", "requests", "--", "wget", "-qO-", "http://127.0.0.1:8080/cgi-bin/started"]).output();
        output.unwrap().status.success().then_some(())
    });
    k.ok(&["delete", "pod", "requests"]);
    assert_eq!(told(cluster, "requests", "story"), "started\nstopping\nterm\n");

    k.ok(&["wait", "pod/pauses", "--for=condition=Ready", "--timeout=60s"]);
    let asked = Instant::now();
    k.ok(&["delete", "pod", "pauses", "--wait=false"]);
    eventually("the pod got its signal", Duration::from_secs(30), || {
        (told(cluster, "pauses", "story") == "term\n").then_some(())
    });
    assert!(asked.elapsed() >= Duration::from_secs(2), "the pause comes before the signal");

    k.until(&["get", "pod", "fails", "-o", "jsonpath={.status.phase}"], |phase| phase == "Failed");
    assert_eq!(k.field("pod/fails", "{.status.containerStatuses[0].state.terminated.exitCode}"), "137");
    k.until(&["get", "events", "--field-selector", "involvedObject.name=fails,reason=FailedPostStartHook"], |text| {
        text.contains("the command exited with 9: no luck")
    });

    k.ok(&["wait", "pod/signalled", "--for=condition=Ready", "--timeout=60s"]);
    k.ok(&["delete", "pod", "signalled"]);
    assert_eq!(told(cluster, "signalled", "story"), "usr1\n");
    k.until(&["get", "events", "--field-selector", "involvedObject.name=dialled,reason=FailedPostStartHook"], |text| {
        text.contains("tcpSocket is not supported: use exec, httpGet or sleep")
    });
}
