//! The corpus of the fuzz target, replayed and mutated a little on stable: `cargo fuzz run config` goes on from there.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bytes;

use proptest::prelude::*;

fn corpus() -> Vec<Vec<u8>> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/config");
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut all: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    all.push(include_bytes!("full.json").to_vec());
    all
}

#[test]
fn no_entry_of_the_corpus_makes_planning_panic() {
    let all = corpus();
    assert!(all.len() > 5);
    all.iter().for_each(|entry| bytes::decide(entry));
}

/// What stands between two commas or colons is where meaning is: numbers become odd ones, strings other strings.
const ODD: [&str; 14] = [
    "null",
    "true",
    "-1",
    "0",
    "18446744073709551615",
    "-9223372036854775808",
    "1e308",
    "4294967296",
    "\"\"",
    "\"\\u0000\"",
    "[]",
    "{}",
    "\"../..\"",
    "\"/proc/self/fd/9\"",
];

/// Puts an odd value in the place of the `n`th scalar.
fn with_odd_value(text: &str, n: usize, odd: &str) -> String {
    let starts: Vec<usize> = text.match_indices(':').map(|(at, _)| at + 1).collect();
    let Some(start) = starts.get(n % starts.len().max(1)) else { return odd.to_owned() };
    let rest = &text[*start..];
    let end = rest.find([',', '}', ']']).unwrap_or(rest.len());
    format!("{}{odd}{}", &text[..*start], &rest[end..])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_near_the_corpus_makes_planning_panic(entry in 0usize..64, n in 0usize..400, odd in 0usize..14, cut in any::<Option<u8>>()) {
        let all = corpus();
        let text = String::from_utf8_lossy(&all[entry % all.len()]).into_owned();
        let mut mutated = with_odd_value(&text, n, ODD[odd]);
        mutated = with_odd_value(&mutated, n / 3, ODD[(odd + n) % ODD.len()]);
        if let Some(cut) = cut {
            let at = mutated.len() * usize::from(cut) / 255;
            mutated.truncate(mutated.char_indices().map(|(at, _)| at).take_while(|start| *start <= at).last().unwrap_or(0));
        }
        bytes::decide(mutated.as_bytes());
    }
}
