//! Bootstrap tokens: Secrets `kube-system/bootstrap-token-<id>` of type `bootstrap.kubernetes.io/token`. Owns: when one
//! proves something. Does not own: making them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use pintle_control_plan::authz::{BOOTSTRAPPERS, User};
use ring::digest::{SHA256, digest};

use crate::pki::BootstrapToken;
use crate::serve::Api;

/// The type of such Secrets.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";

pub(super) fn user(api: &Api, token: &str) -> Option<User> {
    let token: BootstrapToken = token.parse().ok()?;
    let secret: Secret = api.find("v1", "Secret", "kube-system", &format!("bootstrap-token-{}", token.id))?;
    decide(&secret, &token, (api.clock)())
}

fn decide(secret: &Secret, token: &BootstrapToken, now: Timestamp) -> Option<User> {
    let data = |name: &str| {
        let bytes = &secret.data.as_ref()?.get(name)?.0;
        std::str::from_utf8(bytes).ok()
    };
    let usable = secret.type_.as_deref() == Some(SECRET_TYPE)
        && secret.metadata.deletion_timestamp.is_none()
        && data("token-id") == Some(&token.id)
        && data("token-secret").is_some_and(|kept| same(kept, &token.secret))
        && data("usage-bootstrap-authentication") == Some("true");
    if !usable {
        return None;
    }
    // A token without an end lives for ever; one with an unreadable end does not live at all.
    if let Some(end) = data("expiration")
        && end.parse::<Timestamp>().ok().is_none_or(|end| end <= now)
    {
        return None;
    }
    let extra = data("auth-extra-groups").unwrap_or_default().split(',').map(str::trim);
    // Only groups below the bootstrappers': a Secret is no way to become anybody else.
    let extra = extra.filter(|group| group.starts_with("system:bootstrappers:")).map(ToOwned::to_owned);
    let groups = [BOOTSTRAPPERS.to_owned()].into_iter().chain(extra);
    Some(User::authenticated(format!("system:bootstrap:{}", token.id), groups))
}

/// Compares in a time that says nothing about where two texts differ.
fn same(left: &str, right: &str) -> bool {
    digest(&SHA256, left.as_bytes()).as_ref() == digest(&SHA256, right.as_bytes()).as_ref()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn secret(changes: &[(&str, &str)]) -> Secret {
        let mut secret: Secret = serde_json::from_value(serde_json::json!({
            "type": SECRET_TYPE,
            "data": {},
        }))
        .unwrap();
        let pairs = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            ("auth-extra-groups", "system:bootstrappers:nodes,system:masters"),
        ];
        let data = secret.data.get_or_insert_default();
        for (key, value) in pairs.iter().chain(changes) {
            data.insert((*key).to_owned(), k8s_openapi::ByteString(value.as_bytes().to_vec()));
        }
        secret
    }

    #[test]
    fn a_token_proves_something_while_it_lives_and_its_secret_matches() {
        let token: BootstrapToken = "abcdef.0123456789abcdef".parse().unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let ask = |changes: &[(&str, &str)]| decide(&secret(changes), &token, now);
        let user = ask(&[]).unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(user.groups, ["system:bootstrappers", "system:bootstrappers:nodes", "system:authenticated"]);
        assert!(ask(&[("expiration", "2030-01-01T00:00:00Z")]).is_some());
        assert_eq!(ask(&[("expiration", "2020-01-01T00:00:00Z")]), None);
        assert_eq!(ask(&[("expiration", "soon")]), None);
        assert_eq!(ask(&[("token-secret", "another")]), None);
        assert_eq!(ask(&[("usage-bootstrap-authentication", "false")]), None);
    }
}
