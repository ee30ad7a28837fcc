//! The loop: news in, keys planned, writes out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use pintle_client::{Client, EventRecorder};
use pintle_control_plan::controllers::{
    self as plan, Answers, Change, Controller, Key, KindRef, Object, Plan, Question, Snapshot, View,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::apply::{Applied, Hands};
use super::feed::{self, Batch};
use super::queue::{Hold, Id, Outcome, Queue};
use super::{answer, discovery};
use crate::pki::Authority;

/// What to run.
pub(super) struct Setup {
    /// Controllers, each with the identity it writes under.
    pub loops: Vec<(&'static dyn Controller, Client)>,
    /// For the plans.
    pub settings: plan::Config,
    /// Signs certificate requests.
    pub authority: Option<Authority>,
    /// Whether kinds that no controller watches are cached by metadata: the garbage collector needs all of them.
    pub everything: bool,
}

/// A loop that can run: everything it watches is served.
struct Loop {
    controller: &'static dyn Controller,
    client: Client,
    recorder: EventRecorder,
}

enum Done {
    Answered(Id, Result<Answers, pintle_client::Error>),
    Applied(Id, Plan, Applied),
}

struct Driver {
    loops: Vec<Loop>,
    /// Which loops look at changes of a kind; loops without a word about it (the collector) look at all.
    settings: plan::Config,
    authority: Option<Arc<Authority>>,
    snapshot: Snapshot,
    revisions: BTreeMap<KindRef, u64>,
    /// Kinds whose first list has not come; nothing is planned before all have.
    unsynced: BTreeSet<KindRef>,
    queue: Queue,
    tasks: JoinSet<Done>,
}

/// Runs until cancelled.
pub(super) async fn run(setup: Setup, client: &Client, cancel: CancellationToken) {
    let served = tokio::select! {
        served = discovery::discover(client) => served,
        () = cancel.cancelled() => return,
    };
    let (driver, news, feeds) = Driver::start(setup, client, &served.kinds);
    driver.work(news, &cancel).await;
    feeds.iter().for_each(tokio::task::JoinHandle::abort);
}

type Feeds = Vec<tokio::task::JoinHandle<()>>;

impl Driver {
    fn start(setup: Setup, client: &Client, served: &[KindRef]) -> (Driver, UnboundedReceiver<Batch>, Feeds) {
        let mut settings = setup.settings;
        settings.namespaced = served.iter().copied().filter(|k| k.namespaced).collect();
        let mut recorders: HashMap<&'static str, EventRecorder> = HashMap::new();
        let mut loops = Vec::new();
        let mut whole: BTreeSet<KindRef> = BTreeSet::new();
        for (controller, writer) in setup.loops {
            let missing: Vec<_> =
                controller.watches().iter().filter(|k| !served.contains(k) || !feed::is_typed(**k)).collect();
            if !missing.is_empty() {
                tracing::warn!(
                    controller = controller.name(),
                    ?missing,
                    "not running: the API server lacks these kinds"
                );
                continue;
            }
            whole.extend(controller.watches());
            let recorder = recorders
                .entry(controller.name())
                .or_insert_with(|| EventRecorder::start(&writer, controller.name(), ""))
                .clone();
            loops.push(Loop { controller, client: writer, recorder });
        }
        let (to, news) = unbounded_channel();
        let wanted = |k: &KindRef| whole.contains(k) || (setup.everything && k.kind != "Event");
        let kinds: BTreeSet<KindRef> = served.iter().copied().filter(wanted).collect();
        let feeds = kinds.iter().map(|k| feed::start(*k, whole.contains(k), client, to.clone())).collect();
        let mut snapshot = Snapshot::default();
        kinds.iter().for_each(|k| snapshot.register(*k));
        let driver = Driver {
            loops,
            settings,
            authority: setup.authority.map(Arc::new),
            snapshot,
            revisions: BTreeMap::new(),
            unsynced: kinds,
            queue: Queue::default(),
            tasks: JoinSet::new(),
        };
        (driver, news, feeds)
    }

    async fn work(mut self, mut news: UnboundedReceiver<Batch>, cancel: &CancellationToken) {
        loop {
            let timer = self.queue.next_timer();
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(batch) = news.recv() => {
                    self.take(batch);
                    while let Ok(batch) = news.try_recv() {
                        self.take(batch);
                    }
                    self.queue.release();
                }
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.finish(done),
                    Err(error) => tracing::error!(%error, "a controller's request task died"),
                },
                () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {}
            }
            self.queue.fire(Instant::now());
            if self.unsynced.is_empty() {
                self.plan_ready();
            }
        }
        while self.tasks.join_next().await.is_some() {}
    }

    /// Takes in news of one kind, and marks the keys they concern.
    fn take(&mut self, batch: Batch) {
        let was_syncing = !self.unsynced.is_empty();
        for (name, object) in batch.updates {
            if let Some(change) = self.snapshot.set(Key::new(batch.kind, name), object)
                && !was_syncing
            {
                self.mark(&change);
            }
        }
        self.revisions.insert(batch.kind, batch.revision);
        self.unsynced.remove(&batch.kind);
        if was_syncing && self.unsynced.is_empty() {
            self.mark_all();
        }
    }

    fn mark(&mut self, change: &Change) {
        for (index, each) in self.loops.iter().enumerate() {
            for key in each.controller.keys(change, &self.snapshot) {
                self.queue.mark((index, key));
            }
        }
    }

    /// At start every object is news.
    fn mark_all(&mut self) {
        let kinds: Vec<KindRef> = self.snapshot.kinds().collect();
        for kind in kinds {
            let objects: Vec<(Key, Arc<dyn Object>)> = self.snapshot.objects(kind).collect();
            for (key, object) in objects {
                self.mark(&Change { key, old: None, new: Some(object) });
            }
        }
    }

    fn plan_ready(&mut self) {
        loop {
            let (revisions, snapshot) = (&self.revisions, &self.snapshot);
            let Some(id) = self.queue.next(Instant::now(), |hold| is_met(hold, revisions, snapshot)) else { return };
            self.plan(&id);
        }
    }

    fn plan(&mut self, id: &Id) {
        let each = &self.loops[id.0];
        let item = self.queue.item(id);
        let view = View {
            snapshot: &self.snapshot,
            config: &self.settings,
            answers: &item.answers,
            failure: item.failure.as_deref(),
            now: Timestamp::now(),
        };
        let open: Vec<Question> =
            each.controller.ask(&id.1, &view).into_iter().filter(|q| !item.answers.contains_key(q)).collect();
        if !open.is_empty() {
            let (client, id) = (each.client.clone(), id.clone());
            self.tasks.spawn(async move { Done::Answered(id, answer::all(&client, open).await) });
            return;
        }
        let plan = each.controller.plan(&id.1, &view);
        let repeats = !plan.writes.is_empty() && item.last.as_ref() == Some(&plan);
        self.carry_out(id, plan, repeats);
    }

    fn carry_out(&mut self, id: &Id, plan: Plan, repeats: bool) {
        let each = &self.loops[id.0];
        if let Some(at) = plan.requeue_at {
            let wait = at.duration_since(Timestamp::now()).unsigned_abs();
            let wait = if at <= Timestamp::now() { std::time::Duration::ZERO } else { wait };
            self.queue.wake(id, Instant::now() + wait);
        }
        if repeats {
            // What was written did not stay written: without a pause this would spin.
            tracing::debug!(controller = each.controller.name(), key = ?id.1, "the same plan again; pausing");
            self.queue.item(id).last = None;
            self.queue.done(id, Vec::new(), Outcome::Failed(None), Instant::now());
            return;
        }
        let hands = Hands { client: &each.client, recorder: &each.recorder, authority: self.authority.as_deref() };
        plan.events.iter().for_each(|note| hands.note(Some(note), &[]));
        if plan.writes.is_empty() {
            self.queue.done(id, Vec::new(), Outcome::Quiet, Instant::now());
            return;
        }
        tracing::trace!(controller = each.controller.name(), key = ?id.1, writes = plan.writes.len(), "applying");
        let (client, recorder, authority) = (each.client.clone(), each.recorder.clone(), self.authority.clone());
        let id = id.clone();
        self.tasks.spawn(async move {
            let hands = Hands { client: &client, recorder: &recorder, authority: authority.as_deref() };
            let applied = hands.apply(&plan.writes).await;
            Done::Applied(id, plan, applied)
        });
    }

    fn finish(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Answered(id, Ok(answers)) => {
                self.queue.item(&id).answers.extend(answers);
                self.plan(&id);
            }
            Done::Answered(id, Err(error)) => {
                self.warn(&id, &error.to_string());
                self.queue.done(&id, Vec::new(), Outcome::Failed(None), now);
            }
            Done::Applied(id, plan, applied) => {
                let outcome = match applied.failure {
                    None => Outcome::Wrote(plan),
                    Some(failure) if failure.is_stale => Outcome::Failed(None),
                    Some(failure) => {
                        self.warn(&id, &failure.message);
                        Outcome::Failed(Some(failure.message))
                    }
                };
                // A hold on a kind without a cache could never be met.
                let holds = applied.holds.into_iter().filter(|h| self.is_cached(h)).collect();
                self.queue.done(&id, holds, outcome, now);
            }
        }
    }

    fn is_cached(&self, hold: &Hold) -> bool {
        match hold {
            Hold::Revision(kind, _) => self.snapshot.knows(*kind),
            Hold::Gone(key, _) => self.snapshot.knows(key.kind),
            Hold::Bound(..) => self.snapshot.knows(KindRef::of::<Pod>()),
        }
    }

    fn warn(&self, id: &Id, error: &str) {
        tracing::warn!(controller = self.loops[id.0].controller.name(), key = ?id.1, error, "trying again later");
    }
}

fn is_met(hold: &Hold, revisions: &BTreeMap<KindRef, u64>, snapshot: &Snapshot) -> bool {
    match hold {
        Hold::Revision(kind, revision) => revisions.get(kind).is_some_and(|r| r >= revision),
        Hold::Gone(key, uid) => {
            snapshot.meta(key).is_none_or(|m| m.uid.as_ref() != Some(uid) || m.deletion_timestamp.is_some())
        }
        Hold::Bound(name, uid) => snapshot
            .get::<Pod>(name)
            .is_none_or(|p| p.metadata.uid.as_ref() != Some(uid) || plan::pods::node(p).is_some()),
    }
}
