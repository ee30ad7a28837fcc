//! Sends the writes of a plan, in order, and tells what the caches must show afterwards.
//!
//! Neighbours of one sort do not depend on each other: they are sent together, creations in growing batches (1, 2, 4 …)
//! so that a quota or a broken webhook refuses one pod and not five hundred.

use http::Method;
use k8s_openapi::api::core::v1::ObjectReference;
use pintle_client::{Client, Error, EventRecorder, Level};
use pintle_control_plan::controllers::{About, Action, Key, KeyUse, KindRef, Name, Note, NoteKind, Part, Write};
use serde::Deserialize;
use serde_json::{Value, json};

use super::queue::Hold;
use crate::pki::{Authority, Purpose};

/// Requests of one plan under way at a time.
const PARALLEL: usize = 32;

/// Path of a collection in one namespace.
pub(super) fn collection(kind: KindRef, namespace: &str) -> String {
    let group = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
    let place = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
    format!("{group}/{}{place}/{}", kind.version, kind.plural)
}

/// Path of an object or, with a segment, of something below it.
pub(super) fn path(kind: KindRef, name: &Name, below: &str) -> String {
    let slash = if below.is_empty() { "" } else { "/" };
    format!("{}/{}{slash}{below}", collection(kind, &name.namespace), name.name)
}

/// What became of a plan's writes.
pub(super) struct Applied {
    /// What the caches must show before the key is planned again; also after a failure.
    pub holds: Vec<Hold>,
    /// The first failure.
    pub failure: Option<Failure>,
}

/// A request that was refused.
pub(super) struct Failure {
    /// The server's words.
    pub message: String,
    /// The plan was made from something older than what the server has: plan again, nobody need know.
    pub is_stale: bool,
}

/// The hands of one controller.
#[derive(Clone, Copy)]
pub(super) struct Hands<'a> {
    pub client: &'a Client,
    pub recorder: &'a EventRecorder,
    pub authority: Option<&'a Authority>,
}

impl Hands<'_> {
    /// Applies all writes; stops after the group in which one failed.
    pub async fn apply(&self, writes: &[Write]) -> Applied {
        let mut applied = Applied { holds: Vec::new(), failure: None };
        for group in writes.chunk_by(|a, b| are_independent(&a.action, &b.action)) {
            let mut rest = group;
            let mut batch = if matches!(group[0].action, Action::Create { .. }) { 1 } else { PARALLEL };
            while !rest.is_empty() && applied.failure.is_none() {
                let (now, later) = rest.split_at(batch.min(rest.len()));
                self.together(now, &mut applied).await;
                (rest, batch) = (later, batch.saturating_mul(2));
            }
        }
        applied
    }

    async fn together(&self, writes: &[Write], applied: &mut Applied) {
        let results = futures_util::future::join_all(writes.iter().map(|w| self.send(&w.action))).await;
        for (write, result) in writes.iter().zip(results) {
            match result {
                Ok(answer) => {
                    applied.holds.extend(hold(&write.action, &answer));
                    let name = answer.metadata.name.as_str();
                    self.note(write.done.as_ref(), &[("{name}", name)]);
                }
                Err(error) => {
                    let message = error.to_string();
                    tracing::debug!(action = ?write.action, %error, "a controller's write was refused");
                    self.note(write.failed.as_ref(), &[("{error}", &message)]);
                    let is_stale = error.is_conflict() || error.is_not_found() || error.is_already_exists();
                    applied.failure.get_or_insert(Failure { message, is_stale });
                }
            }
        }
    }

    /// Records an Event.
    pub fn note(&self, note: Option<&Note>, words: &[(&str, &str)]) {
        let Some(note) = note else { return };
        let message = words.iter().fold(note.message.clone(), |m, (what, with)| m.replace(what, with));
        let level = match note.kind {
            NoteKind::Normal => Level::Normal,
            NoteKind::Warning => Level::Warning,
        };
        self.recorder.record(&reference(&note.about), level, note.reason, message);
    }

    async fn send(&self, action: &Action) -> Result<Answer, Error> {
        match action {
            Action::Create { kind, object } => {
                let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
                self.json(Method::POST, collection(*kind, namespace), object).await
            }
            Action::Put { kind, part, object } => {
                self.json(Method::PUT, path(*kind, &name(object), part.segment()), object).await
            }
            Action::Patch { kind, name, part, patch } => {
                let body = body(patch);
                let path = path(*kind, name, part.segment());
                let bytes = self.client.raw(Method::PATCH, &path, "application/merge-patch+json", body).await?;
                Ok(Answer::read(&bytes))
            }
            Action::Delete { kind, name, .. } => {
                match self.json(Method::DELETE, path(*kind, name, ""), &delete_options(action)).await {
                    Err(e) if e.is_not_found() => Ok(Answer::default()),
                    other => other,
                }
            }
            Action::DeleteAll { kind, namespace } => {
                let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
                self.json(Method::DELETE, collection(*kind, namespace), &options).await.map(|_| Answer::default())
            }
            Action::Bind { name, uid, node } => {
                let pods = KindRef::of::<k8s_openapi::api::core::v1::Pod>();
                self.json(Method::POST, path(pods, name, "binding"), &binding(name, uid, node)).await
            }
            Action::Sign { object, ttl_s, usage } => self.sign(object, *ttl_s, *usage).await,
        }
    }

    async fn json(&self, method: Method, path: String, object: &Value) -> Result<Answer, Error> {
        let bytes = self.client.raw(method, &path, "application/json", body(object)).await?;
        Ok(Answer::read(&bytes))
    }

    async fn sign(&self, object: &Value, ttl_s: i64, usage: KeyUse) -> Result<Answer, Error> {
        let signed = sign(self.authority, object, ttl_s, usage);
        let mut object = object.clone();
        match signed {
            Ok(pem) => object["status"]["certificate"] = json!(base64_of(pem.as_bytes())),
            Err(why) => {
                let failed = json!({"type": "Failed", "status": "True", "reason": "SignerFailure", "message": why});
                match object["status"]["conditions"].as_array_mut() {
                    Some(list) => list.push(failed),
                    None => object["status"]["conditions"] = json!([failed]),
                }
            }
        }
        let kind = KindRef::of::<k8s_openapi::api::certificates::v1::CertificateSigningRequest>();
        self.json(Method::PUT, path(kind, &name(&object), Part::Status.segment()), &object).await
    }
}

/// The certificate in PEM, or why there is none.
fn sign(authority: Option<&Authority>, object: &Value, ttl_s: i64, usage: KeyUse) -> Result<String, String> {
    use base64::Engine;
    let authority = authority.ok_or("this process has no authority to sign with")?;
    let encoded = object["spec"]["request"].as_str().unwrap_or_default();
    let pem = base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|e| e.to_string())?;
    let pem = String::from_utf8(pem).map_err(|e| e.to_string())?;
    let purpose = match usage {
        KeyUse::Client => Purpose::Client,
        KeyUse::Server => Purpose::Server,
    };
    let now_s = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    let life_s = u64::try_from(ttl_s).unwrap_or(0);
    authority.sign_csr(&pem, purpose, now_s, life_s).map_err(|e| e.to_string())
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Writes to different objects of one sort; a put may depend on the one before it.
fn are_independent(a: &Action, b: &Action) -> bool {
    !matches!(a, Action::Put { .. }) && std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn body(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a JSON value encodes")
}

fn name(object: &Value) -> Name {
    let word = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    Name::new(word("namespace"), word("name"))
}

fn delete_options(action: &Action) -> Value {
    let Action::Delete { uid, resource_version, grace_s, propagation, .. } = action else { return json!({}) };
    let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
    if let Some(revision) = resource_version {
        options["preconditions"]["resourceVersion"] = json!(revision);
    }
    if let Some(grace_s) = grace_s {
        options["gracePeriodSeconds"] = json!(grace_s);
    }
    if let Some(propagation) = propagation {
        options["propagationPolicy"] = json!(propagation.as_str());
    }
    options
}

fn binding(name: &Name, uid: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"namespace": name.namespace, "name": name.name, "uid": uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    })
}

fn reference(about: &About) -> ObjectReference {
    ObjectReference {
        api_version: Some(about.kind.api_version()),
        kind: Some(about.kind.kind.to_owned()),
        namespace: Some(about.name.namespace.clone()).filter(|n| !n.is_empty()),
        name: Some(about.name.name.clone()),
        uid: Some(about.uid.clone()),
        resource_version: Some(about.resource_version.clone()).filter(|v| !v.is_empty()),
        field_path: None,
    }
}

/// What matters of an answer: an object, or a Status.
#[derive(Deserialize, Default)]
struct Answer {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: AnswerMeta,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct AnswerMeta {
    #[serde(default)]
    name: String,
    #[serde(default)]
    resource_version: String,
}

impl Answer {
    /// An answer that cannot be read says nothing: the caches will.
    fn read(bytes: &[u8]) -> Answer {
        serde_json::from_slice(bytes).unwrap_or_default()
    }
}

fn hold(action: &Action, answer: &Answer) -> Option<Hold> {
    match action {
        Action::Create { kind, .. } | Action::Put { kind, .. } | Action::Patch { kind, .. } => {
            (answer.kind == kind.kind).then(|| revision(*kind, answer)).flatten()
        }
        Action::Sign { .. } => {
            revision(KindRef::of::<k8s_openapi::api::certificates::v1::CertificateSigningRequest>(), answer)
        }
        Action::Delete { kind, name, uid, .. } => Some(Hold::Gone(Key::new(*kind, name.clone()), uid.clone())),
        // A binding answers with a Status: the scheduler waits for the pod itself.
        Action::Bind { name, uid, .. } => Some(Hold::Bound(name.clone(), uid.clone())),
        Action::DeleteAll { .. } => None,
    }
}

fn revision(kind: KindRef, answer: &Answer) -> Option<Hold> {
    answer.metadata.resource_version.parse().ok().map(|r| Hold::Revision(kind, r))
}
