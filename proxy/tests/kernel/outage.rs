//! Without an API server the rules stay as they are; when it is back, what it says then is the truth.

use std::time::Duration;

use pintle_testkit::eventually;
use serde_json::json;

use crate::api::{Api, SERVICES, SLICES};
use crate::objects::{service, web};
use crate::running::{SOON, is_error, start};
use crate::world::{ask, nft_list, serve, world};

/// A client tries again every ten seconds at the latest.
const BACK_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn an_api_server_that_is_away_changes_nothing_and_one_that_is_back_is_listed_again() {
    let Some(world) = world("the proxy") else { return };
    let api = Api::new();
    for addr in ["10.42.0.2", "10.42.0.3"] {
        serve(&world.pod(addr), addr, 8080);
    }
    for (name, ip, pod) in [("web", "10.43.0.10", "10.42.0.2"), ("old", "10.43.0.11", "10.42.0.3")] {
        api.put(SERVICES, service(name, ip, json!({})));
        api.put(SLICES, web(name, &[pod]));
    }
    let proxy = start(&api);
    eventually("both Services answer", SOON, || ask("10.43.0.10:80").and(ask("10.43.0.11:80")).ok());
    eventually("the proxy is ready", SOON, || proxy.is_ready().then_some(()));
    let before = nft_list();

    api.set_up(false);
    // Nobody is told of these.
    api.put(SLICES, web("web", &["10.42.0.3"]));
    api.delete(SERVICES, service("old", "10.43.0.11", json!({})));
    api.delete(SLICES, web("old", &[]));
    api.put(SERVICES, service("new", "10.43.0.12", json!({})));
    api.put(SLICES, web("new", &["10.42.0.2"]));
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(100));
        assert!(ask("10.43.0.10:80").unwrap().starts_with("10.42.0.2"));
        // Nothing waits to be installed: as kube-proxy, it is healthy.
        assert!(proxy.is_healthy() && proxy.is_ready());
    }
    assert!(nft_list() == before, "the rules changed");

    api.set_up(true);
    eventually("the new Service answers", BACK_WITHIN, || ask("10.43.0.12:80").ok());
    eventually("the pod that took over answers", BACK_WITHIN, || {
        ask("10.43.0.10:80").ok().filter(|answer| answer.starts_with("10.42.0.3"))
    });
    eventually("the Service that went is gone", BACK_WITHIN, || {
        is_error(ask("10.43.0.11:80"), std::io::ErrorKind::TimedOut)
    });
    api.put(SLICES, web("new", &["10.42.0.3"]));
    eventually("changes come through again", SOON, || {
        ask("10.43.0.12:80").ok().filter(|answer| answer.starts_with("10.42.0.3"))
    });
    proxy.stop();
}
