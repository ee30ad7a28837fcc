//! A reader's queue of events. Owns: what one watcher has not seen yet. Does not own: which events those are.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::Event;

/// How far a reader may fall behind before it is cut off. The queue's memory grows with use, not to this size.
pub(crate) const QUEUE_EVENTS_MAX: usize = 16_384;

/// Events of one prefix, from a revision on. See [`crate::Store::watch`].
#[derive(Debug)]
pub struct Watch {
    missed: VecDeque<Arc<Event>>,
    queue: mpsc::Receiver<Arc<Event>>,
}

/// A watch that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The reader was too slow, or the store was closed; watch again from the last revision seen.
    #[error("the watch fell too far behind or the store was closed")]
    Ended,
}

impl Watch {
    pub(crate) fn new(missed: VecDeque<Arc<Event>>, queue: mpsc::Receiver<Arc<Event>>) -> Watch {
        Watch { missed, queue }
    }

    /// The next event, when there is one. Safe to drop and call again.
    ///
    /// # Errors
    /// [`WatchError::Ended`].
    pub async fn next(&mut self) -> Result<Arc<Event>, WatchError> {
        if let Some(event) = self.missed.pop_front() {
            return Ok(event);
        }
        self.queue.recv().await.ok_or(WatchError::Ended)
    }

    /// The next event if there is one already.
    pub fn ready(&mut self) -> Option<Arc<Event>> {
        self.missed.pop_front().or_else(|| self.queue.try_recv().ok())
    }
}
