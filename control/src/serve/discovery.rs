//! Discovery: `/api`, `/apis` and below, aggregated and legacy. Owns: its documents, made from the registry. Does not
//! own: OpenAPI.

use http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{HeaderMap, StatusCode};
use pintle_control_plan::kind::{Scope, Subresource};
use pintle_control_plan::registry::{DynKind, KINDS};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::answer::{Outcome, json_bytes, typed, whole};
use super::route::{header, ok};

/// Resources that are asked and answered but never stored.
pub struct Virtual {
    /// Group.
    pub group: &'static str,
    /// Plural.
    pub plural: &'static str,
    /// Singular.
    pub singular: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Whether its path lies in a namespace.
    pub namespaced: bool,
}

/// Reviews: created, answered, forgotten. All in version v1.
pub const REVIEWS: &[Virtual] = &[
    Virtual {
        group: "authentication.k8s.io",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        kind: "SelfSubjectReview",
        namespaced: false,
    },
    Virtual {
        group: "authentication.k8s.io",
        plural: "tokenreviews",
        singular: "tokenreview",
        kind: "TokenReview",
        namespaced: false,
    },
    Virtual {
        group: "authorization.k8s.io",
        plural: "localsubjectaccessreviews",
        singular: "localsubjectaccessreview",
        kind: "LocalSubjectAccessReview",
        namespaced: true,
    },
    Virtual {
        group: "authorization.k8s.io",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        kind: "SelfSubjectAccessReview",
        namespaced: false,
    },
    Virtual {
        group: "authorization.k8s.io",
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
        kind: "SelfSubjectRulesReview",
        namespaced: false,
    },
    Virtual {
        group: "authorization.k8s.io",
        plural: "subjectaccessreviews",
        singular: "subjectaccessreview",
        kind: "SubjectAccessReview",
        namespaced: false,
    },
];

/// The word of a subresource in paths.
pub fn subresource_name(sub: Subresource) -> &'static str {
    match sub {
        Subresource::Status => "status",
        Subresource::Scale => "scale",
        Subresource::Log => "log",
        Subresource::Exec => "exec",
        Subresource::Attach => "attach",
        Subresource::PortForward => "portforward",
        Subresource::Eviction => "eviction",
        Subresource::Binding => "binding",
        Subresource::Token => "token",
        Subresource::Approval => "approval",
        Subresource::Finalize => "finalize",
    }
}

/// (group, version, kind) of what a subresource reads and writes, where that is not the object itself; its verbs.
fn subresource_form(sub: Subresource) -> (Option<(&'static str, &'static str, &'static str)>, &'static [&'static str]) {
    const GET_WRITE: &[&str] = &["get", "patch", "update"];
    match sub {
        Subresource::Status | Subresource::Approval => (None, GET_WRITE),
        Subresource::Scale => (Some(("autoscaling", "v1", "Scale")), GET_WRITE),
        Subresource::Log => (None, &["get"]),
        Subresource::Exec => (Some(("", "v1", "PodExecOptions")), &["create", "get"]),
        Subresource::Attach => (Some(("", "v1", "PodAttachOptions")), &["create", "get"]),
        Subresource::PortForward => (Some(("", "v1", "PodPortForwardOptions")), &["create", "get"]),
        Subresource::Eviction => (Some(("policy", "v1", "Eviction")), &["create"]),
        Subresource::Binding => (Some(("", "v1", "Binding")), &["create"]),
        Subresource::Token => (Some(("authentication.k8s.io", "v1", "TokenRequest")), &["create"]),
        Subresource::Finalize => (None, &["update"]),
    }
}

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Groups with their versions, in the order of the registry; the core group is the empty one.
pub fn group_versions() -> Vec<(&'static str, Vec<&'static str>)> {
    let stored = KINDS.iter().map(|kind| (kind.group(), kind.version()));
    let reviews = REVIEWS.iter().map(|review| (review.group, "v1"));
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (group, version) in stored.chain(reviews) {
        let index = groups.iter().position(|(found, _)| *found == group).unwrap_or_else(|| {
            groups.push((group, Vec::new()));
            groups.len() - 1
        });
        if !groups[index].1.contains(&version) {
            groups[index].1.push(version);
        }
    }
    groups
}

/// Answers if the path belongs to discovery.
pub fn answer(path: &str, headers: &HeaderMap) -> Option<Outcome> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let accept = header(headers, &ACCEPT);
    match parts.as_slice() {
        ["api"] => Some(aggregated(accept, headers, true).unwrap_or_else(|| {
            ok(&json!({
                "kind": "APIVersions", "versions": ["v1"],
                "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
            }))
        })),
        ["apis"] => Some(aggregated(accept, headers, false).unwrap_or_else(|| {
            let groups: Vec<Value> =
                group_versions().iter().filter(|(group, _)| !group.is_empty()).map(|(g, v)| api_group(g, v)).collect();
            ok(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        })),
        ["apis", group] => {
            group_versions().iter().find(|(found, _)| found == group && !found.is_empty()).map(|(g, v)| {
                let mut value = api_group(g, v);
                value["kind"] = "APIGroup".into();
                value["apiVersion"] = "v1".into();
                ok(&value)
            })
        }
        ["api", version] => resource_list("", version),
        ["apis", group, version] => resource_list(group, version),
        [] => Some(ok(&json!({"paths": paths()}))),
        _ => None,
    }
}

fn paths() -> Vec<String> {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for (group, versions) in group_versions().iter().filter(|(group, _)| !group.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
    }
    paths.extend(["/healthz", "/livez", "/metrics", "/openapi/v3", "/readyz", "/version"].map(ToOwned::to_owned));
    paths
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn api_group(group: &str, versions: &[&str]) -> Value {
    let version = |version: &&str| json!({"groupVersion": group_version(group, version), "version": version});
    json!({
        "name": group,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    })
}

fn kinds_of<'a>(group: &'a str, version: &'a str) -> impl Iterator<Item = &'static dyn DynKind> + 'a {
    KINDS.iter().copied().filter(move |kind| kind.group() == group && kind.version() == version)
}

fn reviews_of<'a>(group: &'a str, version: &'a str) -> impl Iterator<Item = &'static Virtual> + 'a {
    REVIEWS.iter().filter(move |review| review.group == group && version == "v1")
}

fn resource_list(group: &str, version: &str) -> Option<Outcome> {
    let mut resources = Vec::new();
    for kind in kinds_of(group, version) {
        let namespaced = kind.scope() == Scope::Namespaced;
        let names = kind.names();
        let mut resource = json!({
            "name": kind.plural(), "singularName": names.singular, "namespaced": namespaced, "kind": kind.kind(),
            "verbs": VERBS, "storageVersionHash": "",
        });
        if !names.short.is_empty() {
            resource["shortNames"] = json!(names.short);
        }
        if !names.categories.is_empty() {
            resource["categories"] = json!(names.categories);
        }
        resources.push(resource);
        for sub in kind.subresources() {
            let (form, verbs) = subresource_form(*sub);
            let mut resource = json!({
                "name": format!("{}/{}", kind.plural(), subresource_name(*sub)), "singularName": "",
                "namespaced": namespaced, "kind": form.map_or(kind.kind(), |(_, _, kind)| kind), "verbs": verbs,
            });
            if let Some((group, version, _)) = form {
                resource["group"] = group.into();
                resource["version"] = version.into();
            }
            resources.push(resource);
        }
    }
    for review in reviews_of(group, version) {
        resources.push(json!({
            "name": review.plural, "singularName": review.singular, "namespaced": review.namespaced,
            "kind": review.kind, "verbs": ["create"],
        }));
    }
    if resources.is_empty() {
        return None;
    }
    Some(ok(&json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version(group, version),
        "resources": resources,
    })))
}

/// The aggregated document if the client asks for it, under its entity tag.
fn aggregated(accept: &str, headers: &HeaderMap, core: bool) -> Option<Outcome> {
    let wanted = |version: &str| {
        accept.split(',').any(|clause| {
            let clause: String = clause.split_whitespace().collect();
            clause.contains("g=apidiscovery.k8s.io")
                && clause.contains("as=APIGroupDiscoveryList")
                && clause.split(';').any(|part| part.strip_prefix("v=") == Some(version))
        })
    };
    let (version, content_type) = if wanted("v2") {
        ("v2", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
    } else if wanted("v2beta1") {
        ("v2beta1", "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList")
    } else {
        return None;
    };
    let groups = group_versions();
    let items: Vec<Value> =
        groups.iter().filter(|(group, _)| group.is_empty() == core).map(|(g, v)| group_document(g, v)).collect();
    let document = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {}, "items": items,
    })
    .to_string();
    Some(Ok(tagged(headers, content_type, document)))
}

/// A document with an ETag, or 304 for a client that has it.
pub fn tagged(headers: &HeaderMap, content_type: &'static str, document: String) -> super::answer::Answer {
    let tag = format!("\"{}\"", hex::encode_upper(Sha256::digest(&document)));
    let known = header(headers, &IF_NONE_MATCH);
    let mut answer = if known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag) {
        let mut answer = http::Response::new(whole(""));
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer
    } else if content_type == "application/json" {
        json_bytes(StatusCode::OK, document)
    } else {
        typed(StatusCode::OK, content_type, document)
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    answer
}

fn group_document(group: &str, versions: &[&str]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| {
            let stored = kinds_of(group, version).map(kind_document);
            let reviews = reviews_of(group, version).map(|review| {
                json!({
                    "resource": review.plural, "singularResource": review.singular, "verbs": ["create"],
                    "scope": scope_name(review.namespaced),
                    "responseKind": {"group": group, "version": version, "kind": review.kind},
                })
            });
            json!({"version": version, "freshness": "Current", "resources": stored.chain(reviews).collect::<Vec<_>>()})
        })
        .collect();
    json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions})
}

fn scope_name(namespaced: bool) -> &'static str {
    if namespaced { "Namespaced" } else { "Cluster" }
}

fn kind_document(kind: &'static dyn DynKind) -> Value {
    let names = kind.names();
    let own = || json!({"group": kind.group(), "version": kind.version(), "kind": kind.kind()});
    let subresources: Vec<Value> = kind
        .subresources()
        .iter()
        .map(|sub| {
            let (form, verbs) = subresource_form(*sub);
            let form = form.map_or_else(own, |(g, v, k)| json!({"group": g, "version": v, "kind": k}));
            json!({"subresource": subresource_name(*sub), "responseKind": form, "verbs": verbs})
        })
        .collect();
    let mut document = json!({
        "resource": kind.plural(), "responseKind": own(), "scope": scope_name(kind.scope() == Scope::Namespaced),
        "singularResource": names.singular, "verbs": VERBS,
    });
    if !names.short.is_empty() {
        document["shortNames"] = json!(names.short);
    }
    if !names.categories.is_empty() {
        document["categories"] = json!(names.categories);
    }
    if !subresources.is_empty() {
        document["subresources"] = subresources.into();
    }
    document
}
