//! Join tokens as Secrets of the API: how kubeadm and the bootstrap authenticator keep them.

use anyhow::{Context as _, Result};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use pintle_control::pki::BootstrapToken;
use std::collections::BTreeMap;

/// `type` of such a Secret.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// Where they live.
pub const NAMESPACE: &str = "kube-system";

/// A new token from the system's randomness.
pub fn generate() -> Result<BootstrapToken> {
    use ring::rand::SecureRandom as _;
    let source = ring::rand::SystemRandom::new();
    let mut failed = false;
    let token = BootstrapToken::generate(|bytes| failed |= source.fill(bytes).is_err());
    anyhow::ensure!(!failed, "the system gives no random numbers");
    Ok(token)
}

/// The Secret of a token that joins nodes, until `expires` (RFC 3339) if given.
pub fn secret(token: &BootstrapToken, description: &str, expires: Option<jiff::Timestamp>) -> Secret {
    let mut data = BTreeMap::new();
    let mut put = |key: &str, value: String| data.insert(key.to_owned(), ByteString(value.into_bytes()));
    put("token-id", token.id.clone());
    put("token-secret", token.secret.clone());
    put("usage-bootstrap-authentication", "true".into());
    put("auth-extra-groups", "system:bootstrappers:kubeadm:default-node-token".into());
    if !description.is_empty() {
        put("description", description.into());
    }
    if let Some(expires) = expires {
        put("expiration", expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    }
    let mut secret = Secret { type_: Some(SECRET_TYPE.into()), data: Some(data), ..Secret::default() };
    secret.metadata.name = Some(format!("bootstrap-token-{}", token.id));
    secret.metadata.namespace = Some(NAMESPACE.into());
    secret
}

/// One line about a token: id, when it ends, description. Never the secret half.
pub fn line(secret: &Secret) -> String {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|d| d.get(key));
        bytes.map(|b| String::from_utf8_lossy(&b.0).into_owned()).unwrap_or_default()
    };
    let expires = Some(text("expiration")).filter(|e| !e.is_empty()).unwrap_or_else(|| "never".into());
    format!("{:<8} {:<22} {}", text("token-id"), expires, text("description")).trim_end().to_owned()
}

/// A life in the form `24h`, `30m`, `90s`, `7d`; `0` is for ever.
pub fn ttl(text: &str) -> Result<Option<jiff::SignedDuration>> {
    if text == "0" {
        return Ok(None);
    }
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let number: i64 = number.parse().with_context(|| format!("{text:?} is not a duration such as 24h"))?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => anyhow::bail!("{text:?} is not a duration such as 24h"),
    };
    Ok(Some(jiff::SignedDuration::from_secs(number * seconds)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_token_s_line_tells_its_end_and_never_its_secret() {
        let token: BootstrapToken = "abcdef.0123456789abcdef".parse().unwrap();
        let end = "2026-01-02T03:04:05Z".parse().unwrap();
        let line = line(&secret(&token, "rack 7", Some(end)));
        assert_eq!(line, "abcdef   2026-01-02T03:04:05Z   rack 7");
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(ttl("24h").unwrap().unwrap().as_secs(), 86_400);
        assert_eq!(ttl("0").unwrap(), None);
        for bad in ["", "h", "5", "5x", "five"] {
            assert!(ttl(bad).is_err(), "{bad:?}");
        }
    }
}
