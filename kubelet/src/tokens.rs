//! Service-account tokens of pods: asked for by TokenRequest, bound to the pod.
//!
//! Owns: the requests and the tokens in memory. Does not own: when they are replaced (plan), the files they end in
//! (`volumes`).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use pintle_client::Client;
use pintle_kubelet_plan::containers::{name, namespace, spec, uid};
use pintle_kubelet_plan::tokens::TokenLife;
use pintle_kubelet_plan::volumes::{Projection, TokenAsk, tokens};

use crate::error::chain;

/// Who gives tokens.
pub(crate) trait Issuer {
    /// A token for the pod and the moment at which it ends, if the answer tells it.
    async fn issue(&self, pod: &Pod, ask: &TokenAsk) -> Result<(String, Option<Timestamp>), pintle_client::Error>;
}

/// The tokens of one pod.
#[derive(Default)]
pub(crate) struct Tokens {
    held: BTreeMap<TokenAsk, Held>,
}

struct Held {
    token: String,
    life: TokenLife,
}

impl Tokens {
    /// The tokens a projection needs, asked for if absent or due. One that cannot be replaced serves to its end.
    pub(crate) async fn collect(
        &mut self,
        issuer: &impl Issuer,
        pod: &Pod,
        projection: &Projection,
        now: Timestamp,
    ) -> Result<BTreeMap<TokenAsk, String>, pintle_client::Error> {
        let mut out = BTreeMap::new();
        for ask in tokens(projection) {
            let due = self.held.get(&ask).is_none_or(|h| h.life.is_due(now));
            if due {
                match (issuer.issue(pod, &ask).await, self.held.get_mut(&ask)) {
                    (Ok((token, ends_at)), _) => {
                        let ends_at = ends_at.unwrap_or(now + SignedDuration::from_secs(ask.life_s));
                        let life = TokenLife { given_at: now, ends_at, failed_at: None };
                        self.held.insert(ask.clone(), Held { token, life });
                    }
                    (Err(e), Some(held)) if held.life.is_good(now) => {
                        tracing::warn!(pod = name(pod), error = chain(&e), "cannot replace a token that is due");
                        held.life.failed_at = Some(now);
                    }
                    (Err(e), _) => return Err(e),
                }
            }
            if let Some(held) = self.held.get(&ask) {
                out.insert(ask, held.token.clone());
            }
        }
        Ok(out)
    }

    /// When the first token is to be replaced.
    pub(crate) fn renew_at(&self) -> Option<Timestamp> {
        self.held.values().map(|h| h.life.replace_at().min(h.life.ends_at)).min()
    }
}

impl Issuer for Client {
    async fn issue(&self, pod: &Pod, ask: &TokenAsk) -> Result<(String, Option<Timestamp>), pintle_client::Error> {
        let account = spec(pod).service_account_name.as_deref().filter(|n| !n.is_empty()).unwrap_or("default");
        let body = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: (!ask.audience.is_empty()).then(|| vec![ask.audience.clone()]),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(name(pod).to_owned()),
                    uid: Some(uid(pod).to_owned()),
                }),
                expiration_seconds: Some(ask.life_s),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let answer: TokenRequest =
            self.create_sub::<ServiceAccount, _, _>(namespace(pod), account, "token", &body).await?;
        let status = answer.status.unwrap_or_default();
        Ok((status.token.unwrap_or_default(), status.expiration_timestamp.map(|t| t.0)))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use pintle_kubelet_plan::volumes::{VolumeKind, plan};
    use std::cell::Cell;

    /// Numbers its tokens, and can be away.
    #[derive(Default)]
    struct Numbers {
        given: Cell<u32>,
        away: Cell<bool>,
        now_s: Cell<i64>,
    }

    impl Issuer for Numbers {
        async fn issue(&self, _: &Pod, ask: &TokenAsk) -> Result<(String, Option<Timestamp>), pintle_client::Error> {
            if self.away.get() {
                let path = "/token".to_owned();
                return Err(pintle_client::Error::Timeout { method: "POST".to_owned(), path, timeout_ms: 1 });
            }
            self.given.set(self.given.get() + 1);
            Ok((format!("token {}", self.given.get()), Some(at(self.now_s.get() + ask.life_s))))
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    #[tokio::test]
    async fn a_token_is_replaced_when_it_is_due_and_serves_to_its_end_when_that_fails() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}, "spec": {"containers": [],
            "volumes": [{"name": "v", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}}]}}]}}))
        .unwrap();
        let VolumeKind::Projection(projection) = plan(&pod).unwrap().remove(0).kind else { panic!("no projection") };
        let (issuer, mut held) = (Numbers::default(), Tokens::default());
        // Moment, whether the API server is away; the token that is used, the next moment.
        let table = [
            (0, false, Some("token 1"), 480),
            (479, false, Some("token 1"), 480),
            (480, true, Some("token 1"), 510),
            (509, false, Some("token 1"), 510),
            (510, false, Some("token 2"), 990),
            (990, true, Some("token 2"), 1020),
            (1020, true, Some("token 2"), 1050),
            (1109, true, Some("token 2"), 1110),
            (1110, true, None, 1110),
            (1111, false, Some("token 3"), 1591),
        ];
        for (now_s, away, token, next_s) in table {
            issuer.now_s.set(now_s);
            issuer.away.set(away);
            let got = held.collect(&issuer, &pod, &projection, at(now_s)).await.ok();
            assert_eq!(got.and_then(|t| t.into_values().next()).as_deref(), token, "at {now_s} s");
            assert_eq!(held.renew_at(), Some(at(next_s)), "at {now_s} s");
        }
    }
}
