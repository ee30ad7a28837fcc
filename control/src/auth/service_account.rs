//! ServiceAccount tokens. Owns: their claims, in upstream's form, and when one proves something: while it has not
//! expired and the account, and the object it is bound to, still exist with the same uid. Does not own: signatures.

use jiff::Timestamp;
use pintle_control_plan::authz::User;
use pintle_control_plan::registry;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::pki::TokenVerifier;
use crate::serve::{Api, object};

/// Who issues tokens.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Whom a token is for if nobody else is named: this API server.
pub const AUDIENCE: &str = ISSUER;
const NAME_KEY: &str = "authentication.kubernetes.io/pod-name";
const UID_KEY: &str = "authentication.kubernetes.io/pod-uid";
const NODE_KEY: &str = "authentication.kubernetes.io/node-name";
const ID_KEY: &str = "authentication.kubernetes.io/credential-id";

/// Whom a token speaks for.
#[derive(Debug, Clone)]
pub struct TokenSubject<'a> {
    /// Of the account.
    pub namespace: &'a str,
    /// Of the account.
    pub name: &'a str,
    /// Of the account.
    pub uid: &'a str,
    /// (kind, name, uid) of the Pod or Secret whose end is the token's end.
    pub bound: Option<(&'a str, &'a str, &'a str)>,
    /// The bound pod's node.
    pub node: Option<(&'a str, &'a str)>,
}

/// A token's claims. `id` is its unique name.
pub fn claims(subject: &TokenSubject<'_>, audiences: &[String], now: Timestamp, life_s: i64, id: &str) -> Value {
    let mut private = json!({
        "namespace": subject.namespace,
        "serviceaccount": {"name": subject.name, "uid": subject.uid},
    });
    if let Some((kind, name, uid)) = subject.bound {
        private[kind.to_ascii_lowercase()] = json!({"name": name, "uid": uid});
    }
    if let Some((name, uid)) = subject.node {
        private["node"] = json!({"name": name, "uid": uid});
    }
    json!({
        "iss": ISSUER, "aud": audiences, "jti": id,
        "sub": format!("system:serviceaccount:{}:{}", subject.namespace, subject.name),
        "iat": now.as_second(), "nbf": now.as_second(), "exp": now.as_second() + life_s,
        "kubernetes.io": private,
    })
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(default)]
    aud: Vec<String>,
    exp: i64,
    #[serde(default)]
    nbf: i64,
    #[serde(default)]
    jti: String,
    #[serde(rename = "kubernetes.io")]
    private: Private,
}

#[derive(Deserialize)]
struct Private {
    namespace: String,
    serviceaccount: Named,
    pod: Option<Named>,
    secret: Option<Named>,
    node: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    uid: String,
}

pub(super) fn user(api: &Api, verifier: &TokenVerifier, token: &str, audiences: &[&str]) -> Option<User> {
    let claims: Claims = serde_json::from_value(verifier.verify(token).ok()?).ok()?;
    if !valid(&claims, audiences, (api.clock)()) {
        return None;
    }
    let private = &claims.private;
    let namespace = &private.namespace;
    let exists = |kind: &str, named: &Named| uid_of(api, kind, namespace, &named.name).as_deref() == Some(&*named.uid);
    let alive = exists("ServiceAccount", &private.serviceaccount)
        && private.pod.as_ref().is_none_or(|pod| exists("Pod", pod))
        && private.secret.as_ref().is_none_or(|secret| exists("Secret", secret));
    alive.then(|| whom(&claims))
}

fn valid(claims: &Claims, audiences: &[&str], now: Timestamp) -> bool {
    let now_s = now.as_second();
    claims.iss == ISSUER
        && claims.nbf <= now_s
        && now_s < claims.exp
        && claims.aud.iter().any(|audience| audiences.contains(&audience.as_str()))
}

fn whom(claims: &Claims) -> User {
    let Private { namespace, serviceaccount, pod, node, .. } = &claims.private;
    let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    let name = format!("system:serviceaccount:{namespace}:{}", serviceaccount.name);
    let mut user = User::authenticated(name, groups);
    user.uid.clone_from(&serviceaccount.uid);
    let mut extra = |key: &str, value: &str| drop(user.extra.insert(key.to_owned(), vec![value.to_owned()]));
    if let Some(pod) = pod {
        extra(NAME_KEY, &pod.name);
        extra(UID_KEY, &pod.uid);
    }
    if let Some(node) = node {
        extra(NODE_KEY, &node.name);
    }
    if !claims.jti.is_empty() {
        extra(ID_KEY, &format!("JTI={}", claims.jti));
    }
    user
}

fn uid_of(api: &Api, kind: &str, namespace: &str, name: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        uid: String,
    }
    let kind = registry::by_kind("v1", kind)?;
    let entry = api.store.get(&object::key(kind, namespace, name))?;
    serde_json::from_slice::<Object>(&entry.bytes).ok().map(|object| object.metadata.uid)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn claims_name_account_pod_and_node_and_read_back() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let subject = TokenSubject {
            namespace: "a",
            name: "web",
            uid: "u1",
            bound: Some(("Pod", "web-1", "u2")),
            node: Some(("n1", "u3")),
        };
        let value = claims(&subject, &["x".to_owned(), AUDIENCE.to_owned()], now, 600, "id");
        let read: Claims = serde_json::from_value(value).unwrap();
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        assert!(valid(&read, &[AUDIENCE], now) && valid(&read, &["x"], at(599)));
        assert!(!valid(&read, &[AUDIENCE], at(600)) && !valid(&read, &["y"], now) && !valid(&read, &["x"], at(-1)));
        let user = whom(&read);
        assert_eq!(user.name, "system:serviceaccount:a:web");
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]);
        assert_eq!(user.extra[NODE_KEY], ["n1"]);
    }
}
