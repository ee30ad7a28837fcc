//! The rows of the table, each told by running it. Owns the order and the words; the other files here own the fakes.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pintle_control_plan::controllers::{KindRef, Name, encode, name_of};
use pintle_control_plan::strategy::Target;
use pintle_kubelet_plan::node::{allocatable, new_node};
use pintle_kubelet_plan::probe;
use pintle_runtime_plan::Step;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::kubelet::{Life, machine};
use crate::tale::Tale;
use crate::traffic::Proxy;
use crate::{container, kubelet};

const MANIFESTS: &str = include_str!("../../../examples/web.yaml");
const CONTROLLERS: &[&str] = &["deployment-controller", "replicaset-controller"];
const SCHEDULER: &[&str] = &["default-scheduler"];
const SLICES: &[&str] = &["endpoint-slice-controller"];

/// Rows 1 to 3.
pub fn written(tale: &mut Tale, cluster: &mut Cluster) {
    tale.step("1", "bytes arrive; the generic handler finds the kind");
    let documents: Vec<Value> =
        serde_yaml_ng::Deserializer::from_str(MANIFESTS).map(|one| Value::deserialize(one).unwrap()).collect();
    for object in &documents {
        let words = |field: &str| object[field].as_str().unwrap();
        let kind = pintle_control_plan::registry::by_kind(words("apiVersion"), words("kind")).unwrap();
        let (group, version) = (kind.group(), kind.version());
        tale.say(format!("examples/web.yaml, {}: group {group:?}, version {version}, {}", kind.kind(), kind.plural()));
    }

    tale.step("2", "decode → default → admit → validate");
    let mut bad = documents[0].clone();
    bad["spec"]["replicas"] = json!(-1);
    bad["spec"]["template"]["metadata"]["labels"]["app"] = json!("other");
    let refusal = cluster.api.create(&bad).err().unwrap();
    tale.say(format!("spoiled on purpose → {}:", refusal.code.unwrap()));
    // One line per rule that is broken.
    refusal.message.unwrap().replace(", spec", ",\nspec").lines().for_each(|line| tale.say(format!("  {line}")));
    let made: Vec<_> = documents.iter().map(|object| cluster.api.create(object).unwrap()).collect();
    for (object, made) in documents.iter().zip(&made) {
        tale.list(&format!("filled into the {}", object["kind"].as_str().unwrap()), &made.filled);
    }

    let service = cluster.api.get(KindRef::of::<Service>(), &Name::new("default", "web")).unwrap();
    tale.say(format!("admission gives the Service its address: .spec.clusterIPs={}", service["spec"]["clusterIPs"]));

    tale.step("3", "written at a revision; watchers wake");
    cluster.hear().iter().for_each(|told| tale.say(told));
}

/// Rows 4 and 5.
pub fn placed(tale: &mut Tale, cluster: &mut Cluster) -> kubelet::MachineFacts {
    tale.step("4", "controllers turn Deployments into Pods (the number is the revision of the write)");
    cluster.run(tale, CONTROLLERS);

    let mut last = kubelet::MachineFacts::default();
    tale.step("5", "the scheduler picks a node: filter, score, bind");
    for (name, ip, memory_mib) in [("small", "10.41.0.3", 104), ("roomy", "10.41.0.2", 1024)] {
        let machine = machine(name, ip, memory_mib);
        let joined = cluster.api.create(&encode(&new_node(&machine, cluster.api.now))).unwrap();
        let room_mib = allocatable(&machine).1 >> 20;
        tale.say(format!("[{}] node {name} joins with {room_mib} MiB for pods", joined.revision));
        cluster.run(tale, SCHEDULER);
        last = machine;
    }
    last
}

/// Row 6: the first pod in detail, the others the same way in silence.
pub fn started(tale: &mut Tale, cluster: &mut Cluster, node: &kubelet::MachineFacts) -> Vec<Life> {
    cluster.hear();
    let now = cluster.api.now;
    let of = |(n, pod): (usize, Pod)| Life::new(pod, node, &format!("10.42.0.{}", n + 2), now);
    let mut lives: Vec<Life> = cluster.list::<Pod>().into_iter().enumerate().map(of).collect();
    tale.step("6", "the kubelet sees its pod and plans: the first of three");
    tale.say(format!("seen:   {}", lives[0].summary()));
    for turn in 1.. {
        let actions = lives[0].turn();
        tale.say(format!("turn {turn}: {actions:?}"));
        if actions.is_empty() {
            break;
        }
        tale.say(format!("        {}", lives[0].summary()));
    }
    for life in &mut lives[1..] {
        while !life.turn().is_empty() {}
    }
    lives
}

/// Rows 7 to 9: what became of `ResolveImage` and `Start`.
pub fn executed(tale: &mut Tale, cluster: &Cluster, life: &Life) {
    tale.step("7", "the image becomes layers, layers become a root");
    container::root(tale, life);
    tale.step("8", "the container becomes an OCI spec, then a script of system calls");
    let spec = container::spec(tale, life, &cluster.list::<Service>());
    let plan = container::init(tale, life, &spec);

    tale.step("9", "the child walks that script and execs");
    let walked = container::walk(&plan, |_| None).unwrap();
    tale.say(format!("a kernel that grants everything: {walked} steps, then exec"));
    let proc =
        |step: &Step| matches!(step, Step::Attach { path, .. } if path.as_c_str() == c"/proc").then_some("EPERM");
    let (at, errno) = container::walk(&plan, proc).unwrap_err();
    tale.say(format!("a kernel that refuses a mount: the child writes ({at}, {errno}) to its pipe and ends;"));
    tale.say(format!("  the parent looks step {at} up: cannot {}: {errno}", plan.child[at]));
}

/// The kubelet's PUT of a pod's status.
fn report(tale: &mut Tale, cluster: &mut Cluster, life: &Life) {
    let name = name_of(&life.pod.metadata);
    let status = serde_json::to_value(life.status()).unwrap();
    let put = |pod: &mut Value| pod["status"] = status;
    let revision = cluster.api.change(KindRef::of::<Pod>(), &name, Target::Status, put).unwrap().unwrap();
    tale.say(format!("[{revision}] kubelet: put pods/status {}: {}", name.name, life.seen.sandbox.ready().unwrap()[0]));
}

fn show_slices(tale: &mut Tale, cluster: &mut Cluster) {
    cluster.hear();
    for slice in cluster.list::<EndpointSlice>() {
        let one = |e: &k8s_openapi::api::discovery::v1::Endpoint| {
            format!("{} ready={}", e.addresses[0], e.conditions.as_ref().unwrap().ready.unwrap())
        };
        let words: Vec<String> = slice.endpoints.iter().flatten().map(one).collect();
        let ports: Vec<i32> = slice.ports.iter().flatten().filter_map(|port| port.port).collect();
        tale.list(&format!("  endpoints, port {ports:?}"), &words);
    }
}

/// Rows 10 and 11, told twice: before the pods' readiness probes succeed, and after.
pub fn reached(tale: &mut Tale, cluster: &mut Cluster, lives: &mut [Life], node: &kubelet::MachineFacts) {
    tale.step("10", "status goes back; endpoints appear");
    let mut proxy = Proxy::new(&node.name, &node.ips[0]);
    lives.iter().for_each(|life| report(tale, cluster, life));
    cluster.run(tale, SLICES);
    show_slices(tale, cluster);
    let before = cluster.list::<EndpointSlice>();
    let check = probe::probes(&lives[0].container()).remove(0).check;
    let probe::Check::Http { port, path, .. } = check else { panic!("the example asks by HTTP: {check:?}") };
    tale.say(format!("the readiness probe, GET :{port}{path}, succeeds in all three"));
    for life in &mut *lives {
        life.answers();
        report(tale, cluster, life);
    }
    cluster.run(tale, SLICES);
    show_slices(tale, cluster);
    cluster.run(tale, CONTROLLERS);
    let row = cluster.api.row(KindRef::of::<Pod>(), &name_of(&lives[0].pod.metadata), 4);
    tale.say(format!("kubectl get pods         {row}"));
    let row = cluster.api.row(KindRef::of::<Deployment>(), &Name::new("default", "web"), 4);
    tale.say(format!("kubectl get deployments  {row}"));

    tale.step("11", "endpoints become rules");
    tale.say("(keys are bytes: 0a2b000a is 10.43.0.10, 06 is TCP, 0050 is port 80, then the number of the endpoint)");
    proxy.update(tale, "a Service nobody serves yet", &cluster.list::<Service>(), &before);
    proxy.ask(tale, "a pod", "10.42.0.9", 80);
    proxy.update(tale, "its pods are ready", &[], &cluster.list::<EndpointSlice>());
    proxy.ask(tale, "a pod", "10.42.0.9", 80);
    proxy.ask(tale, "one of its own pods", "10.42.0.2", 80);
    proxy.ask(tale, "another machine", "192.0.2.7", 80);
    proxy.ask(tale, "a pod", "10.42.0.9", 81);
}
