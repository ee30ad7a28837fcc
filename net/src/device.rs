//! A veth pair between the host's namespace and a named one: what it should look like, and the steps from what is
//! there to that. `plan` is pure; `ensure` observes, plans and applies, and is the one way pods' links and the node's
//! link are made. Owns nothing but pairs: the namespace itself is [`crate::netns`]'s.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use pintle_nft::Cidr;

use crate::rt::{End, Mac, RouteEntry, Rt};
use crate::{NetError, ROUTE_PROTOCOL, netns};

/// One end of a pair, as wanted. Routes and neighbours that the kernel adds by itself are not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Interface name, at most 15 bytes.
    pub name: String,
    /// Link-layer address.
    pub mac: Mac,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Interface addresses with their prefix lengths.
    pub addrs: BTreeSet<Cidr>,
    /// Routes out of this device.
    pub routes: BTreeSet<Route>,
    /// Neighbours whose link-layer address is pinned.
    pub neighbours: BTreeSet<(IpAddr, Mac)>,
}

/// A route out of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The gateway; `None` for destinations on the link. Directly reachable ones sort first, so that a gateway's own
    /// route is there before the routes through it.
    pub via: Option<Gateway>,
    /// Where it leads.
    pub dest: Cidr,
}

/// The next hop of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gateway {
    /// Its address.
    pub addr: IpAddr,
    /// How the kernel knows that it is on this link.
    pub reach: Reach,
}

/// Whether a gateway is reachable by another route, or simply said to be on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Another route covers it.
    Routed,
    /// No route covers it: it is on this link because we say so.
    Onlink,
}

/// Both ends of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The end in the calling thread's namespace.
    pub host: Device,
    /// The end in the named namespace.
    pub inside: Device,
    /// What to do when somebody else has a route to the same destination on the host.
    pub conflict: Conflict,
}

/// What to do with a foreign route to a destination that the host end needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Put ours in its place: the destination is ours (a pod's own address).
    Replace,
    /// Fail and say so: the machine had it before us.
    Refuse,
}

/// One end of a pair as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Interface index, valid as long as the interface lives.
    pub index: u32,
    /// Link-layer address.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Interface addresses, IPv4 only: the kernel's own IPv6 link-local ones are left alone.
    pub addrs: BTreeSet<Cidr>,
    /// Routes with our protocol number.
    pub routes: BTreeSet<Route>,
    /// Permanent neighbour entries.
    pub neighbours: BTreeSet<(IpAddr, Mac)>,
}

/// Which end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The end in the calling thread's namespace.
    Host,
    /// The end in the named namespace.
    Inside,
}

/// One step from observed to wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Delete the host end (and with it the other one).
    DeleteHost,
    /// Delete the inside end, an orphan or a stranger in our place.
    DeleteInside,
    /// Make the pair, both ends down.
    CreatePair,
    /// Set the MTU and bring the end up.
    Up(Side),
    /// Add an address.
    AddAddr(Side, Cidr),
    /// Remove an address that is not wanted any more.
    DelAddr(Side, Cidr),
    /// Pin a neighbour's link-layer address.
    Pin(Side, IpAddr, Mac),
    /// Add a route.
    AddRoute(Side, Route),
    /// Remove a route of ours that is not wanted any more.
    DelRoute(Side, Route),
}

/// The steps that turn what is there into what is wanted, in order; none when they agree.
#[must_use]
pub fn plan(wanted: &Pair, host: Option<&Observed>, inside: Option<&Observed>) -> Vec<Step> {
    let mut steps = Vec::new();
    let fits = |o: Option<&Observed>, w: &Device| o.is_some_and(|o| o.mac == Some(w.mac));
    let keep = fits(host, &wanted.host) && fits(inside, &wanted.inside);
    if !keep {
        if host.is_some() {
            steps.push(Step::DeleteHost);
        }
        if inside.is_some() {
            steps.push(Step::DeleteInside);
        }
        steps.push(Step::CreatePair);
    }
    configure(&mut steps, Side::Inside, &wanted.inside, inside.filter(|_| keep));
    configure(&mut steps, Side::Host, &wanted.host, host.filter(|_| keep));
    steps
}

fn configure(steps: &mut Vec<Step>, side: Side, wanted: &Device, observed: Option<&Observed>) {
    let none = BTreeSet::new();
    let none_routes = BTreeSet::new();
    let none_neighbours = BTreeSet::new();
    let (addrs, routes, neighbours, ready) = match observed {
        Some(o) => (&o.addrs, &o.routes, &o.neighbours, o.up && o.mtu == wanted.mtu),
        None => (&none, &none_routes, &none_neighbours, false),
    };
    steps.extend(routes.difference(&wanted.routes).map(|r| Step::DelRoute(side, *r)));
    steps.extend(addrs.difference(&wanted.addrs).map(|a| Step::DelAddr(side, *a)));
    steps.extend(wanted.addrs.difference(addrs).map(|a| Step::AddAddr(side, *a)));
    if !ready {
        steps.push(Step::Up(side));
    }
    steps.extend(wanted.neighbours.difference(neighbours).map(|(a, m)| Step::Pin(side, *a, *m)));
    steps.extend(wanted.routes.difference(routes).map(|r| Step::AddRoute(side, *r)));
}

/// Makes the namespace at `netns` and the pair into it, or repairs what differs. Returns the steps that were needed:
/// none when everything was there. Must run on a thread of its own, which ends up inside the namespace.
///
/// # Errors
/// The first step that failed. Running it again continues where it stopped.
pub(crate) fn ensure(netns_path: &Path, wanted: &Pair) -> Result<Vec<Step>, NetError> {
    let mut host = Rt::open()?;
    netns::create_here(netns_path)?;
    let file = File::open(netns_path).map_err(|e| NetError::file("open network namespace", netns_path, e))?;
    let mut inside = Rt::open()?;
    if let Some(lo) = inside.link("lo")?.filter(|lo| !lo.up) {
        inside.set_up(lo.index, 0)?;
    }
    let steps = plan(
        wanted,
        observe(&mut host, &wanted.host.name)?.as_ref(),
        observe(&mut inside, &wanted.inside.name)?.as_ref(),
    );
    let mut hands = Hands { host, inside, netns: file, wanted };
    for step in &steps {
        hands.apply(step)?;
    }
    Ok(steps)
}

fn observe(rt: &mut Rt, name: &str) -> Result<Option<Observed>, NetError> {
    let Some(link) = rt.link(name)? else { return Ok(None) };
    let route = |r: RouteEntry| {
        let reach = if r.onlink { Reach::Onlink } else { Reach::Routed };
        Route { dest: r.dest, via: r.via.map(|addr| Gateway { addr, reach }) }
    };
    Ok(Some(Observed {
        index: link.index,
        mac: link.mac,
        mtu: link.mtu,
        up: link.up,
        addrs: rt.addrs(Some(link.index))?.into_iter().filter(|a| a.addr().is_ipv4()).collect(),
        routes: rt.routes(Some(link.index))?.into_iter().filter(|r| r.protocol == ROUTE_PROTOCOL).map(route).collect(),
        neighbours: rt.neighbours(link.index)?.into_iter().collect(),
    }))
}

struct Hands<'a> {
    host: Rt,
    inside: Rt,
    netns: File,
    wanted: &'a Pair,
}

impl Hands<'_> {
    fn apply(&mut self, step: &Step) -> Result<(), NetError> {
        match step {
            Step::DeleteHost => self.host.del_link(&self.wanted.host.name),
            Step::DeleteInside => self.inside.del_link(&self.wanted.inside.name),
            Step::CreatePair => {
                let (here, there) = (end(&self.wanted.host), end(&self.wanted.inside));
                self.host.add_veth(&here, &there, self.netns.as_fd())
            }
            Step::Up(side) => {
                let (rt, index, mtu) = self.side(*side)?;
                rt.set_up(index, mtu)
            }
            Step::AddAddr(side, addr) => {
                let (rt, index, _) = self.side(*side)?;
                rt.add_addr(index, *addr)
            }
            Step::DelAddr(side, addr) => {
                let (rt, index, _) = self.side(*side)?;
                rt.del_addr(index, *addr)
            }
            Step::Pin(side, addr, mac) => {
                let (rt, index, _) = self.side(*side)?;
                rt.pin_neighbour(index, *addr, *mac)
            }
            Step::AddRoute(side, route) => {
                let conflict = self.wanted.conflict;
                let (rt, index, _) = self.side(*side)?;
                match conflict {
                    Conflict::Replace => rt.replace_route(&entry(route, index)),
                    Conflict::Refuse => rt.add_route(&entry(route, index)),
                }
            }
            Step::DelRoute(side, route) => {
                let (rt, index, _) = self.side(*side)?;
                rt.del_route(&entry(route, index))
            }
        }
    }

    /// The socket, interface index and MTU of one end. The index is asked for each time: the pair may be new.
    fn side(&mut self, side: Side) -> Result<(&mut Rt, u32, u32), NetError> {
        let (rt, device) = match side {
            Side::Host => (&mut self.host, &self.wanted.host),
            Side::Inside => (&mut self.inside, &self.wanted.inside),
        };
        let link = rt
            .link(&device.name)?
            .ok_or_else(|| NetError::netlink(format!("find link {}", device.name), nix::errno::Errno::ENODEV.into()))?;
        Ok((rt, link.index, device.mtu))
    }
}

fn end(device: &Device) -> End<'_> {
    End { name: &device.name, mac: device.mac, mtu: device.mtu }
}

fn entry(route: &Route, oif: u32) -> RouteEntry {
    RouteEntry {
        dest: route.dest,
        via: route.via.map(|g| g.addr),
        oif: Some(oif),
        onlink: route.via.is_some_and(|g| g.reach == Reach::Onlink),
        protocol: ROUTE_PROTOCOL,
    }
}
