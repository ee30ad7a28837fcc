//! What each signer demands of a certificate request, and what a node may claim to be.
//!
//! Owns: subjects, names and usages (upstream: "Kubernetes signers" in the documentation of certificates). Does not own:
//! who may approve.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest as Csr;
use k8s_openapi::api::core::v1::{Node, Service};

use super::{API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING, NODE_PREFIX, NODES, PROXY_CLIENT, requesting_node};
use crate::controllers::common::meta;
use crate::controllers::{CsrSubject, KeyUse, Name, Snapshot};

/// First labels of names under which clients look for somebody else: the API server, and their own machine.
const RESERVED_LABELS: [&str; 2] = ["kubernetes", "localhost"];
/// Users and groups that mean something to the cluster itself: system:masters and system:nodes, its own components,
/// ServiceAccounts, joining machines. They have signers of their own, or prove who they are by other means.
const RESERVED: &str = "system:";
/// As whom the API server comes to kubelets, which trust the name.
const API_SERVER_AS_CLIENT: &str = "kube-apiserver-kubelet-client";

/// What each signer demands of the request itself, whoever approved it.
pub(super) fn well_formed(csr: &Csr, subject: &CsrSubject) -> Result<KeyUse, String> {
    let usages: BTreeSet<&str> = csr.spec.usages.iter().flatten().map(String::as_str).collect();
    let allow = |extra: &'static str| {
        let known = ["digital signature", "key encipherment", extra];
        usages.contains(extra) && usages.iter().all(|u| known.contains(u))
    };
    let signs = usages.contains("digital signature");
    let bare = subject.dns_names.is_empty() && subject.addresses.is_empty() && !subject.other_names;
    let is_node = subject.common_name.strip_prefix(NODE_PREFIX).is_some_and(|n| !n.is_empty())
        && subject.organizations == [NODES];
    let demand = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_owned()) };
    match csr.spec.signer_name.as_str() {
        KUBELET_CLIENT => {
            demand(is_node, "the subject must be system:node:<name> of organization system:nodes")?;
            demand(bare, "subject alternative names are not allowed")?;
            demand(allow("client auth") && signs, "usages must be digital signature, client auth, key encipherment")?;
            Ok(KeyUse::Client)
        }
        KUBELET_SERVING => {
            demand(is_node, "the subject must be system:node:<name> of organization system:nodes")?;
            let named = !subject.dns_names.is_empty() || !subject.addresses.is_empty();
            demand(named && !subject.other_names, "subject alternative names must be DNS names or addresses")?;
            demand(allow("server auth") && signs, "usages must be digital signature, server auth, key encipherment")?;
            Ok(KeyUse::Server)
        }
        PROXY_CLIENT => {
            demand(subject.common_name == "system:kube-proxy", "the common name must be system:kube-proxy")?;
            demand(subject.organizations.is_empty() && bare, "organizations and alternative names are not allowed")?;
            demand(allow("client auth"), "usages must be client auth, digital signature, key encipherment")?;
            Ok(KeyUse::Client)
        }
        API_CLIENT => {
            nobody_special(subject)?;
            demand(allow("client auth"), "usages must be client auth, digital signature, key encipherment")?;
            Ok(KeyUse::Client)
        }
        other => Err(format!("signer {other} is not ours")),
    }
}

/// The signer for clients of any kind is for people and programs beside the cluster. Upstream refuses system:masters only
/// and leaves the rest to who approves; a request that has no good reason is easily overlooked among many.
fn nobody_special(subject: &CsrSubject) -> Result<(), String> {
    if let Some(group) = subject.organizations.iter().find(|group| group.starts_with(RESERVED)) {
        return Err(format!("organization {group} is not given by this signer"));
    }
    let name = &subject.common_name;
    if name.is_empty() || name.starts_with(RESERVED) || name == API_SERVER_AS_CLIENT {
        return Err(format!("common name {name:?} is not given by this signer"));
    }
    Ok(())
}

/// A serving certificate may name the node itself and the addresses it reports, nothing else. A node says itself what
/// its addresses are, so those that are known to be another's do not count, nor do names that could be the API server's:
/// one authority signs for both.
pub(super) fn claims_only_itself(csr: &Csr, subject: &CsrSubject, snapshot: &Snapshot) -> bool {
    let Some(name) = requesting_node(csr) else { return false };
    let Some(node) = snapshot.get::<Node>(&Name::new("", name)) else { return false };
    let own = addresses(node);
    let address = |claimed: &String| own.contains(claimed.as_str()) && !is_another_s(claimed, name, snapshot);
    let dns = |claimed: &String| {
        let mine = claimed == name || claimed.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        let first = claimed.split('.').next().unwrap_or_default();
        (mine || own.contains(claimed.as_str())) && !RESERVED_LABELS.contains(&first.to_ascii_lowercase().as_str())
    };
    csr.spec.username.as_deref() == Some(&subject.common_name)
        && subject.dns_names.iter().all(dns)
        && subject.addresses.iter().all(address)
}

/// An address of this machine alone, of a Service, or one at which another node is alive.
fn is_another_s(address: &str, node: &str, snapshot: &Snapshot) -> bool {
    let of_nobody = address.parse::<IpAddr>().map_or(true, |ip| ip.is_loopback() || ip.is_unspecified());
    let of_node = |n: &Node| meta::name(&n.metadata) != node && is_ready(n) && addresses(n).contains(address);
    let of_service = |s: &Service| {
        let spec = s.spec.as_ref();
        spec.is_some_and(|s| s.cluster_ip.iter().chain(s.cluster_ips.iter().flatten()).any(|ip| ip == address))
    };
    of_nobody || snapshot.list::<Node>().any(of_node) || snapshot.list::<Service>().any(of_service)
}

/// Whether a node is alive. A machine that joins again under another name leaves a Node with its address behind.
pub(super) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// What a node says where it is.
pub(super) fn addresses(node: &Node) -> BTreeSet<&str> {
    node.status.iter().flat_map(|s| s.addresses.iter().flatten()).map(|a| a.address.as_str()).collect()
}
