//! What the planner makes of Services: every line of the behaviour users expect, told by packets walked through the
//! ruleset; golden rulesets and transactions; and the properties that hold for any order of changes.
#![expect(clippy::unwrap_used, reason = "tests")]

mod arbitrary;
mod behaviour;
mod between;
#[path = "../bytes/mod.rs"]
mod bytes;
mod changes;
mod connect;
mod golden;
mod happening;
mod iptables;
mod left_out;
mod objects;
mod recall;
mod small;
mod table;
mod userspace;

use pintle_proxy_plan::{Change, Config, Planner};

fn config() -> Config {
    let range = |text: &str| vec![text.parse().unwrap()];
    Config {
        node_addrs: vec!["192.0.2.1".parse().unwrap()],
        zone: Some("zone-a".into()),
        ..Config::new("here", range("10.42.0.0/16"), range("10.43.0.0/16"))
    }
}

/// How few Services are many ([`Config::fresh_from`]): none, or more than any test has.
fn fresh_from() -> impl proptest::strategy::Strategy<Value = usize> {
    proptest::prop_oneof![proptest::strategy::Just(0), proptest::strategy::Just(usize::MAX)]
}

fn planner(
    services: &[k8s_openapi::api::core::v1::Service],
    slices: &[k8s_openapi::api::discovery::v1::EndpointSlice],
) -> Planner {
    let mut planner = Planner::new(config());
    services.iter().for_each(|s| planner.note(Change::Service(s)));
    slices.iter().for_each(|s| planner.note(Change::Slice(s)));
    planner
}
