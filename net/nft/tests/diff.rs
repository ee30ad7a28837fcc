//! The order of operations, and that applying a difference leaves none.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use pintle_nft::{
    Chain, Data, DataType, Expr, Family, Name, Reg, Ruleset, Set, SetKind, Table, TableId, Transaction, Value, Verdict,
    diff, text,
};
use proptest::prelude::*;

/// A table from what tells two apart: ports that lead to chains, and how many rules each chain has.
fn ruleset(ports: &BTreeMap<u16, u8>, rules: &BTreeMap<u8, usize>) -> Ruleset {
    let mut table = Table::default();
    let mut map = Set::new(&[DataType::InetService], SetKind::Verdicts);
    for (port, chain) in ports {
        let goto = Verdict::Goto(format!("c{chain}").into());
        map.elements.insert(Value::new().port(*port), Data::Verdict(goto));
        rules.get(chain).map_or_else(|| drop(table.chains.insert(name(*chain), Chain::default())), |_| ());
    }
    for (chain, count) in rules {
        let rules = vec![vec![Expr::Counter]; *count];
        table.chains.insert(name(*chain), Chain { hook: None, rules });
    }
    let lookup = vec![Expr::Vmap { set: "ports".into(), source: Reg::new(0) }];
    table.chains.insert("entry".into(), Chain { hook: None, rules: vec![lookup] });
    table.sets.insert("ports".into(), map);
    Ruleset { tables: BTreeMap::from([(TableId { family: Family::V4, name: "t".into() }, table)]) }
}

fn name(chain: u8) -> Name {
    format!("c{chain}").into()
}

#[test]
fn what_is_led_to_comes_before_and_goes_after_what_leads_there() {
    let before = ruleset(&[(80, 1), (81, 1)].into(), &[(1, 1)].into());
    let after = ruleset(&[(80, 2), (82, 2)].into(), &[(2, 1)].into());
    insta::assert_snapshot!(text::transaction(&diff::diff(&before, &after)), @r"
    add chain ip t c2
    add rule ip t c2 counter
    replace element ip t ports { 0x00500000 : goto c2 }
    add element ip t ports { 0x00520000 : goto c2 }
    delete element ip t ports { 0x00510000 }
    delete chain ip t c1
    ");
}

#[test]
fn a_full_push_works_whether_or_not_there_is_a_table_and_is_one_batch() {
    let wanted = ruleset(&(1..9000).map(|p| (p, 1)).collect(), &[(1, 1)].into());
    let push = diff::replace(&wanted);
    assert_eq!(push.batches.len(), 1);
    let head: Vec<String> = push.batches[0].iter().take(3).map(text::op).collect();
    assert_eq!(head, ["add table ip t", "delete table ip t", "add table ip t"]);
    for mut installed in [Ruleset::default(), wanted.clone(), ruleset(&[].into(), &[].into())] {
        diff::apply(&mut installed, &push);
        assert_eq!(installed, wanted);
    }
}

#[test]
fn batches_are_bounded_and_keep_the_order() {
    let wanted = ruleset(&(1..20_000).map(|p| (p, 1)).collect(), &[(1, 1)].into());
    let transaction = diff::diff(&Ruleset::default(), &wanted);
    assert!(transaction.batches.iter().all(|b| b.len() <= diff::BATCH_MAX) && transaction.batches.len() == 3);
    let joined: Vec<_> = transaction.batches.concat();
    assert_eq!(Transaction::in_batches(joined, 100).batches.concat(), transaction.batches.concat());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn applying_a_difference_leaves_none(
        ports in prop::collection::btree_map(0..20_u16, 0..5_u8, 0..8),
        rules in prop::collection::btree_map(0..5_u8, 0..3_usize, 0..5),
        ports_after in prop::collection::btree_map(0..20_u16, 0..5_u8, 0..8),
        rules_after in prop::collection::btree_map(0..5_u8, 0..3_usize, 0..5),
    ) {
        let (mut installed, wanted) = (ruleset(&ports, &rules), ruleset(&ports_after, &rules_after));
        let transaction = diff::diff(&installed, &wanted);
        diff::apply(&mut installed, &transaction);
        prop_assert_eq!(&installed, &wanted);
        prop_assert!(diff::diff(&installed, &wanted).is_empty());
    }
}

#[test]
fn removing_a_table_needs_no_table() {
    let id = TableId { family: Family::V4, name: "t".into() };
    let mut installed = Ruleset::default();
    diff::apply(&mut installed, &diff::remove(std::slice::from_ref(&id)));
    assert!(installed.tables.is_empty());
    let first = diff::remove(&[id]).batches.into_iter().next().unwrap();
    assert_eq!(first.iter().map(text::op).collect::<Vec<_>>(), ["add table ip t", "delete table ip t"]);
}
