//! The corpora of the decoders' fuzz targets, replayed and mutated a little on stable: `cargo fuzz run` in runtime goes on
//! from there.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bytes;

use proptest::prelude::*;

use bytes::TARGETS;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = format!("{}/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn every_entry_of_every_corpus_is_survived() {
    for (name, read) in TARGETS {
        let all = corpus(name);
        assert!(all.len() > 10, "{name}");
        all.iter().for_each(|entry| read(entry));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_and_any_damage_to_the_corpora_are_survived(
        (name, read) in prop::sample::select(&TARGETS[..]), bytes in prop::collection::vec(any::<u8>(), 0..300),
        entry in any::<prop::sample::Index>(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        read(&bytes);
        let all = corpus(name);
        let mut damaged = entry.get(&all).clone();
        for (at, byte) in damage.iter().filter(|_| !entry.get(&all).is_empty()) {
            let at = at.index(damaged.len());
            damaged[at] = *byte;
        }
        read(&damaged);
        read(&damaged[..cut.index(damaged.len() + 1)]);
    }
}
