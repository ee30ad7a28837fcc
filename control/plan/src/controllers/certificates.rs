//! Certificate requests: who may have which certificate, signing, and removal of old requests.
//!
//! Owns the decision; what each signer demands is in `rules.rs`. Does not own the CA's key: the plan says "sign this for so long", the edge signs. Requests for
//! signers that are not listed here are left to whoever owns them.

mod rules;

use jiff::SignedDuration;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest as Csr, CertificateSigningRequestCondition};
use k8s_openapi::api::core::v1::{Node, Service};

use self::rules::{addresses, claims_only_itself, is_ready, well_formed};
use super::common::{conditions, meta};
use super::{
    Action, Answer, Change, Controller, CsrSubject, Key, KindRef, Name, Part, Plan, Question, Snapshot, View, encode,
};

const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const PROXY_CLIENT: &str = "pintle.dev/kube-proxy-client";
const NODE_PREFIX: &str = "system:node:";
const NODES: &str = "system:nodes";
const BOOTSTRAPPERS: &str = "system:bootstrappers";
/// A year, unless the request asks for less.
const TTL_S: i64 = 365 * 24 * 3600;
/// The least that spec.expirationSeconds may ask for.
const TTL_S_MIN: i64 = 600;

/// Approves what nodes and those about to become nodes may have.
pub struct Approver;
/// Signs what is approved.
pub struct Signer;
/// Removes requests that nobody needs any more.
pub struct Cleaner;

fn csr_keys(change: &Change) -> Vec<Key> {
    let alive = change.key.kind == KindRef::of::<Csr>() && change.new.is_some();
    alive.then(|| change.key.clone()).into_iter().collect()
}

fn has(csr: &Csr, type_: &str) -> bool {
    csr.status.iter().flat_map(|s| s.conditions.iter().flatten()).any(|c| c.type_ == type_)
}

fn is_decided(csr: &Csr) -> bool {
    has(csr, "Approved") || has(csr, "Denied")
}

fn has_certificate(csr: &Csr) -> bool {
    csr.status.as_ref().is_some_and(|s| s.certificate.as_ref().is_some_and(|c| !c.0.is_empty()))
}

fn subject<'a>(csr: &Csr, view: &View<'a>) -> Option<&'a CsrSubject> {
    match view.answers.get(&Question::Csr(csr.spec.request.0.clone())) {
        Some(Answer::Csr(subject)) => subject.as_ref(),
        _ => None,
    }
}

impl Controller for Approver {
    fn name(&self) -> &'static str {
        "certificate-approver"
    }
    fn watches(&self) -> &'static [KindRef] {
        // Services to know their addresses; no change of theirs makes a request worth another look.
        const { &[KindRef::of::<Csr>(), KindRef::of::<Node>(), KindRef::of::<Service>()] }
    }
    fn keys(&self, change: &Change, snapshot: &Snapshot) -> Vec<Key> {
        // A serving certificate may wait for the node to report its addresses, or for another to be gone from them.
        if let Some((old, new)) = change.of::<Node>() {
            let same = old.zip(new).is_some_and(|(o, n)| addresses(o) == addresses(n) && is_ready(o) == is_ready(n));
            let waiting = snapshot.list::<Csr>().filter(|c| !same && !is_decided(c));
            return waiting.map(|c| Key::new(KindRef::of::<Csr>(), Name::new("", meta::name(&c.metadata)))).collect();
        }
        csr_keys(change)
    }
    fn ask(&self, key: &Key, view: &View<'_>) -> Vec<Question> {
        let csr = view.snapshot.get::<Csr>(&key.name).filter(|c| !is_decided(c));
        csr.map(|c| Question::Csr(c.spec.request.0.clone())).into_iter().collect()
    }
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some(csr) = view.snapshot.get::<Csr>(&key.name).filter(|c| !is_decided(c)) else { return plan };
        let Some(subject) = subject(csr, view) else { return plan };
        let Some(message) = approval(csr, subject, view.snapshot) else { return plan };
        let mut approved = csr.clone();
        let condition = condition("Approved", "AutoApproved", message, view);
        approved.status.get_or_insert_default().conditions.get_or_insert_default().push(condition);
        plan.push(Action::Put { kind: KindRef::of::<Csr>(), part: Part::Approval, object: encode(&approved) });
        plan
    }
}

fn condition(type_: &str, reason: &str, message: &str, view: &View<'_>) -> CertificateSigningRequestCondition {
    CertificateSigningRequestCondition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(conditions::time(view.now)),
        last_transition_time: Some(conditions::time(view.now)),
    }
}

fn in_group(csr: &Csr, group: &str) -> bool {
    csr.spec.groups.iter().flatten().any(|g| g == group)
}

/// The node that the requestor is.
fn requesting_node(csr: &Csr) -> Option<&str> {
    csr.spec.username.as_deref()?.strip_prefix(NODE_PREFIX).filter(|_| in_group(csr, NODES))
}

/// Why the request is approved without a person looking; None leaves it for a person.
fn approval(csr: &Csr, subject: &CsrSubject, snapshot: &Snapshot) -> Option<&'static str> {
    well_formed(csr, subject).ok()?;
    match csr.spec.signer_name.as_str() {
        KUBELET_CLIENT if in_group(csr, BOOTSTRAPPERS) => {
            Some("Auto approving kubelet client certificate of a bootstrapper.")
        }
        KUBELET_CLIENT => (csr.spec.username.as_deref() == Some(&subject.common_name) && in_group(csr, NODES))
            .then_some("Auto approving self kubelet client certificate."),
        KUBELET_SERVING => claims_only_itself(csr, subject, snapshot)
            .then_some("Auto approving kubelet serving certificate of the node that asked for it."),
        PROXY_CLIENT => {
            requesting_node(csr)?;
            Some("Auto approving the proxy's client certificate of a node.")
        }
        _ => None,
    }
}

fn is_ours(csr: &Csr) -> bool {
    [KUBELET_CLIENT, KUBELET_SERVING, API_CLIENT, PROXY_CLIENT].contains(&csr.spec.signer_name.as_str())
}

fn to_sign<'a>(key: &Key, view: &View<'a>) -> Option<&'a Csr> {
    let csr = view.snapshot.get::<Csr>(&key.name)?;
    (is_ours(csr) && has(csr, "Approved") && !has(csr, "Denied") && !has(csr, "Failed") && !has_certificate(csr))
        .then_some(csr)
}

impl Controller for Signer {
    fn name(&self) -> &'static str {
        "certificate-signer"
    }
    fn watches(&self) -> &'static [KindRef] {
        const { &[KindRef::of::<Csr>()] }
    }
    fn keys(&self, change: &Change, _snapshot: &Snapshot) -> Vec<Key> {
        csr_keys(change)
    }
    fn ask(&self, key: &Key, view: &View<'_>) -> Vec<Question> {
        to_sign(key, view).map(|c| Question::Csr(c.spec.request.0.clone())).into_iter().collect()
    }
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some(csr) = to_sign(key, view) else { return plan };
        let verdict = match subject(csr, view) {
            Some(subject) => well_formed(csr, subject),
            None => Err("spec.request is not a certificate request signed by its own key".to_owned()),
        };
        match verdict {
            Ok(usage) => {
                let asked_s = csr.spec.expiration_seconds.map_or(TTL_S, i64::from);
                plan.push(Action::Sign { object: encode(csr), ttl_s: asked_s.clamp(TTL_S_MIN, TTL_S), usage });
            }
            Err(why) => {
                let mut failed = csr.clone();
                let condition = condition("Failed", "SignerValidationFailure", &why, view);
                failed.status.get_or_insert_default().conditions.get_or_insert_default().push(condition);
                plan.push(Action::Put { kind: KindRef::of::<Csr>(), part: Part::Status, object: encode(&failed) });
            }
        }
        plan
    }
}

impl Controller for Cleaner {
    fn name(&self) -> &'static str {
        "certificate-cleaner"
    }
    fn watches(&self) -> &'static [KindRef] {
        const { &[KindRef::of::<Csr>()] }
    }
    fn keys(&self, change: &Change, _snapshot: &Snapshot) -> Vec<Key> {
        csr_keys(change)
    }
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some(csr) = view.snapshot.get::<Csr>(&key.name) else { return plan };
        let Some(created) = csr.metadata.creation_timestamp.as_ref() else { return plan };
        // Decided requests serve for an hour, undecided ones for a day.
        let life_h = if is_decided(csr) || has(csr, "Failed") { 1 } else { 24 };
        let end = created.0 + SignedDuration::from_hours(life_h);
        if end <= view.now {
            plan.push(meta::delete(KindRef::of::<Csr>(), &csr.metadata));
        } else {
            plan.wake(end);
        }
        plan
    }
}
