//! `/portForward`. kubectl tunnels SPDY inside a WebSocket for this, which is not spoken here yet: the answer says so.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};

use super::{Body, text};
use crate::context::Context;
use crate::worker::PodView;

pub(super) fn answer(_: Request<Incoming>, _: Arc<Context>, _: PodView) -> Response<Body> {
    let why = "port-forward is not implemented on this node yet; reach the pod by its address or a Service instead\n";
    text(StatusCode::NOT_IMPLEMENTED, why)
}
