//! Routes to other nodes' pod ranges: `<podCIDR> via <node address>`, for nodes on the same link. Owns exactly the
//! routes that carry our protocol number and have a gateway; everybody else's, and the ones to single pods of this
//! node, are left alone.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pintle_nft::Cidr;

use crate::rt::{RouteEntry, Rt};
use crate::{NetError, ROUTE_PROTOCOL, netns};

/// Which range is behind which node.
pub type NodeRoutes = BTreeMap<Cidr, IpAddr>;

/// One change of the routing table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Route a range through a node, in place of our earlier route to it.
    Add(Cidr, IpAddr),
    /// Remove our route to a range.
    Delete(Cidr, IpAddr),
}

/// A range that somebody else has a route for, so that ours cannot be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken(pub Cidr);

/// The routes as they are: ours, and the destinations that are somebody else's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Routes with our protocol number and a gateway.
    pub ours: NodeRoutes,
    /// Destinations of all other routes.
    pub foreign: Vec<Cidr>,
}

/// The changes from observed to wanted, and the wanted ranges that are taken by foreign routes.
#[must_use]
pub fn plan(wanted: &NodeRoutes, observed: &Observed) -> (Vec<Change>, Vec<Taken>) {
    let gone = observed.ours.iter().filter(|(dest, _)| !wanted.contains_key(dest));
    let mut changes: Vec<Change> = gone.map(|(d, v)| Change::Delete(*d, *v)).collect();
    let mut taken = Vec::new();
    for (dest, via) in wanted {
        if observed.ours.get(dest) == Some(via) {
            continue;
        }
        if observed.foreign.contains(dest) {
            taken.push(Taken(*dest));
        } else {
            changes.push(Change::Add(*dest, *via));
        }
    }
    (changes, taken)
}

/// What one [`sync`] did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The changes that were made.
    pub done: Vec<Change>,
    /// The changes the kernel refused, with the reason: a node that is not on one of our links, say.
    pub failed: Vec<(Change, NetError)>,
    /// Ranges left alone, since a foreign route leads there.
    pub taken: Vec<Taken>,
}

/// Observes, plans and applies in the caller's namespace. One refused route does not stop the others.
///
/// # Errors
/// When the routing table cannot be read.
pub async fn sync(wanted: NodeRoutes) -> Result<Outcome, NetError> {
    netns::on_thread(move || {
        let mut rt = Rt::open()?;
        let observed = observe(&mut rt)?;
        let (changes, taken) = plan(&wanted, &observed);
        let mut outcome = Outcome { taken, ..Outcome::default() };
        for change in changes {
            match apply(&mut rt, &change) {
                Ok(()) => outcome.done.push(change),
                Err(e) => outcome.failed.push((change, e)),
            }
        }
        Ok(outcome)
    })
    .await
}

/// The addresses of this namespace's interfaces, to find out which of several nodes we are on a link with.
///
/// # Errors
/// When they cannot be listed.
pub async fn local_addrs() -> Result<Vec<Cidr>, NetError> {
    netns::on_thread(local_addrs_here).await
}

/// Like [`local_addrs`], for callers that may block.
///
/// # Errors
/// As [`local_addrs`].
pub fn local_addrs_here() -> Result<Vec<Cidr>, NetError> {
    Rt::open()?.addrs(None)
}

fn observe(rt: &mut Rt) -> Result<Observed, NetError> {
    let mut observed = Observed::default();
    for route in rt.routes(None)? {
        match route.via {
            Some(via) if route.protocol == ROUTE_PROTOCOL && route.dest.prefix() > 0 => {
                observed.ours.insert(route.dest, via);
            }
            _ => observed.foreign.push(route.dest),
        }
    }
    Ok(observed)
}

fn apply(rt: &mut Rt, change: &Change) -> Result<(), NetError> {
    let entry = |dest: &Cidr, via: &IpAddr| RouteEntry {
        dest: *dest,
        via: Some(*via),
        oif: None,
        onlink: false,
        protocol: ROUTE_PROTOCOL,
    };
    match change {
        Change::Add(dest, via) => rt.replace_route(&entry(dest, via)),
        Change::Delete(dest, via) => rt.del_route(&entry(dest, via)),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn routes(list: &[(&str, &str)]) -> NodeRoutes {
        list.iter().map(|(d, v)| (d.parse().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn a_plan_adds_moves_and_deletes_ours_and_leaves_the_others() {
        let observed = Observed {
            ours: routes(&[
                ("10.42.1.0/24", "192.0.2.1"),
                ("10.42.2.0/24", "192.0.2.2"),
                ("10.42.3.0/24", "192.0.2.3"),
            ]),
            foreign: vec!["10.42.9.0/24".parse().unwrap(), "0.0.0.0/0".parse().unwrap()],
        };
        let wanted = routes(&[
            ("10.42.1.0/24", "192.0.2.1"),
            ("10.42.2.0/24", "192.0.2.22"),
            ("10.42.4.0/24", "192.0.2.4"),
            ("10.42.9.0/24", "192.0.2.9"),
        ]);
        let (changes, taken) = plan(&wanted, &observed);
        let shown: Vec<String> = changes.iter().map(|c| format!("{c:?}")).collect();
        assert_eq!(
            shown,
            [
                "Delete(Cidr { addr: 10.42.3.0, prefix: 24 }, 192.0.2.3)",
                "Add(Cidr { addr: 10.42.2.0, prefix: 24 }, 192.0.2.22)",
                "Add(Cidr { addr: 10.42.4.0, prefix: 24 }, 192.0.2.4)",
            ]
        );
        assert_eq!(taken, [Taken("10.42.9.0/24".parse().unwrap())]);
    }

    #[test]
    fn planning_after_applying_yields_nothing() {
        let wanted = routes(&[("10.42.1.0/24", "192.0.2.1")]);
        let observed = Observed { ours: wanted.clone(), foreign: vec![] };
        assert_eq!(plan(&wanted, &observed), (vec![], vec![]));
    }
}
