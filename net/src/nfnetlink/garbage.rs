//! Any bytes given to every reader of datagrams: none may panic or read without end, and what is understood must be
//! written as it was read. Only tests and the fuzz target compile it.

use pintle_nft::{Family, TableId};

use super::encode::{kind, msg};
use super::wire::{Attrs, Message, Writer};
use super::{conntrack, members, monitor};

/// The longest key of a set (NFT_DATA_VALUE_MAXLEN of linux/netfilter/nf_tables.h).
const KEY_MAX: usize = 64;

/// Reads a datagram in every way there is.
///
/// # Panics
/// When a member of a set does not come out of a message as it went in.
pub fn read(datagram: &[u8]) {
    let table = TableId { family: Family::V4, name: "pintle".into() };
    for message in Message::all(datagram) {
        visit(message.attrs(), 4);
        message.errno();
        monitor::touches(std::slice::from_ref(&table), &message);
        conntrack::read(&message);
        for member in members::of(&message).filter(|m| m.key.len() <= KEY_MAX) {
            let mut w = Writer::default();
            w.begin(kind(msg::NEWSETELEM), 0, 1, 2, 0);
            w.nested(3, |w| members::write(w, &member));
            w.end();
            let again: Vec<members::Member> = Message::all(&w.bytes).flat_map(|m| members::of(&m)).collect();
            assert_eq!(again, [members::Member { expires_ms: member.expires_ms.max(1), ..member }]);
        }
    }
}

/// Looks at everything there is, as deep as attributes go.
fn visit(attrs: Attrs<'_>, depth: u8) -> usize {
    let read = [attrs.u16(1).is_some(), attrs.u32(2).is_some(), attrs.u64(5).is_some(), attrs.text(1).is_some()];
    let inner = attrs.into_iter().map(|(_, value)| if depth == 0 { 0 } else { visit(Attrs(value), depth - 1) });
    read.iter().filter(|r| **r).count() + inner.sum::<usize>()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    fn corpus() -> Vec<Vec<u8>> {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/datagram");
        let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
    }

    #[test]
    fn every_datagram_of_the_corpus_is_survived() {
        let all = corpus();
        assert!(all.len() > 10);
        all.iter().for_each(|datagram| super::read(datagram));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_and_any_damage_to_the_corpus_are_survived(
            bytes in prop::collection::vec(any::<u8>(), 0..300), entry in any::<prop::sample::Index>(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            super::read(&bytes);
            let all = corpus();
            let mut damaged = all[entry.index(all.len())].clone();
            for (at, byte) in damage.iter().filter(|_| !all[entry.index(all.len())].is_empty()) {
                let at = at.index(damaged.len());
                damaged[at] = *byte;
            }
            super::read(&damaged);
            super::read(&damaged[..cut.index(damaged.len() + 1)]);
        }
    }
}
