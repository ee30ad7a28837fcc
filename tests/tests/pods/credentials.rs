//! What the kubelet holds that ends by itself: its certificates, and the tokens of its pods.

use std::path::Path;
use std::time::{Duration, SystemTime};

use pintle_client::{Identity, Kubeconfig, Trust, write_private};
use pintle_testkit::{Cluster, eventually, require_root};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use serde_json::json;

use super::driver::Kubectl;
use super::restarts::{LIMIT, kill, pid_of, restart_agent};
use super::{apply, container, pod};

/// The certificates a kubelet finds: due in 2 s, over in 11.
const PAST: Duration = Duration::from_secs(16);
const LEFT: Duration = Duration::from_secs(11);

/// Makes certificates as the cluster does, only shorter.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca: String,
    node: String,
}

impl Authority {
    fn of(cluster: &Cluster, node: &str) -> Authority {
        let pki = cluster.state_dir().join("server/pki");
        let ca = std::fs::read_to_string(pki.join("ca.crt")).unwrap();
        let key = KeyPair::from_pem(&std::fs::read_to_string(pki.join("ca.key")).unwrap()).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&ca, key).unwrap();
        Authority { issuer, ca, node: node.to_owned() }
    }

    /// A certificate of the node's own, and its key.
    fn issue(&self, usage: ExtendedKeyUsagePurpose, names: Vec<SanType>) -> (String, String) {
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "system:nodes");
        name.push(DnType::CommonName, format!("system:node:{}", self.node));
        params.distinguished_name = name;
        params.subject_alt_names = names;
        params.extended_key_usages = vec![usage];
        params.not_before = (SystemTime::now() - PAST).into();
        params.not_after = (SystemTime::now() + LEFT).into();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// When the first certificate of a text ends, Unix time.
fn ends_s(pem: &str) -> i64 {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    block.parse_x509().unwrap().validity().not_after.timestamp()
}

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn client_certificate(kubeconfig: &Path) -> String {
    match Kubeconfig::read(kubeconfig).unwrap().config(kubeconfig).unwrap().identity {
        Identity::Cert { cert_pem, .. } => cert_pem,
        other => panic!("the kubelet's kubeconfig holds {other:?}"),
    }
}

#[test]
fn the_kubelet_renews_its_certificates_before_they_end_and_goes_on_under_the_new_ones() {
    if !require_root("a cluster") {
        return;
    }
    let mut cluster = Cluster::start();
    let k = Kubectl::new(&cluster, "v1.37");
    apply(&k, vec![pod("talks", json!({"containers": [container("main", "echo hello; exec sleep 1000", json!({}))]}))]);
    k.ok(&["wait", "pod/talks", "--for=condition=Ready", "--timeout=60s"]);
    let node = k.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
    let address = k.ok(&["get", "nodes", "-o", "jsonpath={.items[0].status.addresses[0].address}"]);
    let agent = cluster.state_dir().join("agent");
    let (kubeconfig, serving) = (agent.join("kubelet.kubeconfig"), agent.join("pki/kubelet.crt"));
    let authority = Authority::of(&cluster, &node);
    restart_agent(&cluster, || {
        let (cert_pem, key_pem) = authority.issue(ExtendedKeyUsagePurpose::ClientAuth, vec![]);
        let old = Kubeconfig::read(&kubeconfig).unwrap().config(&kubeconfig).unwrap();
        assert!(matches!(&old.trust, Trust::Ca(ca) if *ca == authority.ca));
        let identity = Identity::Cert { cert_pem, key_pem };
        let user = format!("system:node:{node}");
        Kubeconfig::new("pintle", &user, &old.server, &authority.ca, &identity).write(&kubeconfig).unwrap();
        let names =
            vec![SanType::IpAddress(address.parse().unwrap()), SanType::DnsName(node.clone().try_into().unwrap())];
        let (cert_pem, key_pem) = authority.issue(ExtendedKeyUsagePurpose::ServerAuth, names);
        write_private(&agent.join("pki/kubelet.key"), key_pem.as_bytes()).unwrap();
        write_private(&serving, cert_pem.as_bytes()).unwrap();
    });
    let old_ends_s = ends_s(&client_certificate(&kubeconfig)).max(ends_s(&std::fs::read_to_string(&serving).unwrap()));
    assert!(old_ends_s < now_s() + 60, "the short ones are in place");
    eventually("both certificates are new", LIMIT, || {
        let all = [client_certificate(&kubeconfig), std::fs::read_to_string(&serving).unwrap()];
        all.iter().all(|pem| ends_s(pem) > now_s() + 24 * 3600).then_some(())
    });
    eventually("the old certificates have ended", LIMIT, || (now_s() > old_ends_s).then_some(()));
    // No connection of before is left: both sides show what they hold now.
    let server = pid_of(&cluster, "server");
    kill(server, nix::sys::signal::Signal::SIGKILL);
    eventually("another API server", LIMIT, || {
        cluster.processes().iter().any(|(role, pid)| role == "server" && *pid != server).then_some(())
    });
    k.until(&["logs", "talks"], |text| text == "hello\n");
    apply(&k, vec![pod("later", json!({"containers": [container("main", "exec sleep 1000", json!({}))]}))]);
    k.ok(&["wait", "pod/later", "--for=condition=Ready", "--timeout=60s"]);
    cluster.down();
}

#[test]
fn a_running_container_sees_the_next_token_and_every_token_names_its_pod() {
    if !require_root("a cluster") {
        return;
    }
    let mut cluster = Cluster::start();
    let k = Kubectl::new(&cluster, "v1.37");
    let source = json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 600, "audience": "vault"}});
    let spec = json!({
        "serviceAccountName": "keeper",
        "volumes": [{"name": "held", "projected": {"sources": [source]}}],
        "containers": [container("main", "exec sleep 1000", json!({"volumeMounts": [{"name": "held", "mountPath": "/held"}]}))],
    });
    let keeper = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "keeper"}});
    apply(&k, vec![keeper, pod("holder", spec)]);
    k.ok(&["wait", "pod/holder", "--for=condition=Ready", "--timeout=60s"]);
    let read = || k.ok(&["exec", "holder", "--", "cat", "/held/token"]);
    let first = read();
    let state = "{.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}";
    let before = k.field("pod/holder", state);
    // A kubelet holds tokens in memory only: the next one asks for new ones, and the files follow as they do when a
    // token is due (ten minutes is the shortest life an API server grants; when one is due is the planner's table).
    restart_agent(&cluster, || ());
    let second = eventually("the container reads another token", LIMIT, || {
        let output = k.command(&["exec", "holder", "--", "cat", "/held/token"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.success() && text != first).then_some(text)
    });
    assert_eq!(k.field("pod/holder", state), before, "the same container, never restarted");
    let uid = k.field("pod/holder", "{.metadata.uid}");
    for token in [&first, &second] {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": ["vault"]}});
        let answer = k.ok_with(&["create", "-f", "-", "-o", "json"], &review.to_string());
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["status"]["authenticated"], true, "{answer}");
        assert_eq!(answer["status"]["user"]["username"], "system:serviceaccount:default:keeper");
        assert_eq!(answer["status"]["user"]["extra"]["authentication.kubernetes.io/pod-uid"], json!([uid]));
    }
    cluster.down();
}
