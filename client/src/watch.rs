//! The wire form of a watch: one JSON document per line, decoded into events. Pure; the reader is in `cache.rs`.

use crate::Error;
use bytes::{Buf as _, BytesMut};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Marks the bookmark that ends the initial events of `sendInitialEvents=true` (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// One event of a watch.
#[derive(Debug)]
pub(crate) enum Event<K> {
    /// `ADDED` or `MODIFIED`.
    Applied(K),
    /// `DELETED`, with the object's last state.
    Deleted(K),
    /// `BOOKMARK`: everything up to this revision was delivered.
    Bookmark { resource_version: String, initial_events_end: bool },
    /// `ERROR`.
    Error(Box<Status>),
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct MetadataOnly {
    #[serde(default)]
    metadata: ObjectMeta,
}

/// Bytes that came and are not yet events.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    buffer: BytesMut,
    /// How much of `buffer` is known to hold no newline.
    scanned: usize,
}

impl Lines {
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next complete event.
    pub(crate) fn next<K: DeserializeOwned>(&mut self) -> Option<Result<Event<K>, Error>> {
        loop {
            let Some(at) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') else {
                self.scanned = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.scanned + at);
            self.buffer.advance(1);
            self.scanned = 0;
            if !line.trim_ascii().is_empty() {
                return Some(event(&line));
            }
        }
    }
}

fn event<K: DeserializeOwned>(line: &[u8]) -> Result<Event<K>, Error> {
    let bad = |source| Error::Decode { what: "watch event".to_owned(), source };
    let raw: RawEvent<'_> = serde_json::from_slice(line).map_err(bad)?;
    let object = raw.object.get();
    match raw.kind.as_ref() {
        "ADDED" | "MODIFIED" => serde_json::from_str(object).map(Event::Applied).map_err(bad),
        "DELETED" => serde_json::from_str(object).map(Event::Deleted).map_err(bad),
        "BOOKMARK" => {
            let meta = serde_json::from_str::<MetadataOnly>(object).map_err(bad)?.metadata;
            Ok(Event::Bookmark {
                resource_version: meta.resource_version.unwrap_or_default(),
                initial_events_end: meta
                    .annotations
                    .is_some_and(|a| a.get(INITIAL_EVENTS_END).is_some_and(|v| v == "true")),
            })
        }
        "ERROR" => serde_json::from_str(object).map(|s| Event::Error(Box::new(s))).map_err(bad),
        other => Err(bad(serde::de::Error::custom(format!("unknown event type {other:?}")))),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::PartialObject;

    fn told(lines: &mut Lines) -> Vec<String> {
        std::iter::from_fn(|| lines.next::<PartialObject>())
            .map(|e| match e {
                Ok(Event::Applied(o)) => format!("applied {}", o.metadata.name.unwrap()),
                Ok(Event::Deleted(o)) => format!("deleted {}", o.metadata.name.unwrap()),
                Ok(Event::Bookmark { resource_version, initial_events_end }) => {
                    format!("bookmark {resource_version} {initial_events_end}")
                }
                Ok(Event::Error(s)) => format!("error {}", s.code.unwrap()),
                Err(e) => format!("bad: {e}"),
            })
            .collect()
    }

    #[test]
    fn events_are_found_however_the_bytes_are_cut() {
        let text = concat!(
            r#"{"type":"ADDED","object":{"metadata":{"name":"a"}}}"#,
            "\n",
            r#"{"type":"DELETED","object":{"metadata":{"name":"b"}}}"#,
            "\n\n",
            r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7","annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
            "\n",
            r#"{"type":"ERROR","object":{"kind":"Status","code":410}}"#,
            "\n",
            r#"{"type":"ADD"#
        );
        for step in [1, 2, 7, 64, text.len()] {
            let mut lines = Lines::default();
            let mut all = Vec::new();
            for chunk in text.as_bytes().chunks(step) {
                lines.push(chunk);
                all.extend(told(&mut lines));
            }
            assert_eq!(all, ["applied a", "deleted b", "bookmark 7 true", "error 410"], "chunks of {step}");
        }
    }

    #[test]
    fn a_line_that_is_not_an_event_is_an_error_not_a_silence() {
        let mut lines = Lines::default();
        lines.push(b"{\"type\":\"NEW\",\"object\":{}}\nnonsense\n");
        let told = told(&mut lines);
        assert_eq!(told.len(), 2);
        assert!(told.iter().all(|t| t.starts_with("bad: ")), "{told:?}");
    }
}
