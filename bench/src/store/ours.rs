//! The store that ships, through its own interface: its group commit, its map in memory, its revisions.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use pintle_store::{Change, DiskStore, Expect, List, Op, Store, Value};

use super::{BATCH_MAX, KEYS, LISTED, VALUE_BYTES, key, value, write_all};

fn op(key: String) -> Op {
    Op { key: key.into(), expect: Expect::Anything, change: Change::Put(Value::plain(value())) }
}

pub fn puts(dir: &Path, writers: usize, duration: Duration) -> Result<Vec<Duration>> {
    let store = DiskStore::open(dir).map_err(|error| anyhow!("{error}"))?;
    write_all(writers, duration, || {
        let store = &store;
        move |key| store.commit(vec![op(key)]).wait().map(drop).map_err(|error| anyhow!("{error}"))
    })
}

pub fn reads(dir: &Path) -> Result<(Duration, Duration)> {
    let store = DiskStore::open(dir).map_err(|error| anyhow!("{error}"))?;
    let numbers: Vec<usize> = (0..KEYS).collect();
    for batch in numbers.chunks(BATCH_MAX) {
        let ops = batch.iter().map(|number| op(key(*number))).collect();
        store.commit(ops).wait().map_err(|error| anyhow!("{error}"))?;
    }
    drop(store);
    let begin = Instant::now();
    let store = DiskStore::open(dir).map_err(|error| anyhow!("{error}"))?;
    let opened = begin.elapsed();
    let begin = Instant::now();
    let list = List { limit: LISTED, ..List::all("/registry/pods/") };
    let page = store.list(&list).map_err(|error| anyhow!("{error}"))?;
    let read: usize = page.entries.iter().map(|entry| entry.bytes.to_vec().len()).sum();
    if read < LISTED * VALUE_BYTES {
        bail!("only {read} bytes were listed");
    }
    Ok((opened, begin.elapsed()))
}
