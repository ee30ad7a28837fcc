//! Who is in the small table, where there is one, and for how long.

use pintle_nft::Action;
use pintle_proxy_plan::base::{NODE_PORTS, SERVICE_IPS};
use pintle_proxy_plan::small::Home;
use pintle_proxy_plan::{Config, Planner};

use crate::config;
use crate::happening::{Happening, note};

/// Loaded with one settled Service, `s0`, with session affinity or without.
fn loaded(shape: u8) -> Planner {
    let mut planner = Planner::new(Config { fresh_from: 0, ..config() });
    [put(0, shape), servers(0, 2)].iter().for_each(|step| note(&mut planner, step));
    planner.absorb();
    planner.load(100).for_each(drop);
    planner
}

fn put(service: u8, shape: u8) -> Happening {
    Happening::Put { service, vip: 2 * service, shape }
}

fn servers(service: u8, count: u8) -> Happening {
    Happening::Endpoints { service, list: (0..count).map(|n| (n, 1)).collect() }
}

/// How many frontends are in the large table and in the small one.
fn frontends(planner: &Planner) -> [usize; 2] {
    let full = planner.full();
    Home::ALL.map(|home| {
        let sets = &full.tables[&home.beside(&planner.table())].sets;
        [SERVICE_IPS, NODE_PORTS].iter().map(|name| sets[*name].elements.len()).sum()
    })
}

/// What is where after each step, and whether the step led a packet elsewhere by a change of the large table.
fn told(planner: &mut Planner, steps: &[Happening]) -> Vec<([usize; 2], bool)> {
    let tell = |step: &Happening| {
        note(planner, step);
        let (transaction, large) = (planner.update().transaction, planner.table());
        let leads = |action: &Action| match action {
            Action::AddElement(set, ..) | Action::ReplaceElement(set, ..) => {
                [SERVICE_IPS, NODE_PORTS].contains(&&**set)
            }
            _ => false,
        };
        let in_large = transaction.batches.iter().flatten().any(|op| op.table == large && leads(&op.action));
        (frontends(planner), in_large)
    };
    steps.iter().map(tell).collect()
}

#[test]
fn who_is_new_or_gets_another_number_of_servers_is_in_the_small_table_until_it_settles() {
    let mut planner = loaded(0);
    assert_eq!(frontends(&planner), [2, 0]);
    let steps =
        [servers(0, 3), put(1, 4), servers(1, 2), Happening::Settle, servers(1, 2), Happening::Gone { service: 1 }];
    // Each has an address and a node port; the second is a load balancer too.
    let wanted = [([0, 2], false), ([0, 5], false), ([0, 5], false), ([5, 0], true), ([5, 0], false), ([2, 0], false)];
    assert_eq!(told(&mut planner, &steps), wanted);
}

#[test]
fn clients_stay_where_they_are_remembered_in_the_large_table() {
    let mut planner = loaded(2);
    assert_eq!(frontends(&planner), [2, 0]);
    let steps = [servers(0, 3), put(1, 0), servers(1, 1), put(1, 2)];
    // The second is fresh until it has session affinity.
    assert_eq!(told(&mut planner, &steps), [([2, 0], false), ([2, 2], false), ([2, 2], false), ([4, 0], true)]);
}

#[test]
fn what_takes_longer_to_move_than_to_look_for_does_not_move() {
    let mut planner = loaded(0);
    let many = Happening::Endpoints { service: 0, list: (0..=250).map(|n| (n, 1)).collect() };
    assert_eq!(told(&mut planner, &[many]), [([2, 0], true)]);
}
