//! TaintNodesByCondition: a new node takes no pods until it has reported that it is ready.

use k8s_openapi::api::core::v1::{Node, Taint};

use super::{Plugin, Review};
use crate::serve::answer::Failure;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub(super) struct TaintNodes;

impl Plugin for TaintNodes {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn admit(&self, review: &mut Review<'_>) -> Result<(), Failure> {
        if review.creates("", "nodes")
            && let Some(node) = review.object.as_mut().and_then(|object| object.downcast_mut::<Node>())
        {
            let taints = node.spec.get_or_insert_default().taints.get_or_insert_default();
            if !taints.iter().any(|taint| taint.key == NOT_READY && taint.effect == "NoSchedule") {
                taints.push(Taint { key: NOT_READY.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() });
            }
        }
        Ok(())
    }
}
