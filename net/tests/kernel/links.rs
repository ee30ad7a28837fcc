use std::path::Path;

use pintle_net::device::Step;
use pintle_net::link::NodeLink;
use pintle_net::pod::PodLink;
use pintle_net::{NetError, link, netns, pod, routes};

use crate::sandbox::{ask, ask_from, block_on, enter, inside, serve};

fn interfaces() -> Vec<String> {
    // /sys shows the namespace of whoever mounted it; /proc/thread-self/net/dev follows the thread.
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    text.lines().filter_map(|l| l.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect()
}

fn node_link(dir: &Path) -> NodeLink {
    NodeLink {
        netns: dir.join("netns/node"),
        host_name: "pintle0".into(),
        host_addr: "10.41.0.1/30".parse().unwrap(),
        node_name: "eth0".into(),
        node_addr: "10.41.0.2/30".parse().unwrap(),
        mtu: 1500,
        ranges: vec!["10.42.0.0/16".parse().unwrap(), "10.43.0.0/16".parse().unwrap()],
    }
}

#[test]
fn pods_of_one_node_reach_each_other_and_the_host_with_their_own_addresses() {
    let Some(dir) = enter("pod links") else { return };
    // A host always has some address of its own, from which it speaks to pods.
    let up = NodeLink { netns: dir.path().join("up"), ranges: vec![], ..node_link(dir.path()) };
    block_on(link::ensure(&up)).unwrap();
    let a = PodLink::new(dir.path(), "uid-a", "10.42.0.2".parse().unwrap());
    let b = PodLink::new(dir.path(), "uid-b", "10.42.0.3".parse().unwrap());
    block_on(pod::ensure(&a)).unwrap();
    block_on(pod::ensure(&b)).unwrap();

    let server = serve(Some(a.netns.clone()), 80, 2);
    assert_eq!(ask_from(&b.netns, a.addr, 80).unwrap(), "10.42.0.3");
    assert_eq!(ask(a.addr, 80).unwrap(), "10.41.0.1");
    server.join().unwrap();

    let server = serve(None, 81, 1);
    assert_eq!(ask_from(&a.netns, "10.41.0.1".parse().unwrap(), 81).unwrap(), "10.42.0.2");
    server.join().unwrap();
}

#[test]
fn a_pod_is_adopted_unchanged_repaired_where_broken_and_removed_without_trace() {
    let Some(dir) = enter("pod links") else { return };
    let pod = PodLink::new(dir.path(), "uid-a", "10.42.0.2".parse().unwrap());
    assert_eq!(block_on(pod::ensure(&pod)).unwrap()[0], Step::CreatePair);
    assert_eq!(block_on(pod::ensure(&pod)).unwrap(), []);
    assert_eq!(pod::list(dir.path()).unwrap(), ["uid-a"]);

    // The namespace went away (an unmount by hand): everything is made anew under the same name.
    netns::remove(&pod.netns).unwrap();
    assert!(block_on(pod::ensure(&pod)).unwrap().contains(&Step::CreatePair));
    assert_eq!(block_on(pod::ensure(&pod)).unwrap(), []);

    block_on(pod::remove(dir.path(), "uid-a")).unwrap();
    block_on(pod::remove(dir.path(), "uid-a")).unwrap();
    assert_eq!(interfaces(), ["lo"]);
    assert_eq!(pod::list(dir.path()).unwrap(), Vec::<String>::new());
}

#[test]
fn all_pods_can_be_removed_at_once_and_foreign_links_stay() {
    let Some(dir) = enter("pod links") else { return };
    block_on(link::ensure(&NodeLink {
        netns: dir.path().join("n"),
        host_name: "podman0".into(),
        ..node_link(dir.path())
    }))
    .unwrap();
    for n in 2..6 {
        let addr = format!("10.42.0.{n}").parse().unwrap();
        block_on(pod::ensure(&PodLink::new(dir.path(), &format!("uid-{n}"), addr))).unwrap();
    }
    // A crash in the middle of a creation leaves a file without a namespace on it.
    std::fs::write(dir.path().join("netns/half"), "").unwrap();
    block_on(pod::remove_all(dir.path())).unwrap();
    let mut left = interfaces();
    left.sort();
    assert_eq!(left, ["lo", "podman0"]);
    assert!(!dir.path().join("netns").exists());
}

#[test]
fn the_node_link_is_idempotent_refuses_taken_ranges_and_goes_completely() {
    let Some(dir) = enter("the node's link") else { return };
    let node = node_link(dir.path());
    assert!(!block_on(link::ensure(&node)).unwrap().is_empty());
    assert_eq!(block_on(link::ensure(&node)).unwrap(), []);

    let server = serve(Some(node.netns.clone()), 80, 1);
    assert_eq!(ask("10.41.0.2".parse().unwrap(), 80).unwrap(), "10.41.0.1");
    server.join().unwrap();

    let second = NodeLink {
        netns: dir.path().join("netns/second"),
        host_name: "pintle1".into(),
        host_addr: "10.41.0.5/30".parse().unwrap(),
        node_addr: "10.41.0.6/30".parse().unwrap(),
        ..node.clone()
    };
    let error = block_on(link::ensure(&second)).unwrap_err();
    assert!(matches!(error, NetError::RouteTaken { .. }), "{error}");
    block_on(link::remove(&second)).unwrap();

    block_on(link::remove(&node)).unwrap();
    block_on(link::remove(&node)).unwrap();
    assert_eq!(interfaces(), ["lo"]);
    assert!(!node.netns.exists());
}

#[test]
fn pods_of_two_nodes_on_one_link_reach_each_other_by_routes() {
    let Some(dir) = enter("routes between nodes") else { return };
    let link = NodeLink { ranges: vec![], ..node_link(dir.path()) };
    block_on(link::ensure(&link)).unwrap();
    let here = PodLink::new(&dir.path().join("a"), "uid-a", "10.42.0.2".parse().unwrap());
    let there = PodLink::new(&dir.path().join("b"), "uid-b", "10.42.1.2".parse().unwrap());
    block_on(pod::ensure(&here)).unwrap();
    inside(&link.netns, {
        let there = there.clone();
        move || async move { pod::ensure(&there).await }
    });

    let to_there = [("10.42.1.0/24".parse().unwrap(), "10.41.0.2".parse().unwrap())].into();
    let to_here = [("10.42.0.0/24".parse().unwrap(), "10.41.0.1".parse().unwrap())].into();
    let outcome = block_on(routes::sync(to_there)).unwrap();
    assert!(outcome.failed.is_empty() && outcome.done.len() == 1, "{outcome:?}");
    inside(&link.netns, || routes::sync(to_here));

    let server = serve(Some(there.netns.clone()), 80, 1);
    assert_eq!(ask_from(&here.netns, there.addr, 80).unwrap(), "10.42.0.2");
    server.join().unwrap();

    // Taking the node away takes its route away, and only that: the local pod stays reachable.
    let outcome = block_on(routes::sync([].into())).unwrap();
    assert_eq!(outcome.done.len(), 1);
    assert!(ask_from(&here.netns, there.addr, 80).is_err());
    assert_eq!(block_on(pod::ensure(&here)).unwrap(), []);
}

#[test]
fn a_node_that_is_not_on_our_link_is_reported_and_stops_nothing() {
    let Some(dir) = enter("routes between nodes") else { return };
    block_on(link::ensure(&NodeLink { ranges: vec![], ..node_link(dir.path()) })).unwrap();
    let wanted = [
        ("10.42.7.0/24".parse().unwrap(), "198.51.100.7".parse().unwrap()),
        ("10.42.8.0/24".parse().unwrap(), "10.41.0.2".parse().unwrap()),
    ];
    let outcome = block_on(routes::sync(wanted.into())).unwrap();
    assert_eq!(outcome.done.len(), 1);
    let shown = outcome.failed[0].1.to_string();
    assert_eq!(shown, "cannot add route 10.42.7.0/24 via 198.51.100.7");
}
