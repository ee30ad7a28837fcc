//! The corpus of the fuzz target, replayed and mutated on stable, and bytes without any such past: `cargo fuzz run story`
//! goes on from there.

use proptest::prelude::*;

use crate::{bytes, iptables};

fn corpus() -> Vec<Vec<u8>> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/story");
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn happen(story: &[u8]) {
    bytes::happen(story);
    iptables::happen(story);
}

#[test]
fn every_story_of_the_corpus_is_planned_and_taken() {
    let all = corpus();
    assert!(all.len() > 30);
    all.iter().for_each(|story| happen(story));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_api_says_is_planned_and_taken(story in prop::collection::vec(any::<u8>(), 0..600)) {
        happen(&story);
    }

    #[test]
    fn stories_near_the_corpus_are_planned_and_taken(
        entry in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let all = corpus();
        let mut story = [&all[entry.index(all.len())][..], &all[other.index(all.len())]].concat();
        for (at, byte) in changes.iter().filter(|_| !all.is_empty()) {
            if !story.is_empty() {
                let at = at.index(story.len());
                story[at] = *byte;
            }
        }
        happen(&story);
    }
}
