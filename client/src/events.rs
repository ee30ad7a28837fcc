//! Records what happened to an object as v1 Events, repeated ones as a count.
//!
//! Recording never blocks and never fails a caller: events are best-effort (the API's own rule), and are dropped with
//! a debug line when the queue is full or the server refuses.

use crate::{Client, Error, Object, Patch};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;
use std::collections::HashMap;
use tokio::sync::mpsc;

/// Events waiting to be sent.
const QUEUE_MAX: usize = 1024;
/// Events remembered for counting; the oldest are forgotten first.
const REMEMBERED_MAX: usize = 512;

/// `type` of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// `Normal`.
    Normal,
    /// `Warning`.
    Warning,
}

/// Where events go. Clones share one queue; it is drained when the last clone is dropped.
#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<Happening>,
}

#[derive(Debug, Clone)]
struct Happening {
    about: ObjectReference,
    level: Level,
    reason: String,
    message: String,
    at: jiff::Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Sameness {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    field_path: Option<String>,
    level: Level,
    reason: String,
    message: String,
}

/// An event that exists on the server.
struct Sent {
    namespace: String,
    name: String,
    count: i32,
    last: jiff::Timestamp,
}

/// An ObjectReference to an object, as `involvedObject` wants it.
pub fn reference<K: Object>(object: &K) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

impl EventRecorder {
    /// Starts the sender on the current runtime. `component` and `host` become `source`; `host` may be empty.
    pub fn start(client: &Client, component: &str, host: &str) -> Self {
        let (queue, happenings) = mpsc::channel(QUEUE_MAX);
        let sender = Sender {
            client: client.clone(),
            component: component.to_owned(),
            host: (!host.is_empty()).then(|| host.to_owned()),
            sent: HashMap::new(),
        };
        tokio::spawn(sender.run(happenings));
        Self { queue }
    }

    /// Records that something happened to the object `about`.
    pub fn record(&self, about: &ObjectReference, level: Level, reason: &str, message: impl Into<String>) {
        let happening = Happening {
            about: about.clone(),
            level,
            reason: reason.to_owned(),
            message: message.into(),
            at: jiff::Timestamp::now(),
        };
        if let Err(e) = self.queue.try_send(happening) {
            tracing::debug!(reason, error = %e, "event dropped");
        }
    }
}

struct Sender {
    client: Client,
    component: String,
    host: Option<String>,
    sent: HashMap<Sameness, Sent>,
}

impl Sender {
    async fn run(mut self, mut happenings: mpsc::Receiver<Happening>) {
        while let Some(happening) = happenings.recv().await {
            if let Err(error) = self.send(&happening).await {
                tracing::debug!(reason = happening.reason, %error, "event dropped");
            }
        }
    }

    async fn send(&mut self, happening: &Happening) -> Result<(), Error> {
        let key = sameness(happening);
        if let Some(sent) = self.sent.get_mut(&key) {
            let patch = Patch::Merge(json!({"count": sent.count + 1, "lastTimestamp": Time(happening.at)}));
            match self.client.patch::<Event>(&sent.namespace, &sent.name, &patch).await {
                Ok(_) => {
                    sent.count += 1;
                    sent.last = happening.at;
                    return Ok(());
                }
                // Expired or deleted: begin a new one.
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e),
            }
        }
        let event = self.client.create(&event(happening, &self.component, self.host.as_deref())).await?;
        self.forget_oldest();
        let (namespace, name) = (event.metadata.namespace.unwrap_or_default(), event.metadata.name.unwrap_or_default());
        self.sent.insert(key, Sent { namespace, name, count: 1, last: happening.at });
        Ok(())
    }

    fn forget_oldest(&mut self) {
        if self.sent.len() < REMEMBERED_MAX {
            return;
        }
        let mut times: Vec<_> = self.sent.values().map(|s| s.last).collect();
        times.sort_unstable();
        let median = times[times.len() / 2];
        self.sent.retain(|_, s| s.last > median);
    }
}

fn sameness(happening: &Happening) -> Sameness {
    let about = &happening.about;
    Sameness {
        kind: about.kind.clone(),
        namespace: about.namespace.clone(),
        name: about.name.clone(),
        uid: about.uid.clone(),
        field_path: about.field_path.clone(),
        level: happening.level,
        reason: happening.reason.clone(),
        message: happening.message.clone(),
    }
}

/// The object to create. Events of cluster-scoped objects live in `default`; the name ends in the time in hexadecimal
/// nanoseconds, as every Kubernetes component names them.
fn event(happening: &Happening, component: &str, host: Option<&str>) -> Event {
    let namespace = happening.about.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".into());
    let about = happening.about.name.as_deref().unwrap_or("unknown");
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{about}.{:x}", happening.at.as_nanosecond())),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        involved_object: happening.about.clone(),
        reason: Some(happening.reason.clone()),
        message: Some(happening.message.clone()),
        type_: Some(match happening.level {
            Level::Normal => "Normal".into(),
            Level::Warning => "Warning".into(),
        }),
        count: Some(1),
        first_timestamp: Some(Time(happening.at)),
        last_timestamp: Some(Time(happening.at)),
        source: Some(EventSource { component: Some(component.into()), host: host.map(Into::into) }),
        reporting_component: Some(component.into()),
        reporting_instance: host.map(Into::into),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Node;

    #[test]
    fn an_event_about_a_node_lives_in_the_default_namespace_and_names_the_node() {
        let mut node = Node::default();
        node.metadata.name = Some("n1".into());
        let happening = Happening {
            about: reference(&node),
            level: Level::Warning,
            reason: "Full".into(),
            message: "disk".into(),
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let event = event(&happening, "kubelet", Some("n1"));
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(event.metadata.name.as_deref(), Some("n1.0"));
        assert_eq!(event.involved_object.kind.as_deref(), Some("Node"));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
    }
}
