//! The API: one generic implementation of every verb over the registry of kinds.
//!
//! Owns: the way of a request: who asks → what is asked → whether they may → the verb. Does not own: connections
//! (`listen`), what a kind is (`control/plan`), bytes at rest (the store).

pub mod answer;
mod apply;
pub mod call;
mod delete;
mod discovery;
mod filter;
mod health;
mod input;
mod negotiate;
pub mod object;
mod openapi;
mod ownership;
mod page;
mod patch;
mod proto;
mod query;
mod read;
mod review;
mod route;
mod shape;
mod sub;
mod watch;
mod write;

use std::sync::Arc;

use jiff::Timestamp;
use pintle_control_plan::service_ranges::ServiceRanges;
use pintle_store::Store;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::auth::Authenticator;
use crate::pki::{Live, Pki};

pub use query::Query;
pub(crate) use route::{answer as answer_to, dispatch};

/// What every request shares.
pub struct Api {
    /// The objects.
    pub store: Arc<dyn Store>,
    /// Who somebody is.
    pub auth: Authenticator,
    /// Writes that have to take turns; see [`crate::admission::hold`].
    pub turns: Mutex<()>,
    /// The time; a parameter, so that tests say it.
    pub clock: fn() -> Timestamp,
    /// Where Services' addresses and node ports come from.
    pub ranges: ServiceRanges,
    /// Ends watches when the server stops.
    pub cancel: CancellationToken,
    /// Certificates and keys as they were at the start.
    pub keys: Pki,
    /// Our own certificates, as renewed since.
    pub live: Live,
}
