//! Probes of each kind, each verdict in both directions.

use pintle_testkit::Cluster;
use serde_json::{Value, json};

use super::driver::Kubectl;
use super::{container, pod};

pub fn pods(_: &Cluster) -> Vec<Value> {
    let serve = "mkdir -p /www; echo ok > /www/alive; exec httpd -f -p 8080 -h /www";
    let each = json!({
        "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1},
        "livenessProbe": {"httpGet": {"port": "web", "path": "/alive"}, "periodSeconds": 1, "failureThreshold": 1},
        "ports": [{"name": "web", "containerPort": 8080}],
    });
    let slow = json!({
        "startupProbe": {"exec": {"command": ["sh", "-c", "echo not yet; exit 1"]}, "periodSeconds": 1,
            "failureThreshold": 2, "terminationGracePeriodSeconds": 1},
    });
    // Nothing there speaks gRPC, and what answers the other probe sends people away.
    let away = "mkdir -p /www/cgi-bin; printf '#!/bin/sh\\nprintf \"Status: 302 Found\\\\nLocation: http://192.0.2.1/\\\\n\\\\n\"\\n' > /www/cgi-bin/away
                chmod +x /www/cgi-bin/away; exec httpd -f -p 8080 -h /www";
    let odd = json!({
        "readinessProbe": {"httpGet": {"port": 8080, "path": "/cgi-bin/away"}, "periodSeconds": 1},
        "livenessProbe": {"grpc": {"port": 8080, "service": "web"}, "periodSeconds": 1, "failureThreshold": 1000},
    });
    vec![
        pod("odd", json!({"containers": [container("main", away, odd)]})),
        pod("probed", json!({"containers": [container("main", serve, each)]})),
        pod("slow", json!({"containers": [container("main", "sleep 1000", slow)]})),
    ]
}

pub fn check(k: &Kubectl<'_>, _: &Cluster) {
    let status = "jsonpath={.status.containerStatuses[0].started} {.status.containerStatuses[0].ready} \
                  {.status.containerStatuses[0].restartCount}";
    let until = |wanted: &str| k.until(&["get", "pod", "probed", "-o", status], |text| text == wanted);
    until("true false 0");
    k.ok(&["exec", "probed", "--", "touch", "/tmp/ready"]);
    until("true true 0");
    k.ok(&["exec", "probed", "--", "rm", "/tmp/ready"]);
    until("true false 0");
    k.ok(&["exec", "probed", "--", "rm", "/www/alive"]);
    until("true false 1");
    let about = |name: &str| format!("involvedObject.name={name}");
    k.until(&["get", "events", "--field-selector", &about("probed")], |text| {
        text.contains("Liveness probe failed: HTTP probe failed with statuscode: 404")
            && text.contains("Container main failed liveness probe, will be restarted")
    });
    k.until(&["get", "events", "--field-selector", &about("slow")], |text| {
        text.contains("Startup probe failed: not yet")
            && text.contains("Container main failed startup probe, will be restarted")
    });
    k.until(&["get", "pod", "slow", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"], |n| {
        n.parse::<u32>().is_ok_and(|n| n >= 1)
    });
    k.until(&["get", "events", "--field-selector", &about("odd")], |text| {
        text.contains("Readiness probe warning: Probe terminated redirects, last answer: 302")
            && text.contains("Liveness probe failed: failed to connect service")
    });
    k.ok(&["wait", "pod/odd", "--for=condition=Ready", "--timeout=60s"]);
}
