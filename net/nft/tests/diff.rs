//! The order of operations, and that applying a difference leaves none.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use pintle_nft::{
    Action, Chain, ChainKind, Data, DataType, Expr, Family, Hook, HookPoint, Name, Op, Reg, Ruleset, Set, SetKind,
    Table, TableId, Value, Verdict, diff, kernel::Kernel, text,
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

    # when packets under way have left
    delete element ip t ports { 0x00510000 }

    # when packets under way have left
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
    assert_eq!(diff::in_batches(joined, 100).concat(), transaction.batches.concat());
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

    /// The kernel takes every batch, wherever the operations are cut.
    #[test]
    fn the_kernel_takes_a_difference_cut_anywhere(
        one in anything(), other in anything(), max in 1..6_usize,
    ) {
        let mut kernel = Kernel::default();
        for wanted in [&one, &other, &one, &Ruleset::default()] {
            let whole = diff::diff(kernel.ruleset(), wanted);
            // A table made anew is made at one stroke; all else may be cut.
            let anew = whole.batches.iter().flatten().any(|op| op.action == Action::DelTable);
            let cut = if anew { whole.batches } else { diff::in_batches(whole.batches.concat(), max) };
            for batch in &cut {
                kernel.commit(batch).map_err(|e| TestCaseError::fail(e.to_string()))?;
            }
            prop_assert_eq!(kernel.ruleset(), wanted);
            prop_assert!(diff::diff(kernel.ruleset(), wanted).is_empty());
        }
    }
}

/// A ruleset of one table, whose entry has a hook or none, and whose set has one type or another.
fn anything() -> impl Strategy<Value = Ruleset> {
    let parts = (
        prop::collection::btree_map(0..20_u16, 0..5_u8, 0..8),
        prop::collection::btree_map(0..5_u8, 0..3_usize, 0..5),
        prop_oneof![6 => Just(None), 1 => Just(Some(100)), 1 => Just(Some(-100))],
        prop_oneof![6 => Just(None), 1 => Just(Some(DataType::Mark)), 1 => Just(Some(DataType::Ipv4Addr))],
    );
    parts.prop_map(|(ports, rules, priority, extra)| {
        let mut ruleset = ruleset(&ports, &rules);
        for table in ruleset.tables.values_mut() {
            if let (Some(priority), Some(entry)) = (priority, table.chains.get_mut("entry")) {
                entry.hook = Some(Hook { kind: ChainKind::Nat, at: HookPoint::Prerouting, priority });
            }
            if let Some(ty) = extra {
                table.sets.insert("extra".into(), Set::new(&[ty], SetKind::Plain));
            }
        }
        ruleset
    })
}

#[test]
fn the_kernel_refuses_what_leads_nowhere_and_what_is_still_led_to() {
    let id = TableId { family: Family::V4, name: "t".into() };
    let op = |action| Op { table: id.clone(), action };
    let before = ruleset(&[(80, 1)].into(), &[(1, 1)].into());
    let mut kernel = Kernel::default();
    for batch in diff::diff(&Ruleset::default(), &before).batches {
        kernel.commit(&batch).unwrap();
    }
    let key = Value::new().port(81);
    let goto = |chain: &str| Data::Verdict(Verdict::Goto(chain.into()));
    for (action, reason) in [
        (Action::DelChain("c1".into()), "something still leads there"),
        (Action::DelSet("ports".into()), "something still leads there"),
        (Action::AddChain("c1".into(), None), "it exists already"),
        (Action::AddElement("ports".into(), key, goto("c2")), "no such table, chain, set or element"),
        (Action::ReplaceElement("ports".into(), key, goto("c1")), "no such table, chain, set or element"),
        (Action::AddElement("ports".into(), key, Data::None), "a key or value is not of the set's type"),
        (
            Action::AddElement("ports".into(), Value::new().number(1).number(2), goto("c1")),
            "a key or value is not of the set's type",
        ),
    ] {
        let refused = kernel.commit(&[op(Action::FlushChain("c1".into())), op(action)]).unwrap_err();
        assert_eq!(refused.reason.to_string(), reason, "{refused}");
        assert_eq!(*kernel.ruleset(), before, "nothing of a refused batch is applied");
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
