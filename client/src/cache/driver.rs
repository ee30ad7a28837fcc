//! The edge of a cache: keeps a watch open, feeds the replica, waits before it tries again.

use super::Shared;
use crate::path::Query;
use crate::request::Call;
use crate::watch::Lines;
use crate::{Backoff, Client, Error, Held, ListParams, backoff::random_unit};
use http::Method;
use http_body_util::BodyExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A watch is asked to end after this, plus up to the same again, so that servers can rebalance and nothing lives for
/// ever on one connection. The upstream reflector uses 5–10 minutes.
const WATCH_TIMEOUT_S: f64 = 300.0;

/// A watch that ends within this without a word was as good as refused. The upstream reflector's measure.
const SHORT: Duration = Duration::from_secs(1);

pub(super) struct Driver<K> {
    pub(super) client: Client,
    pub(super) path: String,
    pub(super) accept: &'static str,
    pub(super) labels: String,
    pub(super) fields: String,
    pub(super) shared: Arc<Shared<K>>,
}

/// Where the next connection starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// A watch that sends the whole collection first (KEP-3157).
    WatchList,
    /// A list in pages, then a watch.
    List,
    /// A watch from the revision we hold.
    Resume,
}

/// How a connection ended that the server ended in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// After news, or after a while.
    InTime,
    /// At once, or amid the list.
    Fruitless,
}

impl<K: Held> Driver<K> {
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
        let mut start = Start::WatchList;
        let mut whole = Start::WatchList;
        let mut failing = false;
        loop {
            let error = match self.attempt(start, &mut backoff, &mut failing).await {
                Ok(ended) => {
                    start = if self.is_collecting() { whole } else { Start::Resume };
                    if ended == Ended::Fruitless {
                        tokio::time::sleep(backoff.delay()).await;
                    }
                    continue;
                }
                Err(e) => e,
            };
            if start == Start::WatchList && is_not_understood(&error) {
                whole = Start::List;
                start = whole;
                continue;
            }
            if error.is_gone() {
                tracing::debug!(path = self.path, "the watched revision is gone, listing again");
                start = whole;
            } else if start != Start::Resume && self.shared.progress.borrow().synced && !self.is_collecting() {
                // The list is complete and only the watch behind it broke.
                start = Start::Resume;
            }
            self.report(&error, &mut failing);
            tokio::time::sleep(backoff.delay()).await;
        }
    }

    /// Says once that the watch is in trouble; repeats are for the debug log.
    fn report(&self, error: &Error, failing: &mut bool) {
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        if *failing || error.is_gone() {
            tracing::debug!(path = self.path, %error, cause, "watch failed, trying again");
        } else {
            tracing::warn!(path = self.path, %error, cause, "watch failed, trying again");
            *failing = true;
        }
    }

    /// One connection from `start` to its end. `Ok` means that the server ended it in order.
    async fn attempt(&self, start: Start, backoff: &mut Backoff, failing: &mut bool) -> Result<Ended, Error> {
        if start == Start::List {
            let params = ListParams::all().labels(&self.labels).fields(&self.fields);
            let list = self.client.list_path(&self.path, &params, self.accept).await?;
            let revision = list.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0);
            self.shared.change(|replica| Ok(replica.replace(list.items, revision)))?;
        }
        let mut body = self.client.stream(self.call(start)).await?;
        if start == Start::WatchList {
            self.shared.change(|replica| {
                replica.begin_list();
                Ok(Vec::new())
            })?;
        }
        let (mut lines, begun, mut is_fruitful) = (Lines::default(), Instant::now(), false);
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|source| Error::Http { method: "WATCH".into(), path: self.path.clone(), source })?;
            let Some(data) = frame.data_ref() else { continue };
            lines.push(data);
            self.take_in(&mut lines)?;
            if self.is_collecting() {
                continue;
            }
            is_fruitful = true;
            backoff.reset();
            if std::mem::take(failing) {
                tracing::info!(path = self.path, "watch is back");
            }
        }
        let is_in_time = is_fruitful || begun.elapsed() >= SHORT && !self.is_collecting();
        Ok(if is_in_time { Ended::InTime } else { Ended::Fruitless })
    }

    fn is_collecting(&self) -> bool {
        self.shared.with(|s| s.replica.is_collecting())
    }

    /// Feeds every complete event under one lock, so that a burst wakes the waiters once.
    fn take_in(&self, lines: &mut Lines) -> Result<(), Error> {
        let mut failure = Ok(());
        self.shared.change(|replica| {
            let mut changes = Vec::new();
            while let Some(event) = lines.next() {
                match event.and_then(|e| replica.feed(e)) {
                    Ok(more) => changes.extend(more),
                    Err(e) => {
                        // What came before the error is true and is told.
                        failure = Err(e);
                        break;
                    }
                }
            }
            Ok(changes)
        })?;
        failure
    }

    fn call(&self, start: Start) -> Call<'static> {
        let timeout_s = (WATCH_TIMEOUT_S * (1.0 + random_unit())).round();
        let mut query = Query::default();
        query.put("watch", "true").put("allowWatchBookmarks", "true").put("timeoutSeconds", &timeout_s.to_string());
        query.put("labelSelector", &self.labels).put("fieldSelector", &self.fields);
        if start == Start::WatchList {
            query.put("sendInitialEvents", "true").put("resourceVersionMatch", "NotOlderThan");
        } else {
            query.put("resourceVersion", &self.shared.revision().to_string());
        }
        let mut call = Call::new(Method::GET, query.on(&self.path));
        call.accept = self.accept;
        call
    }
}

/// A server without WatchList refuses its parameters: 400, or 422 for a forbidden field of the options.
fn is_not_understood(error: &Error) -> bool {
    error.api().is_some_and(|e| e.code == 400 || e.code == 422)
}
