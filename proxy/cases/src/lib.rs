//! What users expect of Services, as data: [`cases`] reads `behaviour.txt`, the one table that imaginary packets are
//! walked by (the planner's tests) and that real ones replay (the proxy's). Owns the table, its language, and the API
//! objects of a case; knows no planner, no rules and no network.

mod objects;
mod parse;
pub mod synthetic;
pub mod userspace;
mod world;

pub use world::World;

/// A Service, its endpoints, and what becomes of packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What is to be seen, a sentence.
    pub title: String,
    /// Line in the table, for messages.
    pub line: usize,
    /// Settings of the proxy other than the defaults.
    pub config: Vec<Setting>,
    /// The Service: its type, then words and `key=value`.
    pub service: Vec<String>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Packets.
    pub rows: Vec<Row>,
}

impl Case {
    /// Whether the Service has this word.
    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        self.service.iter().any(|w| w == word)
    }
}

/// A setting of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Everybody is masqueraded.
    MasqueradeAll,
    /// Node ports answer on addresses this machine does not have.
    NodePortsElsewhere,
    /// Pods are told by interfaces whose names begin with [`World::POD_INTERFACES`].
    PodsByInterface,
    /// Nobody knows where pods live.
    NoPodRanges,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A small letter.
    pub name: char,
    /// Whether it is on this node.
    pub here: bool,
    /// Its state.
    pub state: State,
    /// Its hints: `zone-us`, `zone-other`, `node-us`, `node-other`.
    pub hints: Vec<String>,
}

/// The state of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Ready; said by saying nothing.
    Ready,
    /// Neither ready nor answering.
    Unready,
    /// Terminating and answering.
    Leaving,
    /// Answering, not ready, not terminating.
    Serving,
    /// Terminating, not answering.
    Gone,
}

/// A packet and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Line in the table.
    pub line: usize,
    /// Who sends.
    pub from: Client,
    /// Where to.
    pub to: Destination,
    /// What becomes of it.
    pub want: Want,
}

/// Who sends a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// A pod on this node that serves nothing.
    Pod,
    /// A process of this node.
    Node,
    /// Another node of the cluster.
    OtherNode,
    /// A machine outside the cluster.
    Outside,
    /// The pod of an endpoint.
    Endpoint(char),
    /// A process of this node whose packets have the load balancer's address as source.
    NodeAsLoadBalancer,
}

/// Where a packet is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// The Service's port of its ClusterIP.
    ClusterIp,
    /// Another port there.
    ClusterIpOtherPort,
    /// An address of the Service range that no Service has.
    Unallocated,
    /// The node port of this node's address.
    NodePort,
    /// A port there that is no node port.
    NodePortOtherPort,
    /// The node port of the loopback address.
    NodePortLoopback,
    /// The external address.
    ExternalIp,
    /// The load balancer's address.
    LoadBalancer,
    /// The address of a load balancer that translates by itself.
    LoadBalancerProxied,
    /// The endpoint itself.
    Endpoint(char),
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// One of these answers, and nobody else.
    Servers(Vec<Server>),
    /// It is refused with a message.
    Reject,
    /// It is dropped without a word.
    Drop,
    /// It goes where it was sent.
    Untouched,
}

/// An endpoint that may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// Its name.
    pub name: char,
    /// Whose address it sees as the source.
    pub sees: Sees,
}

/// Whose address a server sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sees {
    /// The sender's.
    Sender,
    /// This machine's.
    Machine,
}

/// The table.
///
/// # Panics
/// When it is malformed: it is part of this crate.
#[must_use]
pub fn cases() -> Vec<Case> {
    parse::parse(include_str!("behaviour.txt")).unwrap_or_else(|e| panic!("behaviour.txt: {e}"))
}
