//! Who belongs to whom, told from connections.

use std::net::{IpAddr, SocketAddr};

use pintle_nft::{Flow, Proto};
use pintle_proxy_plan::recall::Sticky;
use serde_json::json;

use crate::objects::{service, web};
use crate::planner;

fn flow(client: &str, frontend: &str, server: &str) -> Flow {
    let of = |text: &str| text.parse::<SocketAddr>().map(|a| (a.ip(), a.port())).unwrap();
    Flow { client: of(client), frontend: of(frontend), server: of(server), proto: Proto::Tcp, is_answered: true }
}

#[test]
fn a_client_belongs_to_the_server_that_its_connections_show_and_the_rules_look_for_it_there() {
    let sticky = json!({
        "type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
        "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
    });
    let services = [service("web", "10.43.0.10", sticky), service("any", "10.43.0.11", json!({}))];
    let slices = [web("web", &["10.42.0.2@here", "10.42.1.2"]), web("any", &["10.42.0.2@here"])];
    let mut planner = planner(&services, &slices);
    planner.update();
    let index = Sticky::of(planner.map());
    assert_eq!(index.protocols().into_iter().collect::<Vec<_>>(), [Proto::Tcp]);
    let clients = index.clients(&[
        flow("10.42.0.9:4000", "10.43.0.10:80", "10.42.1.2:8080"),
        // The first counts.
        flow("10.42.0.9:4001", "10.43.0.10:80", "10.42.0.2:8080"),
        flow("203.0.113.5:4000", "192.0.2.1:30080", "10.42.0.2:8080"),
        // A server that is gone, a Service without affinity, another port, and one that was never translated.
        flow("10.42.0.7:4000", "10.43.0.10:80", "10.42.1.9:8080"),
        flow("10.42.0.7:4000", "10.43.0.11:80", "10.42.0.2:8080"),
        flow("10.42.0.7:4000", "10.43.0.10:81", "10.42.0.2:8080"),
        flow("10.42.0.7:4000", "192.0.2.9:30080", "192.0.2.9:30080"),
    ]);
    let mut known: Vec<(IpAddr, u64)> = clients.values().flatten().map(|(client, ms)| (*client, *ms)).collect();
    known.sort_unstable();
    let wanted = [("10.42.0.9", 60_000), ("203.0.113.5", 60_000)];
    assert_eq!(known, wanted.map(|(client, ms)| (client.parse::<IpAddr>().unwrap(), ms)));
    let ruleset = planner.full();
    let table = ruleset.tables.values().next().unwrap();
    assert!(clients.keys().all(|set| table.sets.contains_key(set)), "{clients:?}");
}
