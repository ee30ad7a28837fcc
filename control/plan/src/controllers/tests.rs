//! Stories of the small controllers, and rules that hold for every one of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest as Csr;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::sim::{Sim, node};
use super::{CONTROLLERS, Controller, CsrSubject, Key, KindRef, Plan, View};

#[test]
fn controllers_have_names_of_their_own_and_sleep_over_an_empty_cluster() {
    let names: BTreeSet<_> = CONTROLLERS.iter().map(|c| c.name()).collect();
    assert_eq!(names.len(), CONTROLLERS.len());
    let sim = Sim::new(CONTROLLERS);
    for (at, each) in CONTROLLERS.iter().enumerate() {
        for kind in each.watches() {
            let (plan, _) = sim.plan(at, &Key::new(*kind, super::Name::new("default", "absent")));
            assert_eq!(plan, Plan::default(), "{}", each.name());
        }
    }
}

#[test]
fn a_namespace_gets_its_account_and_certificate_and_they_come_back() {
    let mut sim = Sim::new(&[&super::service_account::ServiceAccounts, &super::root_ca::RootCa]);
    sim.config.ca_pem = "PEM".to_owned();
    sim.create::<Namespace>(json!({"metadata": {"name": "team"}}));
    sim.settle();
    insta::assert_snapshot!(sim.told(), @"
    service-account-controller: create serviceaccounts team/default
    root-ca-certificate-publisher-controller: create configmaps team/kube-root-ca.crt
    ");
    sim.delete::<ServiceAccount>("team", "default", None);
    sim.edit::<ConfigMap>("team", "kube-root-ca.crt", |m| m.data = None);
    sim.settle();
    insta::assert_snapshot!(sim.told(), @r#"
    service-account-controller: create serviceaccounts team/default
    root-ca-certificate-publisher-controller: patch configmaps team/kube-root-ca.crt {"data":{"ca.crt":"PEM"}}
    "#);
}

#[test]
fn a_namespace_that_goes_is_emptied_before_it_may() {
    let mut sim = Sim::new(&[&super::namespace::Namespaces]);
    sim.config.namespaced = vec![KindRef::of::<Pod>(), KindRef::of::<Service>()];
    sim.create::<Namespace>(json!({"metadata": {"name": "team"}, "spec": {"finalizers": ["kubernetes"]}}));
    sim.create::<Pod>(
        json!({"metadata": {"name": "p", "namespace": "team"}, "spec": {"nodeName": "n1", "containers": []}}),
    );
    sim.create::<Service>(json!({"metadata": {"name": "s", "namespace": "team"}}));
    sim.create::<Service>(json!({"metadata": {"name": "s", "namespace": "other"}}));
    sim.settle();
    assert_eq!(sim.told(), "", "nothing to do while it lives");
    sim.delete::<Namespace>("", "team", None);
    // It asks again and again while the pod ends; three lines tell it.
    sim.steps(5);
    sim.log.truncate(3);
    insta::assert_snapshot!(sim.told(), @"
    namespace-controller: put namespaces/status team
    namespace-controller: delete all pods in team
    namespace-controller: delete all services in team
    ");
    assert_eq!(sim.list::<Namespace>().len(), 1, "the pod still runs");
    sim.kubelet();
    sim.settle();
    insta::assert_snapshot!(sim.told(), @"
    namespace-controller: put namespaces/finalize team
    ");
    assert_eq!((sim.list::<Namespace>().len(), sim.list::<Service>().len()), (0, 1));
}

#[test]
fn nodes_get_different_ranges_and_a_freed_one_is_given_again() {
    let mut sim = Sim::new(&[&super::node_ipam::NodeIpam]);
    sim.config.cluster_cidr = "10.42.0.0/23".to_owned();
    for name in ["n1", "n2", "n3"] {
        sim.create::<Node>(node(name));
    }
    sim.steps(100);
    insta::assert_snapshot!(sim.told(), @r#"
    node-ipam-controller: event Warning CIDRNotAvailable n3: all 2 pod ranges of 10.42.0.0/23 are in use
    node-ipam-controller: patch nodes n1 {"spec":{"podCIDR":"10.42.0.0/24","podCIDRs":["10.42.0.0/24"]}}
    node-ipam-controller: patch nodes n2 {"spec":{"podCIDR":"10.42.1.0/24","podCIDRs":["10.42.1.0/24"]}}
    node-ipam-controller: event Warning CIDRNotAvailable n3: all 2 pod ranges of 10.42.0.0/23 are in use
    "#);
    sim.delete::<Node>("", "n1", None);
    sim.settle();
    insta::assert_snapshot!(sim.told(), @r#"
    node-ipam-controller: patch nodes n3 {"spec":{"podCIDR":"10.42.0.0/24","podCIDRs":["10.42.0.0/24"]}}
    "#);
}

fn web() -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {"clusterIP": "10.43.0.9", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]},
    })
}

fn backend(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1",
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]},
    })
}

fn slices(sim: &Sim) -> String {
    let mut lines = Vec::new();
    for slice in sim.list::<EndpointSlice>() {
        let ports: Vec<_> = slice.ports.iter().flatten().map(|p| (p.name.clone().unwrap(), p.port.unwrap())).collect();
        lines.push(format!("slice {} {ports:?}", slice.address_type));
        for e in slice.endpoints.iter().flatten() {
            let c = e.conditions.clone().unwrap();
            let state = (c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap());
            lines.push(format!("  {} {:?} ready, serving, terminating = {state:?}", e.addresses[0], e.node_name));
        }
    }
    for e in sim.list::<Endpoints>() {
        for s in e.subsets.iter().flatten() {
            let ips = |l: &Option<Vec<k8s_openapi::api::core::v1::EndpointAddress>>| -> Vec<String> {
                l.iter().flatten().map(|a| a.ip.clone()).collect()
            };
            lines.push(format!("endpoints ready {:?} not {:?}", ips(&s.addresses), ips(&s.not_ready_addresses)));
        }
    }
    lines.join("\n")
}

#[test]
fn endpoints_follow_pods_through_readiness_and_termination() {
    let mut sim = Sim::new(&[&super::endpointslice::EndpointSlices, &super::endpoints::EndpointsMirror]);
    sim.create::<Service>(web());
    sim.settle();
    insta::assert_snapshot!(slices(&sim), @"slice IPv4 []");
    sim.create::<Pod>(backend("web-1"));
    sim.create::<Pod>(backend("web-2"));
    sim.settle();
    sim.kubelet();
    sim.edit::<Pod>("default", "web-2", |p| p.status.as_mut().unwrap().conditions = None);
    sim.settle();
    insta::assert_snapshot!(slices(&sim), @r#"
    slice IPv4 [("http", 8080)]
      10.42.0.2 Some("n1") ready, serving, terminating = (true, true, false)
      10.42.0.3 Some("n1") ready, serving, terminating = (false, false, false)
    endpoints ready ["10.42.0.2"] not ["10.42.0.3"]
    "#);
    sim.delete::<Pod>("default", "web-1", None);
    sim.settle();
    insta::assert_snapshot!(slices(&sim), @r#"
    slice IPv4 [("http", 8080)]
      10.42.0.2 Some("n1") ready, serving, terminating = (false, true, true)
      10.42.0.3 Some("n1") ready, serving, terminating = (false, false, false)
    endpoints ready [] not ["10.42.0.3"]
    "#);
    sim.delete::<Service>("default", "web", None);
    sim.settle();
    assert!(sim.list::<Endpoints>().is_empty(), "slices are the garbage collector's, Endpoints have no owner");
}

#[test]
fn endpoints_fill_slices_of_a_hundred_and_stay_where_they_are() {
    let mut sim = Sim::new(&[&super::endpointslice::EndpointSlices]);
    sim.create::<Service>(web());
    for n in 0..205 {
        sim.create::<Pod>(backend(&format!("web-{n}")));
    }
    sim.kubelet();
    sim.settle();
    let sizes = |sim: &Sim| {
        let mut sizes: Vec<usize> =
            sim.list::<EndpointSlice>().iter().map(|s| s.endpoints.as_ref().map_or(0, Vec::len)).collect();
        sizes.sort_unstable();
        sizes
    };
    assert_eq!(sizes(&sim), [5, 100, 100]);
    sim.told();
    sim.delete::<Pod>("default", "web-7", None);
    sim.kubelet();
    sim.settle();
    assert_eq!(sizes(&sim), [5, 99, 100]);
    assert!(sim.told().lines().all(|l| l.contains("put endpointslices")), "nothing was moved between slices");
}

#[test]
fn endpoints_of_services_without_a_selector_are_somebody_elses() {
    let mut sim = Sim::new(&[&super::endpointslice::EndpointSlices, &super::endpoints::EndpointsMirror]);
    sim.create::<Service>(
        json!({"metadata": {"name": "db", "namespace": "default"}, "spec": {"ports": [{"port": 5432}]}}),
    );
    sim.create::<Endpoints>(json!({"metadata": {"name": "db", "namespace": "default"},
        "subsets": [{"addresses": [{"ip": "192.0.2.1"}]}]}));
    sim.settle();
    sim.delete::<Service>("default", "db", None);
    sim.settle();
    assert_eq!(sim.told(), "");
}

/// A request by `user` for `signer`; what it asks for is `subject`.
fn request(sim: &mut Sim, name: &str, who: (&str, &str), signer: &str, usage: &str, subject: CsrSubject) {
    let bytes = name.as_bytes().to_vec();
    sim.requests.insert(bytes.clone(), subject);
    sim.create::<Csr>(json!({
        "metadata": {"name": name},
        "spec": {"request": k8s_openapi::ByteString(bytes), "signerName": signer, "username": who.0, "groups": [who.1],
            "usages": ["digital signature", usage]},
    }));
}

fn approve(sim: &mut Sim, name: &str) {
    let approved = json!({"conditions": [{"type": "Approved", "status": "True"}]});
    sim.edit::<Csr>("", name, |csr| csr.status = serde_json::from_value(approved).unwrap());
}

fn subject(name: &str, organization: &str, dns: &[&str], addresses: &[&str]) -> CsrSubject {
    let words = |l: &[&str]| l.iter().map(|w| (*w).to_owned()).collect();
    CsrSubject {
        common_name: name.to_owned(),
        organizations: if organization.is_empty() { vec![] } else { vec![organization.to_owned()] },
        dns_names: words(dns),
        addresses: words(addresses),
        other_names: false,
    }
}

#[test]
fn nodes_get_the_certificates_they_may_have_and_no_others() {
    use super::certificates::{Approver, Cleaner, Signer};
    let mut sim = Sim::new(&[&Approver, &Signer, &Cleaner]);
    let mut n1 = node("n1");
    let told = ["192.0.2.1", "192.0.2.3", "10.43.0.1", "kubernetes.default.svc", "n1.example.com"];
    n1["status"]["addresses"] = told.map(|address| json!({"type": "InternalIP", "address": address})).into();
    sim.create::<Node>(n1);
    let mut n3 = node("n3");
    n3["status"]["addresses"] = json!([{"type": "InternalIP", "address": "192.0.2.3"}]);
    n3["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    sim.create::<Node>(n3);
    let ports = json!([{"port": 443}]);
    sim.create::<Service>(json!({"metadata": {"name": "kubernetes", "namespace": "default"},
        "spec": {"clusterIP": "10.43.0.1", "ports": ports}}));
    let (joiner, me) = (("system:bootstrap:abcdef", "system:bootstrappers"), ("system:node:n1", "system:nodes"));
    let (client, serving) = ("kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving");
    let proxy = "pintle.dev/kube-proxy-client";
    let n = |name: &str| subject(&format!("system:node:{name}"), "system:nodes", &[], &[]);
    let s = |dns: &str, ip: &str| subject("system:node:n1", "system:nodes", &[dns], &[ip]);
    request(&mut sim, "joins", joiner, client, "client auth", n("n2"));
    request(&mut sim, "renews", me, client, "client auth", n("n1"));
    request(&mut sim, "takes-another-name", me, client, "client auth", n("n2"));
    request(&mut sim, "joins-as-server", joiner, client, "server auth", n("n2"));
    request(&mut sim, "serves", me, serving, "server auth", s("n1", "192.0.2.1"));
    request(&mut sim, "serves-foreign-address", me, serving, "server auth", s("n1", "192.0.2.9"));
    request(&mut sim, "serves-foreign-name", me, serving, "server auth", s("kubernetes", "192.0.2.1"));
    request(&mut sim, "proxies", me, proxy, "client auth", subject("system:kube-proxy", "", &[], &[]));
    request(
        &mut sim,
        "proxies-as-master",
        me,
        proxy,
        "client auth",
        subject("system:kube-proxy", "system:masters", &[], &[]),
    );
    request(&mut sim, "bootstrapper-proxies", joiner, proxy, "client auth", subject("system:kube-proxy", "", &[], &[]));
    let person = ("jane", "system:authenticated");
    let api = "kubernetes.io/kube-apiserver-client";
    let masters = subject("jane", "system:masters", &[], &[]);
    request(&mut sim, "person-waits", person, api, "client auth", subject("jane", "devs", &[], &[]));
    request(&mut sim, "person-is-approved", person, api, "client auth", subject("jane", "devs", &[], &[]));
    request(&mut sim, "person-as-master", person, api, "client auth", masters);
    request(&mut sim, "person-as-node", person, api, "client auth", n("n1"));
    request(
        &mut sim,
        "person-as-account",
        person,
        api,
        "client auth",
        subject("system:serviceaccount:a:b", "", &[], &[]),
    );
    let kubelets = subject("kube-apiserver-kubelet-client", "", &[], &[]);
    request(&mut sim, "person-as-server", person, api, "client auth", kubelets);
    request(&mut sim, "person-serves", person, api, "server auth", subject("jane", "devs", &[], &[]));
    for name in ["is-approved", "as-master", "as-node", "as-account", "as-server", "serves"] {
        approve(&mut sim, &format!("person-{name}"));
    }
    request(&mut sim, "serves-another-node-s-address", me, serving, "server auth", s("n1", "192.0.2.3"));
    request(&mut sim, "serves-a-service-s-address", me, serving, "server auth", s("n1", "10.43.0.1"));
    request(
        &mut sim,
        "serves-as-reported-server",
        me,
        serving,
        "server auth",
        s("kubernetes.default.svc", "192.0.2.1"),
    );
    request(&mut sim, "serves-own-host-name", me, serving, "server auth", s("n1.example.com", "192.0.2.1"));
    request(&mut sim, "of-somebody-else", me, "example.com/x", "client auth", n("n1"));
    sim.settle();
    let told = sim.told();
    let refused = sim.list::<Csr>().into_iter().filter_map(|c| {
        let failed = c.status?.conditions?.into_iter().find(|condition| condition.type_ == "Failed")?;
        Some(format!("{}: {}", c.metadata.name?, failed.message?))
    });
    insta::assert_snapshot!(refused.collect::<Vec<_>>().join("\n"), @r#"
    person-as-account: common name "system:serviceaccount:a:b" is not given by this signer
    person-as-master: organization system:masters is not given by this signer
    person-as-node: organization system:nodes is not given by this signer
    person-as-server: common name "kube-apiserver-kubelet-client" is not given by this signer
    person-serves: usages must be client auth, digital signature, key encipherment
    "#);
    let signed: Vec<&str> = told.lines().filter(|l| l.contains(" sign ")).collect();
    insta::assert_snapshot!(signed.join("\n"), @"
    certificate-signer: sign joins for 31536000s as Client
    certificate-signer: sign person-is-approved for 31536000s as Client
    certificate-signer: sign proxies for 31536000s as Client
    certificate-signer: sign renews for 31536000s as Client
    certificate-signer: sign serves for 31536000s as Server
    certificate-signer: sign serves-own-host-name for 31536000s as Server
    ");
    sim.advance(3600);
    sim.settle();
    let left: Vec<_> = sim.list::<Csr>().into_iter().filter_map(|c| c.metadata.name).collect();
    assert_eq!(left.len(), 11, "decided requests go after an hour: {left:?}");
    sim.advance(23 * 3600);
    sim.settle();
    assert!(sim.list::<Csr>().is_empty(), "the others after a day");
}

#[test]
fn pods_of_a_node_that_is_gone_fail_and_go() {
    let mut sim = Sim::new(&[&super::pod_gc::PodGc]);
    sim.create::<Node>(node("n1"));
    sim.create::<Pod>(backend("web-1"));
    sim.settle();
    assert_eq!(sim.told(), "");
    sim.delete::<Node>("", "n1", None);
    sim.steps(100);
    let told = sim.told();
    assert!(told.contains("\"phase\":\"Failed\"") && told.contains("delete pods default/web-1"), "{told}");
}

#[test]
fn finished_jobs_and_expired_tokens_go_in_time() {
    let mut sim = Sim::new(&[&super::ttl::TtlAfterFinished, &super::token_cleaner::TokenCleaner]);
    let now = sim.now;
    sim.create::<Job>(json!({
        "metadata": {"name": "sum", "namespace": "default"},
        "spec": {"ttlSecondsAfterFinished": 60, "template": {}},
        "status": {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": now}]},
    }));
    let token = |name: &str, expiration: &str| {
        let data = json!({"expiration": k8s_openapi::ByteString(expiration.as_bytes().to_vec())});
        json!({"metadata": {"name": name, "namespace": "kube-system"}, "type": "bootstrap.kubernetes.io/token", "data": data})
    };
    sim.create::<Secret>(token("bootstrap-token-abcdef", "2026-07-01T00:00:30Z"));
    sim.create::<Secret>(token("bootstrap-token-lasting", "2027-07-01T00:00:30Z"));
    sim.settle();
    assert_eq!(sim.told(), "");
    sim.advance(30);
    sim.settle();
    assert_eq!(sim.told(), "token-cleaner-controller: delete secrets kube-system/bootstrap-token-abcdef");
    sim.advance(30);
    sim.steps(100);
    assert_eq!(sim.told(), "ttl-after-finished-controller: delete jobs.batch default/sum");
}

#[test]
fn a_replica_set_tells_of_a_failure_before_it_tries_again() {
    use super::replicaset::ReplicaSets;
    let mut sim = Sim::new(&[]);
    let rs = sim.create::<k8s_openapi::api::apps::v1::ReplicaSet>(json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}}},
    }));
    let key = Key::new(KindRef::of::<k8s_openapi::api::apps::v1::ReplicaSet>(), super::name_of(&rs.metadata));
    let answers = super::Answers::new();
    let view = View {
        snapshot: &sim.snapshot,
        config: &sim.config,
        answers: &answers,
        failure: Some("quota exceeded"),
        now: sim.now,
    };
    let plan = ReplicaSets.plan(&key, &view);
    let first = format!("{:?}", plan.writes[0].action);
    assert!(first.contains("part: Status") && first.contains("quota exceeded"), "{first}");
}

#[test]
fn the_pods_least_missed_go_first() {
    use super::replicaset::ReplicaSets;
    let mut sim = Sim::new(&[&ReplicaSets]);
    sim.create::<k8s_openapi::api::apps::v1::ReplicaSet>(json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 6, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
    }));
    sim.settle();
    let names: Vec<String> = sim.list::<Pod>().into_iter().filter_map(|p| p.metadata.name).collect();
    let set = |sim: &mut Sim, n: usize, node: Option<&str>, ready: bool, cost: Option<&str>| {
        let now = sim.now;
        sim.edit::<Pod>("default", &names[n], |p| {
            p.spec.as_mut().unwrap().node_name = node.map(str::to_owned);
            let status = if ready { "True" } else { "False" };
            p.status = Some(
                serde_json::from_value(json!({"phase": "Running",
                "conditions": [{"type": "Ready", "status": status, "lastTransitionTime": now}]}))
                .unwrap(),
            );
            p.metadata.annotations =
                cost.map(|c| [("controller.kubernetes.io/pod-deletion-cost".to_owned(), c.to_owned())].into());
        });
    };
    set(&mut sim, 0, Some("a"), true, None);
    set(&mut sim, 1, Some("b"), true, None);
    set(&mut sim, 2, Some("b"), true, None);
    set(&mut sim, 3, Some("a"), true, Some("-5"));
    set(&mut sim, 4, Some("c"), false, None);
    // names[5] has no node.
    let mut order = Vec::new();
    for replicas in (0..6).rev() {
        sim.edit::<k8s_openapi::api::apps::v1::ReplicaSet>("default", "web", |rs| rs.spec.replicas = Some(replicas));
        let before: BTreeSet<String> = alive(&sim);
        sim.settle();
        order.extend(before.difference(&alive(&sim)).map(|n| names.iter().position(|x| x == n).unwrap()));
    }
    assert_eq!(order[..3], [5, 4, 3], "unassigned, then unready, then cheap");
    assert!([1, 2].contains(&order[3]), "then one of the crowded node: {order:?}");
}

fn alive(sim: &Sim) -> BTreeSet<String> {
    sim.list::<Pod>().into_iter().filter(super::pods::is_active).filter_map(|p| p.metadata.name).collect()
}
