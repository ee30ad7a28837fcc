//! Random stories of Services and endpoints, with everything that has chains of its own or is shared.

use pintle_proxy_plan::{Change, Planner};
use proptest::prelude::*;
use serde_json::json;

use crate::objects::{service, web};

/// One step of a random story: which Service, what happens to it, and how.
#[derive(Clone, Debug)]
pub enum Happening {
    Put { service: u8, vip: u8, shape: u8 },
    Gone { service: u8 },
    Endpoints { service: u8, list: Vec<(u8, u8)> },
    SliceGone { service: u8 },
    Settle,
}

/// Any step.
pub fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0..4_u8, 0..5_u8, 0..8_u8).prop_map(|(service, vip, shape)| Happening::Put { service, vip, shape }),
        (0..4_u8).prop_map(|service| Happening::Gone { service }),
        (0..4_u8, prop::collection::vec((0..4_u8, 0..6_u8), 0..4))
            .prop_map(|(service, list)| Happening::Endpoints { service, list }),
        (0..4_u8).prop_map(|service| Happening::SliceGone { service }),
        Just(Happening::Settle),
    ]
}

/// Tells the planner.
pub fn note(planner: &mut Planner, happening: &Happening) {
    if matches!(happening, Happening::Settle) {
        planner.settle();
    }
    tell(happening, |change| planner.note(change));
}

/// Tells anybody.
pub fn tell(happening: &Happening, mut note: impl FnMut(Change<'_>)) {
    let name = |s: &u8| format!("s{s}");
    let object = |s: &u8, vip: u8, shape: u8| {
        let mut spec = json!({"ports": [{"name": "http", "port": 80, "nodePort": 30000 + u16::from(vip / 2)}]});
        if shape & 1 != 0 {
            spec["externalTrafficPolicy"] = json!("Local");
        }
        if shape & 2 != 0 {
            spec["sessionAffinity"] = json!("ClientIP");
        }
        if shape & 4 != 0 {
            spec["type"] = json!("LoadBalancer");
            spec["ingress"] = json!([{"ip": "198.51.100.2"}]);
            spec["loadBalancerSourceRanges"] = json!(["203.0.113.0/24"]);
        }
        service(&name(s), &format!("10.43.0.{}", vip + 1), spec)
    };
    match happening {
        Happening::Put { service, vip, shape } => note(Change::Service(&object(service, *vip, *shape))),
        Happening::Gone { service } => note(Change::ServiceGone(&object(service, 0, 0))),
        Happening::Endpoints { service, list } => {
            let states = ["@here", "", "!unready", "@here!leaving", "!leaving", "!gone"];
            let texts: Vec<String> =
                list.iter().map(|(a, s)| format!("10.42.0.{}{}", a + 2, states[usize::from(*s)])).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            note(Change::Slice(&web(&name(service), &texts)));
        }
        Happening::Settle => {}
        Happening::SliceGone { service } => note(Change::SliceGone(&web(&name(service), &[]))),
    }
}
