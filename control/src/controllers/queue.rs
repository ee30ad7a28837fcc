//! Which key is planned when.
//!
//! ```text
//!             mark                next                 applied
//!   (absent) ──────► Waiting ───────────► Running ───────────────► (absent), or Waiting again
//!                     │   ▲                                         if marked meanwhile
//!                     ▼   │ caches caught up, timer
//!                   held back: its last writes are not in the caches yet, or it failed a moment ago
//! ```
//!
//! Pure but for the type of its clock: instants are arguments. One key is never worked on twice at a time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use pintle_control_plan::controllers::{Answers, Key, KindRef, Name, Plan};
use tokio::time::Instant;

/// First delay after a failure; it doubles with every further one.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A controller (by its place in the list) and one of its keys.
pub(super) type Id = (usize, Key);

/// What the caches must show before the key is planned again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hold {
    /// This kind up to this revision.
    Revision(KindRef, u64),
    /// That this pod, with this uid, has a node (or is gone).
    Bound(Name, String),
    /// That this object, with this uid, is gone or at least being deleted.
    Gone(Key, String),
}

/// One key's state; dropped when nothing of it is worth remembering.
#[derive(Default)]
pub(super) struct Item {
    marked: bool,
    running: bool,
    holds: Vec<Hold>,
    not_before: Option<Instant>,
    wake_at: Option<Instant>,
    failures: u32,
    /// Shown to the plan, so that a status may tell.
    pub failure: Option<String>,
    /// What was applied last, to notice a plan that never ends.
    pub last: Option<Plan>,
    /// Answers for the plan that is about to be made.
    pub answers: Answers,
}

/// All keys with work.
#[derive(Default)]
pub(super) struct Queue {
    items: HashMap<Id, Item>,
    ready: VecDeque<Id>,
    held: BTreeSet<Id>,
    timers: BTreeSet<(Instant, Id)>,
}

impl Queue {
    /// The key has news.
    pub fn mark(&mut self, id: Id) {
        let item = self.items.entry(id.clone()).or_default();
        if !std::mem::replace(&mut item.marked, true) && !item.running {
            self.ready.push_back(id);
        }
    }

    /// The key is to be planned at `at`, or before if something happens.
    pub fn wake(&mut self, id: &Id, at: Instant) {
        let item = self.items.entry(id.clone()).or_default();
        if let Some(old) = item.wake_at.replace(at) {
            self.timers.remove(&(old, id.clone()));
        }
        self.timers.insert((at, id.clone()));
    }

    /// The next timer.
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Marks what has come due.
    pub fn fire(&mut self, now: Instant) {
        while let Some((at, _)) = self.timers.first().filter(|(at, _)| *at <= now) {
            let at = *at;
            let Some((_, id)) = self.timers.pop_first() else { break };
            if let Some(item) = self.items.get_mut(&id) {
                if item.wake_at == Some(at) {
                    item.wake_at = None;
                }
                // A key in back-off was taken from the ready list while marked.
                item.marked = false;
            }
            self.mark(id);
        }
    }

    /// The caches moved: keys that were held back may go on.
    pub fn release(&mut self) {
        self.ready.extend(std::mem::take(&mut self.held));
    }

    /// The next key to work on; it counts as running until [`Queue::done`].
    pub fn next(&mut self, now: Instant, is_met: impl Fn(&Hold) -> bool) -> Option<Id> {
        while let Some(id) = self.ready.pop_front() {
            let Some(item) = self.items.get_mut(&id) else { continue };
            if item.running || !item.marked {
                continue;
            }
            item.holds.retain(|h| !is_met(h));
            if !item.holds.is_empty() {
                self.held.insert(id);
                continue;
            }
            if let Some(at) = item.not_before.filter(|at| *at > now) {
                self.wake(&id, at);
                continue;
            }
            item.marked = false;
            item.running = true;
            item.not_before = None;
            return Some(id);
        }
        None
    }

    /// One key's state.
    pub fn item(&mut self, id: &Id) -> &mut Item {
        self.items.entry(id.clone()).or_default()
    }

    /// The key's work is over. `holds` are what its writes must show in the caches.
    pub fn done(&mut self, id: &Id, holds: Vec<Hold>, result: Outcome, now: Instant) {
        let item = self.item(id);
        item.running = false;
        item.holds.extend(holds);
        item.answers.clear();
        match result {
            Outcome::Quiet => {
                (item.failures, item.failure, item.last) = (0, None, None);
            }
            Outcome::Wrote(plan) => {
                (item.failures, item.failure, item.last) = (0, None, Some(plan));
                item.marked = true;
            }
            Outcome::Failed(why) => {
                item.failure = why;
                item.not_before = Some(now + backoff(item.failures));
                item.failures = item.failures.saturating_add(1);
                item.marked = true;
            }
        }
        if item.marked {
            self.ready.push_back(id.clone());
        } else if item.is_forgettable() {
            self.items.remove(id);
        }
    }
}

impl Item {
    fn is_forgettable(&self) -> bool {
        self.holds.is_empty() && self.wake_at.is_none() && !self.running && !self.marked
    }
}

/// How a key's work ended.
pub(super) enum Outcome {
    /// Nothing to write.
    Quiet,
    /// Everything of the plan was written: plan again, to see that nothing is left.
    Wrote(Plan),
    /// Something failed: plan again after a while. None where that is no news to a user (a conflict).
    Failed(Option<String>),
}

fn backoff(failures: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << failures.min(20)).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::{Hold, Instant, Outcome, Queue};
    use k8s_openapi::api::core::v1::Pod;
    use pintle_control_plan::controllers::{Key, KindRef, Name, Plan};
    use std::time::Duration;

    fn key() -> (usize, Key) {
        (0, Key::new(KindRef::of::<Pod>(), Name::new("default", "web")))
    }

    #[test]
    fn a_key_marked_many_times_is_planned_once() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        (0..3).for_each(|_| queue.mark(key()));
        assert_eq!(queue.next(now, |_| true), Some(key()));
        assert_eq!(queue.next(now, |_| true), None);
        queue.mark(key());
        assert_eq!(queue.next(now, |_| true), None, "it is being worked on");
        queue.done(&key(), vec![], Outcome::Quiet, now);
        assert_eq!(queue.next(now, |_| true), Some(key()), "the news of meanwhile");
    }

    #[test]
    fn a_key_waits_until_the_caches_show_its_own_writes() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.mark(key());
        queue.next(now, |_| true).unwrap();
        let hold = Hold::Revision(KindRef::of::<Pod>(), 7);
        queue.done(&key(), vec![hold], Outcome::Wrote(Plan::default()), now);
        assert_eq!(queue.next(now, |_| false), None);
        queue.release();
        assert_eq!(queue.next(now, |_| false), None, "still not there");
        queue.release();
        assert_eq!(queue.next(now, |_| true), Some(key()));
    }

    #[test]
    fn a_failed_key_comes_back_later_and_later() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        queue.mark(key());
        let mut waits = Vec::new();
        for _ in 0..4 {
            queue.next(now, |_| true).unwrap();
            queue.done(&key(), vec![], Outcome::Failed(None), now);
            assert_eq!(queue.next(now, |_| true), None);
            let at = queue.next_timer().unwrap();
            waits.push((at - now).as_millis());
            now = at;
            queue.fire(now);
        }
        assert_eq!(waits, [5, 10, 20, 40]);
    }

    #[test]
    fn news_during_back_off_does_not_cut_it_short() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.mark(key());
        queue.next(now, |_| true).unwrap();
        queue.done(&key(), vec![], Outcome::Failed(None), now);
        queue.mark(key());
        assert_eq!(queue.next(now, |_| true), None);
        let later = now + Duration::from_millis(6);
        queue.fire(later);
        assert_eq!(queue.next(later, |_| true), Some(key()));
    }
}
