//! What the ruleset and its changes look like.

use pintle_nft::text;
use pintle_proxy_plan::Change;
use serde_json::json;

use crate::objects::{service, web};
use crate::planner;

#[test]
fn the_ruleset_of_one_service_reads_as_it_works() {
    let spec = json!({"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    let mut planner = planner(&[service("web", "10.43.0.10", spec)], &[web("web", &["10.42.0.2@here", "10.42.1.2"])]);
    planner.update();
    insta::assert_snapshot!(text::ruleset(&planner.full()), @r#"
    table ip pintle {
      map endpoints {
        type ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service
        10.43.0.10 . tcp . 80 . 0 : 10.42.0.2 . 8080
        10.43.0.10 . tcp . 80 . 1 : 10.42.1.2 . 8080
      }
      set hairpin {
        type ipv4_addr . ipv4_addr
        10.42.0.2 . 10.42.0.2
      }
      map node-ports {
        type inet_proto . inet_service : verdict
        tcp . 30080 : goto port-external-2
      }
      map port-endpoints {
        type inet_proto . inet_service . mark : ipv4_addr . inet_service
        tcp . 30080 . 0 : 10.42.0.2 . 8080
        tcp . 30080 . 1 : 10.42.1.2 . 8080
      }
      map service-ips {
        type ipv4_addr . inet_proto . inet_service : verdict
        10.43.0.10 . tcp . 80 : goto cluster-2
      }
      set unused-ports {
        type ipv4_addr
        10.43.0.10
      }
      chain as-node {
        meta mark set meta mark & 0xffffbfff
        masquerade fully-random
      }
      chain cluster-2 {
        ip saddr & 255.255.0.0 != 10.42.0.0 meta mark set meta mark & 0xffffbfff ^ 0x00004000
        dnat to ip daddr . meta l4proto . th dport . numgen random mod 2 map @endpoints
        drop
      }
      chain egress {
        ip saddr & 255.255.0.0 10.42.0.0 ip daddr & 255.255.0.0 != 10.42.0.0 ip daddr & 240.0.0.0 != 224.0.0.0 masquerade fully-random
      }
      chain output {
        type nat hook output priority -100; policy accept;
        jump services
      }
      chain port-external-2 {
        meta mark set meta mark & 0xffffbfff ^ 0x00004000
        dnat to meta l4proto . th dport . numgen random mod 2 map @port-endpoints
        drop
      }
      chain postrouting {
        type nat hook postrouting priority 100; policy accept;
        meta mark & 0x00004000 != 0 goto as-node
        ip saddr . ip daddr @hairpin masquerade fully-random
        goto egress
      }
      chain prerouting {
        type nat hook prerouting priority -100; policy accept;
        jump services
      }
      chain refuse {
        meta l4proto tcp reject with tcp reset
        reject
      }
      chain services {
        ip daddr . meta l4proto . th dport vmap @service-ips
        ip daddr @unused-ports goto refuse
        ip daddr & 255.255.0.0 10.43.0.0 drop
        fib daddr type local ip daddr & 255.0.0.0 != 127.0.0.0 meta l4proto . th dport vmap @node-ports
      }
    }
    "#);
}

#[test]
fn a_change_is_as_large_as_what_changed() {
    let services: Vec<_> = (1..100).map(|n| service(&format!("s{n}"), &format!("10.43.0.{n}"), json!({}))).collect();
    let slices: Vec<_> = (1..100).map(|n| web(&format!("s{n}"), &["10.42.1.2", "10.42.1.3"])).collect();
    let mut planner = planner(&services, &slices);
    planner.update();

    let mut story = String::new();
    let mut tell = |what: &str, update: pintle_proxy_plan::Update| {
        story += &format!("{what}\n{}\n", text::transaction(&update.transaction));
    };
    planner.note(Change::Slice(&web("s7", &["10.42.1.2", "10.42.1.4"])));
    tell("one endpoint is another", planner.update());
    planner.note(Change::Slice(&web("s7", &["10.42.1.2", "10.42.1.4", "10.42.1.5"])));
    tell("one endpoint more, the first Service with three", planner.update());
    planner.note(Change::Slice(&web("s8", &[])));
    tell("no endpoints", planner.update());
    planner.note(Change::ServiceGone(&services[6]));
    tell("the Service is gone, and with it the only one with three", planner.update());
    planner.note(Change::Slice(&web("s9", &["10.42.1.2", "10.42.1.3"])));
    tell("nothing really changed", planner.update());
    insta::assert_snapshot!(story, @r#"
    one endpoint is another
    replace element ip pintle endpoints { 0x0a2b0007060000000050000001000000 : 0x0a2a01041f900000 }

    one endpoint more, the first Service with three
    add chain ip pintle cluster-3
    add rule ip pintle cluster-3 ip saddr & 255.255.0.0 != 10.42.0.0 meta mark set meta mark & 0xffffbfff ^ 0x00004000
    add rule ip pintle cluster-3 dnat to ip daddr . meta l4proto . th dport . numgen random mod 3 map @endpoints
    add rule ip pintle cluster-3 drop

    add element ip pintle endpoints { 0x0a2b0007060000000050000002000000 : 0x0a2a01051f900000 }
    replace element ip pintle service-ips { 0x0a2b00070600000000500000 : goto cluster-3 }

    no endpoints
    replace element ip pintle service-ips { 0x0a2b00080600000000500000 : goto refuse }

    # when packets under way have left
    delete element ip pintle endpoints { 0x0a2b0008060000000050000000000000 }
    delete element ip pintle endpoints { 0x0a2b0008060000000050000001000000 }

    the Service is gone, and with it the only one with three
    delete element ip pintle unused-ports { 0x0a2b0007 }
    delete element ip pintle service-ips { 0x0a2b00070600000000500000 }

    # when packets under way have left
    delete element ip pintle endpoints { 0x0a2b0007060000000050000000000000 }
    delete element ip pintle endpoints { 0x0a2b0007060000000050000001000000 }
    delete element ip pintle endpoints { 0x0a2b0007060000000050000002000000 }
    flush chain ip pintle cluster-3
    delete chain ip pintle cluster-3

    nothing really changed
    "#);
}
