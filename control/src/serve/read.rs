//! get and list. Owns: resourceVersion semantics of reads, paging, the list's JSON. Does not own: watching.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::StatusCode;
use http::header::{CONTENT_ENCODING, HeaderValue, VARY};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use pintle_api::status;
use pintle_store::{Entry, List, Page, ReadError, Revision};
use serde_json::{Value, json};

use super::Api;
use super::answer::{Answer, Failure, Outcome, json_bytes, whole, with_body};
use super::call::Call;
use super::filter::Filter;
use super::object::{key, prefix};
use super::page::Token;
use super::shape::{Former, Include};

/// Lists above this are compressed for clients that say they can (upstream: the same).
const GZIP_BYTES_MIN: usize = 128 << 10;
/// Pieces in which a list is sent.
const CHUNK_BYTES: usize = 64 << 10;
/// Entries looked at at a time when a selector thins them out.
const SCAN: usize = 500;

/// One object.
///
/// # Errors
/// 404; 504 for a resourceVersion from the future.
pub fn get(api: &Arc<Api>, call: &Call) -> Outcome {
    let former = former(api, call)?;
    if let Some(asked) = revision(call.query.get("resourceVersion"))? {
        not_in_future(api, asked)?;
    }
    let entry = api.store.get(&key(call.kind, &call.path.namespace, &call.path.name));
    let entry = entry.ok_or_else(|| status::not_found(call.about()))?;
    Ok(json_bytes(StatusCode::OK, former.one(&entry.bytes, true)?))
}

/// How the call's objects go back.
///
/// # Errors
/// 406.
pub fn former(api: &Arc<Api>, call: &Call) -> Result<Former, Failure> {
    let include = Include::parse(call.query.get("includeObject"));
    Ok(Former { kind: call.kind, shape: call.shape()?, include, now: api.clock })
}

/// A collection.
///
/// # Errors
/// 400 for malformed parameters, 410 and 504 for revisions that cannot be shown.
pub fn list(api: &Arc<Api>, call: &Call) -> Outcome {
    let former = former(api, call)?;
    let filter = Filter::parse(call.kind, &call.query)?;
    let found = find(api, call, &filter)?;
    let items = found.entries.iter().map(|entry| former.item(&entry.bytes)).collect::<Result<Vec<_>, _>>()?;
    let head = former.list_head(&found.metadata);
    Ok(send(call, head, items))
}

/// Selected entries and what the list says of itself.
struct Found {
    entries: Vec<Entry>,
    metadata: Value,
}

fn find(api: &Arc<Api>, call: &Call, filter: &Filter) -> Result<Found, Failure> {
    let prefix = prefix(call.kind, &call.path.namespace);
    let limit = usize::try_from(call.query.number("limit")?.unwrap_or(0)).unwrap_or(0);
    let token = match call.query.get("continue") {
        "" => None,
        text => Some(Token::decode(text)?),
    };
    let at = match &token {
        Some(token) => u64::try_from(token.rv).ok().map(Revision),
        None => asked_revision(api, call)?,
    };
    let after = token.as_ref().map(|token| format!("{prefix}{}", token.start));
    let scan = Scan { api, prefix: &prefix, filter, limit, at };
    let (page, more) = scan.run(after).map_err(|error| read_failure(error, token.as_ref()))??;
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if more && let Some(last) = page.entries.last() {
        let rv = if token.as_ref().is_some_and(|token| token.rv == -1) {
            -1
        } else {
            i64::try_from(page.revision.0).unwrap_or(i64::MAX)
        };
        metadata["continue"] = Token::new(rv, &last.key[prefix.len()..]).encode().into();
        if filter.is_empty() {
            metadata["remainingItemCount"] = page.remaining.into();
        }
    }
    Ok(Found { entries: page.entries, metadata })
}

struct Scan<'a> {
    api: &'a Arc<Api>,
    prefix: &'a str,
    filter: &'a Filter,
    limit: usize,
    at: Option<Revision>,
}

impl Scan<'_> {
    /// A page of selected entries, and whether more may follow.
    fn run(&self, after: Option<String>) -> Result<Result<(Page, bool), Failure>, ReadError> {
        let store = &self.api.store;
        let List { prefix, .. } = List::all(self.prefix);
        if self.filter.is_empty() {
            let page = store.list(&List { prefix, after: after.as_deref(), limit: self.limit, at: self.at })?;
            let more = page.remaining > 0;
            return Ok(Ok((page, more)));
        }
        // The first look fixes the revision for the others.
        let mut after = after;
        let mut at = self.at;
        let mut selected = Vec::new();
        loop {
            let limit = if self.limit == 0 { 0 } else { SCAN };
            let page = store.list(&List { prefix, after: after.as_deref(), limit, at })?;
            at = Some(page.revision);
            after = page.entries.last().map(|entry| entry.key.to_string());
            let mut rest = page.entries.len() + page.remaining;
            for entry in page.entries {
                rest -= 1;
                match self.filter.matches(&entry.bytes) {
                    Ok(true) => selected.push(entry),
                    Ok(false) => {}
                    Err(failure) => return Ok(Err(failure)),
                }
                if self.limit > 0 && selected.len() == self.limit {
                    let page = Page { revision: page.revision, entries: selected, remaining: rest };
                    return Ok(Ok((page, rest > 0)));
                }
            }
            if page.remaining == 0 {
                return Ok(Ok((Page { revision: page.revision, entries: selected, remaining: 0 }, false)));
            }
        }
    }
}

/// All objects a call's selectors choose, now, as stored: for watches that begin with the state and for
/// deletecollection.
///
/// # Errors
/// 500 if what is stored cannot be read.
pub fn selected(api: &Arc<Api>, call: &Call, filter: &Filter) -> Result<(VecDeque<Entry>, Revision), Failure> {
    let prefix = prefix(call.kind, &call.path.namespace);
    let scan = Scan { api, prefix: &prefix, filter, limit: 0, at: None };
    let (page, _) = scan.run(None).map_err(|error| read_failure(error, None))??;
    Ok((page.entries.into(), page.revision))
}

/// Reads a resourceVersion: none, or a number. 0 means "any" and is none.
///
/// # Errors
/// 400 for anything else.
pub fn revision(text: &str) -> Result<Option<Revision>, Failure> {
    if matches!(text, "" | "0") {
        return Ok(None);
    }
    let wrong =
        |_| status::bad_request(format!("Invalid value: {text:?}: resourceVersion is not a revision of this server"));
    Ok(Some(Revision(text.parse().map_err(wrong)?)))
}

fn not_in_future(api: &Api, asked: Revision) -> Result<(), Failure> {
    let newest = api.store.revision();
    if asked > newest {
        return Err(status::future_resource_version(asked.0, newest.0).into());
    }
    Ok(())
}

fn asked_revision(api: &Arc<Api>, call: &Call) -> Result<Option<Revision>, Failure> {
    let asked = revision(call.query.get("resourceVersion"))?;
    match (call.query.get("resourceVersionMatch"), asked) {
        ("Exact", Some(asked)) => Ok(Some(asked)),
        ("" | "NotOlderThan", asked) => {
            asked.map_or(Ok(()), |asked| not_in_future(api, asked))?;
            Ok(None)
        }
        ("Exact", None) => Err(status::bad_request(
            "resourceVersionMatch is forbidden for resourceVersion unset or \"0\" unless it is NotOlderThan",
        )
        .into()),
        (other, _) => Err(status::bad_request(format!(
            "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\""
        ))
        .into()),
    }
}

/// A revision that cannot be shown, as clients know it.
pub fn read_failure(error: ReadError, token: Option<&Token>) -> Failure {
    match (error, token) {
        (ReadError::Compacted { .. }, Some(token)) => token.expired(),
        (ReadError::Compacted { asked, oldest }, None) => status::too_old_resource_version(asked.0, oldest.0).into(),
        (ReadError::Future { asked, newest }, _) => status::future_resource_version(asked.0, newest.0).into(),
    }
}

fn send(call: &Call, head: String, items: Vec<Bytes>) -> Answer {
    let bytes: usize = head.len() + items.iter().map(|item| item.len() + 1).sum::<usize>();
    let chunks = Chunks { head: Some(head), items: items.into_iter(), first: true, done: false };
    if bytes > GZIP_BYTES_MIN && call.accepts_gzip() {
        return compressed(chunks);
    }
    if bytes <= CHUNK_BYTES {
        let mut all = BytesMut::with_capacity(bytes + 2);
        chunks.for_each(|chunk| all.extend_from_slice(&chunk));
        return json_bytes(StatusCode::OK, all.freeze());
    }
    let frames = chunks.map(|chunk| Ok(Frame::data(chunk)));
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    with_body(StatusCode::OK, "application/json", body)
}

fn compressed(chunks: Chunks) -> Answer {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing into memory does not fail.
    chunks.for_each(|chunk| drop(encoder.write_all(&chunk)));
    let mut answer = with_body(StatusCode::OK, "application/json", whole(encoder.finish().unwrap_or_default()));
    answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    answer
}

/// A list's JSON in pieces of about [`CHUNK_BYTES`]: a client that reads slowly holds the shared objects, not a copy.
struct Chunks {
    head: Option<String>,
    items: std::vec::IntoIter<Bytes>,
    first: bool,
    done: bool,
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut chunk = BytesMut::from(self.head.take().unwrap_or_default().as_bytes());
        while chunk.len() < CHUNK_BYTES {
            let Some(item) = self.items.next() else {
                chunk.extend_from_slice(b"]}");
                self.done = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                chunk.extend_from_slice(b",");
            }
            chunk.extend_from_slice(&item);
        }
        Some(chunk.freeze())
    }
}
