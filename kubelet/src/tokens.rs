//! Service-account tokens of pods: asked for by TokenRequest, bound to the pod, renewed at 80 % of their life.
//!
//! Owns: the requests and the tokens in memory. Does not own: the files they end in (`volumes`).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use pintle_client::Client;
use pintle_kubelet_plan::containers::{name, namespace, spec, uid};
use pintle_kubelet_plan::volumes::{Projection, TokenAsk, tokens};

/// The tokens of one pod.
#[derive(Default)]
pub(crate) struct Tokens {
    held: BTreeMap<TokenAsk, Held>,
}

struct Held {
    token: String,
    renew_at: Timestamp,
}

impl Tokens {
    /// The tokens a projection needs, asked for if absent or due.
    pub(crate) async fn collect(
        &mut self,
        client: &Client,
        pod: &Pod,
        projection: &Projection,
    ) -> Result<BTreeMap<TokenAsk, String>, pintle_client::Error> {
        let mut out = BTreeMap::new();
        for ask in tokens(projection) {
            let due = self.held.get(&ask).is_none_or(|h| h.renew_at <= Timestamp::now());
            if due {
                let held = request(client, pod, &ask).await?;
                self.held.insert(ask.clone(), held);
            }
            if let Some(held) = self.held.get(&ask) {
                out.insert(ask, held.token.clone());
            }
        }
        Ok(out)
    }

    /// When the first token is to be renewed.
    pub(crate) fn renew_at(&self) -> Option<Timestamp> {
        self.held.values().map(|h| h.renew_at).min()
    }
}

async fn request(client: &Client, pod: &Pod, ask: &TokenAsk) -> Result<Held, pintle_client::Error> {
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
    let asked_at = Timestamp::now();
    let answer: TokenRequest =
        client.create_sub::<ServiceAccount, _, _>(namespace(pod), account, "token", &body).await?;
    let status = answer.status.unwrap_or_default();
    let ends_at = status.expiration_timestamp.map_or(asked_at + SignedDuration::from_secs(ask.life_s), |t| t.0);
    let life = ends_at.duration_since(asked_at).as_secs().max(10);
    Ok(Held { token: status.token.unwrap_or_default(), renew_at: asked_at + SignedDuration::from_secs(life * 8 / 10) })
}
