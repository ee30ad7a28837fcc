//! Answers the questions of a plan by asking the API server, or the CSR's own bytes.

use std::net::IpAddr;

use pintle_client::{Client, Error};
use pintle_control_plan::controllers::{Answer, Answers, CsrSubject, KindRef, Question};
use serde::Deserialize;
use serde_json::Value;

use super::apply;
use crate::pki;

/// All answers, or the first failure: what cannot be observed is never taken for absent.
pub(super) async fn all(client: &Client, questions: Vec<Question>) -> Result<Answers, Error> {
    let asked = questions.into_iter().map(|q| async move { Ok::<_, Error>((q.clone(), one(client, &q).await?)) });
    Ok(futures_util::future::try_join_all(asked).await?.into_iter().collect())
}

async fn one(client: &Client, question: &Question) -> Result<Answer, Error> {
    match question {
        Question::Read(key) => match client.get_json::<Value>(&apply::path(key.kind, &key.name, "")).await {
            Ok(object) => Ok(Answer::Object(Some(object))),
            Err(e) if e.is_not_found() => Ok(Answer::Object(None)),
            Err(e) => Err(e),
        },
        Question::Count(kind, namespace) => count(client, *kind, namespace).await.map(Answer::Count),
        Question::Csr(pem) => Ok(Answer::Csr(subject(pem))),
    }
}

/// A page of a list, of which only the length matters.
#[derive(Deserialize)]
struct Page {
    items: Vec<serde::de::IgnoredAny>,
    metadata: PageMeta,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    remaining_item_count: Option<usize>,
}

async fn count(client: &Client, kind: KindRef, namespace: &str) -> Result<usize, Error> {
    let path = format!("{}?limit=1", apply::collection(kind, namespace));
    let page: Page = client.get_json(&path).await?;
    Ok(page.items.len() + page.metadata.remaining_item_count.unwrap_or(0))
}

fn subject(pem: &[u8]) -> Option<CsrSubject> {
    let facts = pki::csr_facts(std::str::from_utf8(pem).ok()?).ok()?;
    let (addresses, dns_names) = facts.names.into_iter().partition(|n| n.parse::<IpAddr>().is_ok());
    Some(CsrSubject {
        common_name: facts.common_name,
        organizations: facts.organizations,
        dns_names,
        addresses,
        other_names: facts.other_names,
    })
}
