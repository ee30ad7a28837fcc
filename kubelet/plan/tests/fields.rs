//! Every field of a pod is done, refused by name, or somebody else's: a field that is merely ignored has no place here.
//!
//! The fields are asked of the types themselves, so that a newer API's fields fail this test until someone has thought
//! about them. What is said of a field is checked: a value of one that the planner honours must change something it
//! decides, a value of one that is refused must be refused with the field's name.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "fields/tables.rs"]
mod tables;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, PodStatus, Secret, Service};
use pintle_kubelet_plan::admission::{NodeView, admit};
use pintle_kubelet_plan::containers::containers;
use pintle_kubelet_plan::env::{Facts, Objects, environment};
use pintle_kubelet_plan::files::{DnsSettings, hosts, resolv_conf, uts_name};
use pintle_kubelet_plan::image::{ImageName, missing, pull_policy};
use pintle_kubelet_plan::observed::{Attempt, AttemptState, ContainerObs, Exited, Observed, Stage, Unhealthy};
use pintle_kubelet_plan::oci::{ContainerInput, ImageSettings, PodFiles, VolumeBind, container_spec};
use pintle_kubelet_plan::payload::payload;
use pintle_kubelet_plan::probe::probes;
use pintle_kubelet_plan::refusals::{Host, refusal};
use pintle_kubelet_plan::resources::{pod_resources, qos_class};
use pintle_kubelet_plan::security;
use pintle_kubelet_plan::status::pod_status;
use pintle_kubelet_plan::volumes::{self, mounts};
use pintle_kubelet_plan::{plan, volumes::VolumeKind};
use serde_json::{Value, json};

use tables::{Answer, TABLES, Table};

/// A deserializer that learns which fields a type has, and then stops.
struct Asking<'a>(&'a mut &'static [&'static str]);

impl<'de> serde::Deserializer<'de> for Asking<'_> {
    type Error = serde::de::value::Error;
    fn deserialize_any<V: serde::de::Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("not a struct"))
    }
    fn deserialize_struct<V: serde::de::Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(serde::de::Error::custom("only its fields are of interest"))
    }
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The JSON names of a type's fields.
pub fn fields_of<T: serde::de::DeserializeOwned>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    let stopped = T::deserialize(Asking(&mut fields));
    assert!(stopped.is_err() && !fields.is_empty(), "{} has fields", std::any::type_name::<T>());
    fields
}

/// A pod that uses a little of everything, so that a field has something to change.
fn base() -> Value {
    json!({
        "metadata": {"name": "web-0", "namespace": "default", "uid": "u", "generation": 1, "labels": {"app": "web"}},
        "spec": {
            "nodeName": "n",
            "restartPolicy": "OnFailure",
            "subdomain": "db",
            "initContainers": [{"name": "first", "image": "b:1", "command": ["true"]}],
            "containers": [{
                "name": "main", "image": "b:1", "command": ["sh"],
                "ports": [{"name": "web", "containerPort": 8080}],
                "env": [{"name": "A", "value": "1"}, {"name": "B"}],
                "envFrom": [{"configMapRef": {"name": "map"}}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "files", "mountPath": "/files"}],
                "livenessProbe": {"httpGet": {"port": "web"}},
                "readinessProbe": {"tcpSocket": {"port": 8080}},
                "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [7]}}],
            }],
            "volumes": [
                {"name": "data", "emptyDir": {}},
                {"name": "files", "projected": {"sources": [
                    {"configMap": {"name": "map", "items": [{"key": "key", "path": "a"}]}},
                    {"downwardAPI": {"items": [{"path": "b", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                    {"serviceAccountToken": {"path": "c"}},
                    {"secret": {"name": "secret"}},
                ]}},
                {"name": "host", "hostPath": {"path": "/srv"}},
            ],
        },
    })
}

/// `base` with `value` at a path like `spec/containers/0/tty`; objects on the way are made.
fn with(path: &str, field: &str, value: Value) -> Pod {
    let mut pod = base();
    let mut at = &mut pod;
    for word in path.split('/') {
        at = match word.parse::<usize>() {
            Ok(index) => {
                let list = if at.is_null() {
                    *at = json!([]);
                    &mut *at
                } else {
                    at
                };
                while list.as_array().unwrap().len() <= index {
                    list.as_array_mut().unwrap().push(json!({}));
                }
                &mut list[index]
            }
            Err(_) => &mut at[word],
        };
    }
    // Of a union one branch is left.
    let union = match path {
        "spec/volumes/0" => Some("emptyDir"),
        "spec/containers/0/livenessProbe" => Some("httpGet"),
        _ => None,
    };
    if let Some(other) = union.filter(|_| field != "name" && value.is_object()) {
        at.as_object_mut().unwrap().remove(other);
    }
    at[field] = value;
    serde_json::from_value(pod).unwrap()
}

fn objects() -> Objects {
    let map: ConfigMap = serde_json::from_value(json!({"data": {"key": "of the map"}})).unwrap();
    let secret: Secret = serde_json::from_value(json!({"data": {"key": "c2VjcmV0"}})).unwrap();
    Objects {
        config_maps: BTreeMap::from([("map".to_owned(), Some(map))]),
        secrets: BTreeMap::from([("secret".to_owned(), Some(secret))]),
    }
}

fn facts() -> Facts {
    Facts {
        node_name: "n".to_owned(),
        host_ips: vec!["192.0.2.1".to_owned()],
        pod_ips: vec!["10.42.0.2".to_owned()],
        allocatable_cpu_milli: 4000,
        allocatable_memory: 8 << 30,
        allocatable_storage: 100 << 30,
        machine_memory: 8 << 30,
    }
}

fn node() -> NodeView {
    let host = Host { apparmor: true, selinux: true };
    NodeView {
        name: "n".to_owned(),
        cpu_milli: 4000,
        memory: 8 << 30,
        storage: 100 << 30,
        pods_max: 110,
        host,
        ..NodeView::default()
    }
}

/// Everything the planner decides about a pod, as text.
fn decisions(pod: &Pod) -> String {
    let mut out = String::new();
    let other: Pod = serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [{"name": "c",
        "ports": [{"containerPort": 80, "hostPort": 8080}]}]}}))
    .unwrap();
    let dns = DnsSettings {
        cluster_servers: vec!["10.43.0.10".to_owned()],
        cluster_domain: "cluster.local".to_owned(),
        node_resolv_conf: "nameserver 192.0.2.53\n".to_owned(),
        node_hosts: "127.0.0.1 localhost\n".to_owned(),
    };
    let ips = facts().pod_ips;
    writeln!(out, "{:?} {:?}", admit(pod, &[&other], &node()), refusal(pod, node().host)).unwrap();
    writeln!(out, "{} {:?}", qos_class(pod), pod_resources(pod, None)).unwrap();
    writeln!(out, "{} {} {}", hosts(pod, &ips, &dns), resolv_conf(pod, &dns), uts_name(pod, "cluster.local")).unwrap();
    writeln!(out, "{:?} {:?}", security::sysctls(pod), security::fs_group(pod)).unwrap();
    volume_decisions(pod, &mut out);
    for (role, container) in containers(pod) {
        writeln!(out, "{role:?} {:?}", probes(container)).unwrap();
        let name = ImageName::parse(container.image.as_deref().unwrap_or_default());
        let policy = |name: &ImageName| missing(pull_policy(container.image_pull_policy.as_deref(), name), name);
        writeln!(out, "{:?} {:?}", name, name.as_ref().map(policy)).unwrap();
        writeln!(out, "{}", spec_of(pod, role, container).unwrap_or_else(|e| format!("refused: {e}"))).unwrap();
    }
    lives(pod, &mut out);
    out
}

fn volume_decisions(pod: &Pod, out: &mut String) {
    let planned = volumes::plan(pod);
    writeln!(out, "{planned:?} {:?}", volumes::references(pod)).unwrap();
    for volume in planned.into_iter().flatten() {
        if let VolumeKind::Projection(projection) = &volume.kind {
            let tokens = volumes::tokens(projection).into_iter().map(|ask| (ask, "t".to_owned())).collect();
            writeln!(out, "{:?}", payload(pod, projection, &objects(), &tokens, &facts())).unwrap();
        }
    }
}

fn spec_of(
    pod: &Pod,
    role: pintle_kubelet_plan::containers::Role,
    container: &Container,
) -> Result<String, pintle_kubelet_plan::env::ConfigError> {
    let service: Service = serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "default"},
        "spec": {"clusterIP": "10.43.0.7", "ports": [{"port": 5432}]}}))
    .unwrap();
    let env = environment(pod, container, &objects(), &[service], &facts())?;
    let dirs: BTreeMap<String, PathBuf> = volumes::plan(pod)?.into_iter().map(|v| (v.name, "/v".into())).collect();
    let bind =
        |mount: volumes::MountPlan| VolumeBind::new(mount.volume.join(mount.sub_path.as_deref().unwrap_or("")), &mount);
    let binds: Vec<VolumeBind> = mounts(container, &env, &dirs)?.into_iter().map(bind).collect();
    let image =
        ImageSettings { entrypoint: vec!["/e".to_owned()], cmd: vec!["c".to_owned()], ..ImageSettings::default() };
    let identity = security::identity(pod, container, "", "root:x:0:0::/:\n", "wheel:x:7:root\n")?;
    let file = |name: &str| Path::new("/f").join(name);
    let files = PodFiles {
        hosts: file("hosts"),
        hostname: file("hostname"),
        resolv_conf: file("resolv.conf"),
        shm: file("shm"),
        termination_log: file("log"),
    };
    let localhost = security::localhost_seccomp(pod, container).map(|_| Default::default());
    let spec = container_spec(&ContainerInput {
        pod,
        role,
        container,
        id: "i",
        attempt: 0,
        image: &image,
        env: &env,
        identity: &identity,
        binds: &binds,
        files: &files,
        rootfs: &PathBuf::from("/r"),
        pod_cgroup: "/kubepods/podu",
        machine_memory: 8 << 30,
        devices: &[],
        localhost_seccomp: localhost.as_ref(),
    })?;
    let mut spec = serde_json::to_value(spec).unwrap();
    // Sets have no order of their own.
    for set in
        spec["process"]["capabilities"].as_object_mut().into_iter().flatten().filter_map(|(_, v)| v.as_array_mut())
    {
        set.sort_by_key(Value::to_string);
    }
    Ok(spec.to_string())
}

/// What the plan says and the status tells at several points of a life.
fn lives(pod: &Pod, out: &mut String) {
    let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
    let running = AttemptState::Running { started_at: now - SignedDuration::from_secs(60) };
    let exited = |code: i32| {
        AttemptState::Exited(Exited {
            started_at: None,
            finished_at: now,
            code,
            signal: 0,
            reason: "Error".to_owned(),
            message: String::new(),
        })
    };
    let attempt = |state: AttemptState| {
        Some(Attempt { id: "i".to_owned(), number: 0, image_id: "b@1".to_owned(), user: (0, 0, vec![]), state })
    };
    let observed = |main: Option<AttemptState>, ending: bool| {
        let up = Observed {
            started_at: Some(now - SignedDuration::from_secs(60)),
            sandbox: Stage::Ready(facts().pod_ips),
            volumes: Stage::Ready(()),
            terminating_since: ending.then_some(now),
            ..Observed::default()
        };
        let mut containers = BTreeMap::from([(
            "first".to_owned(),
            ContainerObs { attempt: attempt(exited(0)), ..ContainerObs::default() },
        )]);
        if let Some(state) = main {
            let mut obs = ContainerObs { image: Stage::Ready(()), attempt: attempt(state), ..ContainerObs::default() };
            obs.probes.started = true;
            obs.probes.ready = true;
            containers.insert("main".to_owned(), obs);
        }
        Observed { containers, ..up }
    };
    let mut unwell = observed(Some(running.clone()), false);
    let grace_s = pod.spec.as_ref().and_then(|s| s.containers[0].liveness_probe.as_ref());
    let grace_s = grace_s.and_then(|p| p.termination_grace_period_seconds);
    unwell.containers.get_mut("main").unwrap().probes.unhealthy = Some(Unhealthy { probe: "liveness", grace_s });
    let points = [
        Observed::default(),
        observed(None, false),
        observed(Some(running.clone()), false),
        observed(Some(exited(0)), false),
        observed(Some(exited(1)), false),
        observed(Some(running), true),
        unwell,
    ];
    for seen in points {
        writeln!(out, "{:?}", plan(pod, &seen, now)).unwrap();
        writeln!(out, "{:?}", pod_status(pod, &seen, &PodStatus::default(), &facts(), now)).unwrap();
    }
}

/// Every sentence with which the planner refuses something of a pod.
fn refusals(pod: &Pod) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    out.extend(refusal(pod, node().host).map(|e| e.to_string()));
    out.extend(admit(pod, &[], &node()).err().map(|r| format!("{}: {}", r.reason, r.message)));
    out.extend(volumes::plan(pod).err().map(|e| e.to_string()));
    for (role, container) in containers(pod) {
        out.extend(spec_of(pod, role, container).err().map(|e| e.to_string()));
    }
    out
}

fn judge(table: &Table, field: &str, answer: &Answer, plain: &str, wrong: &mut Vec<String>) {
    let here = format!("{}.{field}", table.kind);
    match answer {
        Answer::Done(value) => {
            let value: Value = serde_json::from_str(value).unwrap_or_else(|e| panic!("{here}: {e}"));
            let asking = with(table.path, field, value);
            if decisions(&asking) == plain {
                wrong.push(format!("{here} changes nothing"));
            }
            wrong.extend(refusals(&asking).into_iter().map(|why| format!("{here} is refused: {why}")));
        }
        Answer::Refused(value, words) => {
            let value: Value = serde_json::from_str(value).unwrap_or_else(|e| panic!("{here}: {e}"));
            let told = refusals(&with(table.path, field, value));
            if !told.iter().any(|why| why.contains(words)) {
                wrong.push(format!("{here} is not refused by name: {told:?}"));
            }
        }
        Answer::ByEdge(test) => {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tests").join(test);
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if !text.contains(&format!("\"{field}\"")) {
                wrong.push(format!("{here}: {test} does not use it"));
            }
        }
        Answer::Others(why) => assert!(why.len() > 10, "{here} needs a reason"),
    }
}

#[test]
fn every_field_of_a_pod_is_done_refused_by_name_or_anothers() {
    let mut wrong = Vec::new();
    let pod: Pod = serde_json::from_value(base()).unwrap();
    let plain = decisions(&pod);
    assert_eq!(plain, decisions(&pod), "decisions are comparable");
    assert_eq!(refusals(&pod), Vec::<String>::new());
    for table in TABLES {
        let mut left: Vec<&str> = (table.fields)().to_vec();
        for (field, answer) in table.answers {
            let known = left.len();
            left.retain(|f| f != field);
            if left.len() == known {
                wrong.push(format!("{} has no field {field}, or it is listed twice", table.kind));
            }
            judge(table, field, answer, &plain, &mut wrong);
        }
        wrong.extend(left.into_iter().map(|field| format!("{}.{field} is in no list", table.kind)));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
