//! What is wrong with Services, told as Events of `events.k8s.io`, where `kubectl describe` shows it. Best effort, as
//! events are: a full queue or a server that refuses costs an event, never a rule.

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use pintle_client::{Client, reference};
use tokio::sync::mpsc;

/// Events waiting to be sent; more are dropped.
const QUEUE_MAX: usize = 256;
/// The API's limit on a note.
const NOTE_BYTES_MAX: usize = 1024;

/// Where events go.
pub struct Events(mpsc::Sender<Event>);

impl Events {
    /// Starts the sender on the current runtime.
    pub fn start(client: &Client) -> Self {
        let (queue, mut events) = mpsc::channel::<Event>(QUEUE_MAX);
        let client = client.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let Err(error) = client.create(&event).await {
                    tracing::debug!(%error, reason = event.reason, "event dropped");
                }
            }
        });
        Self(queue)
    }

    /// Says something about a Service.
    pub fn warn(&self, node: &str, service: &Service, reason: &str, note: String) {
        let event = event(node, reference(service), reason, note, jiff::Timestamp::now());
        if let Err(error) = self.0.try_send(event) {
            tracing::debug!(%error, reason, "event dropped");
        }
    }
}

/// The name ends in the time in hexadecimal nanoseconds, as every Kubernetes component names its events.
fn event(node: &str, regarding: ObjectReference, reason: &str, mut note: String, at: jiff::Timestamp) -> Event {
    let mut end = note.len().min(NOTE_BYTES_MAX);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note.truncate(end);
    let about = regarding.name.as_deref().unwrap_or("unknown");
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{about}.{:x}", at.as_nanosecond())),
            namespace: regarding.namespace.clone(),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(at)),
        reporting_controller: Some("kube-proxy".into()),
        reporting_instance: Some(node.to_owned()),
        action: Some("Listen".into()),
        reason: Some(reason.to_owned()),
        regarding: Some(regarding),
        note: Some(note),
        type_: Some("Warning".into()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_where_a_character_ends() {
        let made = event("n", ObjectReference::default(), "Bad", "ä".repeat(2000), jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(made.note.map(|n| n.len()), Some(1024));
        assert_eq!(made.metadata.name.as_deref(), Some("unknown.0"));
    }
}
