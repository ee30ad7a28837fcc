//! watch. Owns: the stream of one client: initial events, selector transitions, bookmarks, its end. Does not own: the
//! events' order and completeness (the store's).
//!
//! ```text
//! initial objects (ADDED…) ─► initial-events-end bookmark, if asked ─► events and minutely bookmarks ─► end
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use pintle_api::status;
use pintle_control_plan::kind::Scope;
use pintle_store::{Entry, Event, Revision, Watch};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Api;
use super::answer::{Failure, Outcome, with_body};
use super::call::Call;
use super::filter::Filter;
use super::object::{decode, key, prefix};
use super::read::{self, read_failure, revision, selected};
use super::shape::Former;

/// How often an otherwise silent client learns the revision (upstream: about a minute).
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a watch lasts that does not say (upstream: half an hour to an hour).
const LIFE_S: std::ops::Range<u64> = 1800..3600;
/// Events are gathered into pieces of about this size.
const CHUNK_BYTES: usize = 32 << 10;

/// Starts a watch.
///
/// # Errors
/// 400 for malformed parameters, 410 for a compacted revision.
pub fn watch(api: &Arc<Api>, call: &Call) -> Outcome {
    let former = read::former(api, call)?;
    let filter = Filter::parse(call.kind, &call.query)?;
    let start = start(api, call, &filter)?;
    let life_s = match call.query.number("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => seconds.unsigned_abs(),
        _ => rand::random_range(LIFE_S),
    };
    let bookmarks = call.query.flag("allowWatchBookmarks");
    let stream = Stream {
        api: api.clone(),
        former,
        filter,
        events: start.events,
        initial: start.initial,
        end_of_initial: start.announce_end.then_some(start.revision),
        bookmarked: start.revision,
        next_bookmark: bookmarks.then(|| Instant::now() + BOOKMARK_EVERY),
        deadline: Instant::now() + Duration::from_secs(life_s),
        columns_said: false,
        over: false,
        cancel: api.cancel.clone(),
    };
    let frames = futures_util::stream::unfold(stream, |mut stream| async move {
        let chunk = stream.chunk().await?;
        Some((Ok(Frame::data(chunk)), stream))
    });
    Ok(with_body(StatusCode::OK, "application/json", StreamBody::new(frames).boxed_unsync()))
}

struct Start {
    initial: VecDeque<Entry>,
    announce_end: bool,
    revision: Revision,
    events: Watch,
}

fn start(api: &Arc<Api>, call: &Call, filter: &Filter) -> Result<Start, Failure> {
    let from = revision(call.query.get("resourceVersion"))?;
    let initial_asked = call.query.option("sendInitialEvents").map(|_| call.query.flag("sendInitialEvents"));
    if initial_asked == Some(true) && call.query.get("resourceVersionMatch") != "NotOlderThan" {
        return Err(
            status::bad_request("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan").into()
        );
    }
    let state = match (from, initial_asked) {
        (_, Some(true)) | (None, None) => Some(selected(api, call, filter)?),
        (_, Some(false)) | (Some(_), None) => None,
    };
    if let (Some(from), Some((_, now))) = (from, &state)
        && from > *now
    {
        return Err(status::future_resource_version(from.0, now.0).into());
    }
    let (initial, revision) = match state {
        Some((entries, revision)) => (entries, revision),
        None => (VecDeque::new(), from.unwrap_or_else(|| api.store.revision())),
    };
    let events = api.store.watch(&watched_prefix(call, filter), revision).map_err(|error| read_failure(error, None))?;
    Ok(Start { initial, announce_end: initial_asked == Some(true), revision, events })
}

/// One object's key where the selector leaves only that, else the collection.
fn watched_prefix(call: &Call, filter: &Filter) -> String {
    let one_place = call.kind.scope() == Scope::Cluster || !call.path.namespace.is_empty();
    match filter.only_name() {
        // A longer name may begin with this one; the filter sorts those out.
        Some(name) if one_place => key(call.kind, &call.path.namespace, name).to_string(),
        _ => prefix(call.kind, &call.path.namespace),
    }
}

struct Stream {
    api: Arc<Api>,
    former: Former,
    filter: Filter,
    events: Watch,
    initial: VecDeque<Entry>,
    end_of_initial: Option<Revision>,
    bookmarked: Revision,
    next_bookmark: Option<Instant>,
    deadline: Instant,
    columns_said: bool,
    over: bool,
    cancel: CancellationToken,
}

impl Stream {
    /// The next piece; None at the end.
    async fn chunk(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        while out.is_empty() && !self.over {
            if let Err(failure) = self.fill(&mut out).await {
                // The headers are long gone: a failure is the stream's last event.
                line(&mut out, "ERROR", json!(failure.0).to_string().as_bytes());
                self.over = true;
            }
        }
        (!out.is_empty()).then(|| out.into())
    }

    async fn fill(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        while out.len() < CHUNK_BYTES
            && let Some(entry) = self.initial.pop_front()
        {
            self.say(out, "ADDED", &entry.bytes)?;
        }
        if !self.initial.is_empty() {
            return Ok(());
        }
        if let Some(revision) = self.end_of_initial.take() {
            self.say_bookmark(out, revision, Some(json!({"k8s.io/initial-events-end": "true"})));
        }
        if !out.is_empty() {
            return Ok(());
        }
        let bookmark = self.next_bookmark.unwrap_or(self.deadline);
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => self.over = true,
            event = self.events.next() => match event {
                Ok(event) => {
                    self.event(out, &event)?;
                    self.drain(out)?;
                }
                // Too slow; upstream closes such a watch too, and the client goes on from what it has seen.
                Err(_) => self.over = true,
            },
            () = tokio::time::sleep_until(self.deadline) => self.over = true,
            () = tokio::time::sleep_until(bookmark) => self.bookmark(out)?,
        }
        Ok(())
    }

    fn drain(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        while out.len() < CHUNK_BYTES
            && let Some(event) = self.events.ready()
        {
            self.event(out, &event)?;
        }
        Ok(())
    }

    fn bookmark(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        self.next_bookmark = Some(Instant::now() + BOOKMARK_EVERY);
        // Events up to here are in our queue already: the store queues them before it shows the revision.
        let revision = self.api.store.revision();
        while let Some(event) = self.events.ready() {
            self.event(out, &event)?;
        }
        if revision > self.bookmarked {
            self.say_bookmark(out, revision, None);
        }
        Ok(())
    }

    fn say_bookmark(&mut self, out: &mut Vec<u8>, revision: Revision, annotations: Option<Value>) {
        self.bookmarked = revision;
        line(out, "BOOKMARK", self.former.bookmark(revision, annotations).to_string().as_bytes());
    }

    /// One change as this client sees it: objects enter and leave what its selector shows.
    fn event(&mut self, out: &mut Vec<u8>, event: &Event) -> Result<(), Failure> {
        let before = match &event.previous {
            Some((_, bytes)) => self.filter.matches(bytes)?,
            None => false,
        };
        let after = !event.deleted && self.filter.matches(&event.bytes)?;
        match (before, after) {
            (false, true) => self.say(out, "ADDED", &event.bytes),
            (true, true) => self.say(out, "MODIFIED", &event.bytes),
            (true, false) if event.deleted => self.say(out, "DELETED", &event.bytes),
            (true, false) => {
                let left = self.as_it_was(event)?;
                self.say(out, "DELETED", &left)
            }
            (false, false) => Ok(()),
        }
    }

    /// The object a selector no longer shows, as it last showed it, at the revision of its leaving.
    fn as_it_was(&self, event: &Event) -> Result<Bytes, Failure> {
        let Some((_, bytes)) = &event.previous else { return Ok(event.bytes.clone()) };
        let mut object = decode(self.former.kind, bytes)?;
        object.metadata_mut().resource_version = Some(event.revision.to_string());
        Ok(object.encode().into())
    }

    fn say(&mut self, out: &mut Vec<u8>, kind: &str, bytes: &Bytes) -> Result<(), Failure> {
        let object = self.former.one(bytes, !self.columns_said)?;
        self.columns_said = true;
        line(out, kind, &object);
        Ok(())
    }
}

fn line(out: &mut Vec<u8>, kind: &str, object: &[u8]) {
    out.reserve(object.len() + 40);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}
