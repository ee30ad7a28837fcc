//! Which path is answered by what.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use k8s_openapi::List;
use k8s_openapi::api::core::v1::Pod;
use pintle_kubelet_plan::containers::find;

use super::{Body, exec, forward, logs, text};
use crate::context::Context;
use crate::manager::Pods;
use crate::worker::{ContainerView, PodView};

/// A container somebody asks about.
pub(super) struct Found {
    pub(super) view: PodView,
    pub(super) name: String,
    pub(super) container: Option<ContainerView>,
}

/// Answers one request.
pub(super) async fn answer(request: Request<Incoming>, ctx: Arc<Context>, pods: Pods) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    match parts.as_slice() {
        ["healthz"] => text(StatusCode::OK, "ok"),
        ["pods"] => json(&list(&pods, |_| true)),
        ["runningpods"] => json(&list(&pods, |v| v.containers.values().any(|c| c.running))),
        ["metrics"] => text(StatusCode::OK, metrics(&pods)),
        ["containerLogs", namespace, pod, container] if request.method() == Method::GET => {
            match found(&pods, namespace, pod, container) {
                Ok(found) => logs::answer(&request, ctx, pods, found).await,
                Err(answer) => *answer,
            }
        }
        [verb @ ("exec" | "attach"), namespace, pod, rest @ .., container] => {
            // A uid may stand before the container, as in the kubelet's older paths.
            let _: &[&str] = rest;
            match found(&pods, namespace, pod, container) {
                Ok(found) => exec::answer(request, ctx, found, *verb == "attach"),
                Err(answer) => *answer,
            }
        }
        ["portForward", namespace, pod, ..] => match pods.find(namespace, pod) {
            Some(view) => forward::answer(request, ctx, view),
            None => text(StatusCode::NOT_FOUND, format!("pod {namespace}/{pod} is not on this node\n")),
        },
        _ => text(StatusCode::NOT_FOUND, format!("the kubelet has no {path}\n")),
    }
}

fn found(pods: &Pods, namespace: &str, pod: &str, container: &str) -> Result<Found, Box<Response<Body>>> {
    let missing = |what: String| Box::new(text(StatusCode::NOT_FOUND, what));
    let Some(view) = pods.find(namespace, pod) else {
        return Err(missing(format!("pod {namespace}/{pod} is not on this node\n")));
    };
    if find(&view.pod, container).is_none() {
        return Err(missing(format!("pod {namespace}/{pod} has no container {container}\n")));
    }
    let state = view.containers.get(container).cloned();
    Ok(Found { view, name: container.to_owned(), container: state })
}

fn list(pods: &Pods, keep: impl Fn(&PodView) -> bool) -> List<Pod> {
    let whole = |view: PodView| Pod { status: Some(view.status), ..(*view.pod).clone() };
    let items = pods.views().into_iter().filter(|v| keep(v)).map(whole).collect();
    List { items, ..List::default() }
}

fn json(value: &List<Pod>) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut answer = text(StatusCode::OK, bytes);
            let kind = hyper::header::HeaderValue::from_static("application/json");
            answer.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
            answer
        }
        Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}

fn metrics(pods: &Pods) -> String {
    let views = pods.views();
    let running: usize = views.iter().map(|v| v.containers.values().filter(|c| c.running).count()).sum();
    format!(
        "# TYPE kubelet_running_pods gauge\nkubelet_running_pods {}\n\
         # TYPE kubelet_running_containers gauge\nkubelet_running_containers{{container_state=\"running\"}} {running}\n",
        views.len()
    )
}
