//! A store whose process is killed holds everything it acknowledged.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use pintle_store::{Change, DiskStore, Expect, Op, Store, Value};

const CHILD: &str = "PINTLE_STORE_CRASH_DIRECTORY";

/// The child: writes without end and prints each key once it is acknowledged.
fn write_for_ever(directory: &str) {
    let store = DiskStore::open(directory.as_ref()).unwrap();
    for n in 0u64.. {
        let key = format!("k/{n}");
        let change = Change::Put(Value::plain(vec![b'x'; 700]));
        store.commit(vec![Op { key: key.into(), expect: Expect::Absent, change }]).wait().unwrap();
        println!("ack {n}");
    }
}

#[test]
fn after_kill_9_everything_acknowledged_is_there() {
    if let Ok(directory) = std::env::var(CHILD) {
        return write_for_ever(&directory);
    }
    let directory = tempfile::tempdir().unwrap();
    for round in 0..3u64 {
        let path = directory.path().join(round.to_string());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "after_kill_9_everything_acknowledged_is_there", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let acknowledged = lines.by_ref().map(Result::unwrap).filter(|line| line.starts_with("ack "));
        assert_eq!(acknowledged.take(20 + 17 * usize::try_from(round).unwrap()).count() as u64, 20 + 17 * round);
        child.kill().unwrap();
        // What it printed between our last look and its death was acknowledged too.
        let last = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("ack ")?.parse::<u64>().ok()).last();
        child.wait().unwrap();
        let last = last.unwrap_or(19 + 17 * round);
        let store = DiskStore::open(&path).unwrap();
        for n in 0..=last {
            assert!(store.get(&format!("k/{n}")).is_some(), "k/{n} of {last} was acknowledged and is lost");
        }
    }
}
