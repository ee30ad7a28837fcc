//! What every store does, checked on every store; and that watching from any revision replays exactly the history.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use pintle_store::{
    Change, CommitError, Committed, DiskStore, Event, Expect, FakeStore, List, Op, ReadError, Revision, Store, Value,
    Watch,
};
use proptest::prelude::*;

fn put(key: &str, expect: Expect, value: &str) -> Op {
    Op { key: key.into(), expect, change: Change::Put(Value::plain(value.to_owned())) }
}

fn delete(key: &str, expect: Expect) -> Op {
    Op { key: key.into(), expect, change: Change::Delete { last: Value::plain("gone") } }
}

fn one(store: &dyn Store, op: Op) -> Result<Committed, CommitError> {
    store.commit(vec![op]).wait()
}

/// Runs `test` over both stores.
fn on_every_store(test: impl Fn(&dyn Store)) {
    test(&FakeStore::default());
    let directory = tempfile::tempdir().unwrap();
    test(&DiskStore::open(directory.path()).unwrap());
}

fn keys(store: &dyn Store, list: &List<'_>) -> Vec<String> {
    store.list(list).unwrap().entries.iter().map(|entry| entry.key.to_string()).collect()
}

fn drain(watch: &mut Watch) -> Vec<Arc<Event>> {
    std::iter::from_fn(|| watch.ready()).collect()
}

#[test]
fn what_was_put_is_read_back_with_the_revision_of_its_write() {
    on_every_store(|store| {
        let first = store.revision();
        let committed = one(store, put("a", Expect::Absent, "1")).unwrap();
        assert_eq!(committed.revision, Revision(first.0 + 1));
        let entry = store.get("a").unwrap();
        assert_eq!((&*entry.bytes, entry.modified), (&b"1"[..], committed.revision));
        assert_eq!(store.get("b"), None);
    });
}

#[test]
fn the_revision_is_stamped_where_the_writer_asked() {
    on_every_store(|store| {
        let value = Value { bytes: "<>".into(), stamp_at: Some(1) };
        let committed = one(store, Op { key: "a".into(), expect: Expect::Absent, change: Change::Put(value) }).unwrap();
        let expected = format!("<{}>", committed.revision);
        assert_eq!(committed.bytes[0], expected);
        assert_eq!(store.get("a").unwrap().bytes, expected);
    });
}

#[test]
fn an_expectation_that_does_not_hold_changes_nothing_and_shows_what_is_there() {
    on_every_store(|store| {
        let at = one(store, put("a", Expect::Absent, "1")).unwrap().revision;
        for op in [put("a", Expect::Absent, "2"), put("a", Expect::At(Revision(at.0 + 7)), "2")] {
            let Err(CommitError::Conflict { actual, .. }) = one(store, op) else { panic!("not a conflict") };
            assert_eq!(actual.unwrap().modified, at);
        }
        for op in [put("b", Expect::At(at), "2"), delete("b", Expect::Present)] {
            let Err(CommitError::Conflict { actual, .. }) = one(store, op) else { panic!("not a conflict") };
            assert_eq!(actual, None);
        }
        assert_eq!(store.revision(), at);
        one(store, put("a", Expect::At(at), "2")).unwrap();
        assert_eq!(store.get("a").unwrap().bytes, "2");
    });
}

#[test]
fn a_transaction_happens_whole_or_not_at_all() {
    on_every_store(|store| {
        let before = store.revision();
        let ops = vec![put("a", Expect::Absent, "1"), put("b", Expect::Present, "1")];
        assert!(store.commit(ops).wait().is_err());
        assert_eq!((store.get("a"), store.revision()), (None, before));

        let ops = vec![put("a", Expect::Absent, "1"), put("b", Expect::Absent, "1")];
        let revision = store.commit(ops).wait().unwrap().revision;
        assert_eq!((store.get("a").unwrap().modified, store.get("b").unwrap().modified), (revision, revision));
    });
}

#[test]
fn checking_alone_and_deleting_nothing_make_no_revision() {
    on_every_store(|store| {
        let before = store.revision();
        one(store, Op { key: "a".into(), expect: Expect::Absent, change: Change::Check }).unwrap();
        one(store, delete("a", Expect::Anything)).unwrap();
        assert_eq!(store.revision(), before);
    });
}

#[test]
fn lists_are_ordered_bounded_by_their_prefix_and_continued_after_a_key() {
    on_every_store(|store| {
        for key in ["p/c", "p/a", "p0", "p/b", "o/z"] {
            one(store, put(key, Expect::Absent, key)).unwrap();
        }
        assert_eq!(keys(store, &List::all("p/")), ["p/a", "p/b", "p/c"]);
        let first = store.list(&List { limit: 2, ..List::all("p/") }).unwrap();
        assert_eq!((first.entries.len(), first.remaining), (2, 1));
        assert_eq!(keys(store, &List { after: Some("p/b"), limit: 2, ..List::all("p/") }), ["p/c"]);
        assert_eq!(keys(store, &List { after: Some("a"), ..List::all("p/") }), ["p/a", "p/b", "p/c"]);
    });
}

#[test]
fn an_earlier_revision_is_listed_as_it_was() {
    on_every_store(|store| {
        one(store, put("p/a", Expect::Absent, "1")).unwrap();
        let then = one(store, put("p/b", Expect::Absent, "1")).unwrap().revision;
        one(store, put("p/a", Expect::Present, "2")).unwrap();
        one(store, delete("p/b", Expect::Present)).unwrap();
        one(store, put("p/c", Expect::Absent, "1")).unwrap();
        let page = store.list(&List { at: Some(then), ..List::all("p/") }).unwrap();
        let shown: Vec<(&str, &[u8])> = page.entries.iter().map(|e| (&*e.key, &*e.bytes)).collect();
        assert_eq!(shown, [("p/a", &b"1"[..]), ("p/b", &b"1"[..])]);
        assert_eq!(page.revision, then);
    });
}

#[test]
fn compacted_and_future_revisions_are_refused() {
    on_every_store(|store| {
        let old = one(store, put("a", Expect::Absent, "1")).unwrap().revision;
        let now = one(store, put("a", Expect::Present, "2")).unwrap().revision;
        store.compact(now);
        assert_eq!(store.compacted(), now);
        let refused = store.list(&List { at: Some(old), ..List::all("") });
        assert_eq!(refused, Err(ReadError::Compacted { asked: old, oldest: now }));
        assert!(matches!(store.watch("", old), Err(ReadError::Compacted { .. })));
        assert!(matches!(store.watch("", Revision(now.0 + 1)), Err(ReadError::Future { .. })));
        assert!(store.watch("", now).is_ok());
    });
}

#[test]
fn a_watch_sees_past_and_coming_events_once_and_in_order() {
    on_every_store(|store| {
        let start = one(store, put("p/a", Expect::Absent, "1")).unwrap().revision;
        one(store, put("p/a", Expect::Present, "2")).unwrap();
        one(store, put("q/a", Expect::Absent, "x")).unwrap();
        let mut watch = store.watch("p/", start).unwrap();
        one(store, delete("p/a", Expect::Present)).unwrap();
        one(store, put("p/b", Expect::Absent, "3")).unwrap();
        let seen: Vec<(String, bool)> = drain(&mut watch).iter().map(|e| (e.key.to_string(), e.deleted)).collect();
        assert_eq!(seen, [("p/a".into(), false), ("p/a".into(), true), ("p/b".into(), false)]);
    });
}

#[test]
fn events_carry_what_was_there_before_and_share_bytes_with_the_map() {
    on_every_store(|store| {
        let mut watch = store.watch("", store.revision()).unwrap();
        let first = one(store, put("a", Expect::Absent, "1")).unwrap().revision;
        one(store, put("a", Expect::Present, "2")).unwrap();
        one(store, delete("a", Expect::Present)).unwrap();
        let events = drain(&mut watch);
        assert_eq!(events[0].previous, None);
        assert_eq!(events[1].previous.as_ref().unwrap().0, first);
        assert_eq!(events[1].previous.as_ref().unwrap().1.as_ptr(), events[0].bytes.as_ptr());
        assert_eq!((&*events[2].bytes, events[2].deleted), (&b"gone"[..], true));
    });
}

#[test]
fn a_reopened_store_holds_what_was_acknowledged_and_goes_on_counting() {
    let directory = tempfile::tempdir().unwrap();
    let store = DiskStore::open(directory.path()).unwrap();
    one(&store, put("a", Expect::Absent, "1")).unwrap();
    one(&store, put("b", Expect::Absent, "1")).unwrap();
    let last = one(&store, delete("a", Expect::Present)).unwrap().revision;
    assert!(matches!(DiskStore::open(directory.path()), Err(pintle_store::OpenError::InUse { .. })));
    drop(store);

    let store = DiskStore::open(directory.path()).unwrap();
    assert_eq!((store.revision(), store.compacted()), (last, last));
    assert_eq!((store.get("a"), store.get("b").is_some()), (None, true));
    assert_eq!(one(&store, put("c", Expect::Absent, "1")).unwrap().revision, Revision(last.0 + 1));
}

#[test]
fn many_writers_at_once_each_get_their_own_revision() {
    let directory = tempfile::tempdir().unwrap();
    let store = DiskStore::open(directory.path()).unwrap();
    let first = store.revision();
    let commits: Vec<_> = (0..200).map(|n| store.commit(vec![put(&format!("k{n}"), Expect::Absent, "v")])).collect();
    let revisions: Vec<u64> = commits.into_iter().map(|commit| commit.wait().unwrap().revision.0).collect();
    assert_eq!(revisions, (first.0 + 1..=first.0 + 200).collect::<Vec<_>>());
}

type Model = Vec<BTreeMap<String, String>>;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Replaying the events after any revision over the state at that revision gives the newest state, and every
    /// state on the way: nothing is lost, nothing comes twice, nothing is out of order.
    #[test]
    fn watching_from_any_revision_replays_exactly_the_history(
        ops in prop::collection::vec((0..6u8, prop::option::of("[a-z]{0,3}")), 1..60)
    ) {
        let store = FakeStore::default();
        let first = store.revision().0;
        let mut model: Model = vec![BTreeMap::new()];
        for (key, value) in ops {
            let key = format!("k/{key}");
            let mut state = model.last().unwrap().clone();
            let op = match &value {
                Some(value) => { state.insert(key.clone(), value.clone()); put(&key, Expect::Anything, value) }
                None => { state.remove(&key); delete(&key, Expect::Anything) }
            };
            one(&store, op).unwrap();
            if store.revision().0 - first == model.len() as u64 { model.push(state) }
        }
        for (n, state) in model.iter().enumerate() {
            let from = Revision(first + n as u64);
            let listed = store.list(&List { at: Some(from), ..List::all("k/") }).unwrap();
            let mut replayed: BTreeMap<String, String> = listed.entries.iter()
                .map(|e| (e.key.to_string(), String::from_utf8(e.bytes.to_vec()).unwrap())).collect();
            prop_assert_eq!(&replayed, state);
            let mut watch = store.watch("k/", from).unwrap();
            for (step, event) in drain(&mut watch).iter().enumerate() {
                prop_assert_eq!(event.revision.0, from.0 + 1 + step as u64);
                let value = String::from_utf8(event.bytes.to_vec()).unwrap();
                if event.deleted { replayed.remove(&*event.key); } else { replayed.insert(event.key.to_string(), value); }
                prop_assert_eq!(&replayed, &model[n + 1 + step]);
            }
            prop_assert_eq!(&replayed, model.last().unwrap());
        }
    }
}
