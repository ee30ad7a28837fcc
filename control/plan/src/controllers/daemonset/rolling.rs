//! RollingUpdate of a DaemonSet: which old pods may go now, and which nodes may have two for a while.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Daemon, Fate};
use crate::controllers::Plan;
use crate::controllers::common::pods;
use crate::controllers::deployment::{Round, share};

/// How far an update may stray.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Nodes with two pods.
    pub surge: i32,
    /// Nodes without an available one.
    pub unavailable: i32,
}

pub(super) fn bounds(ds: &DaemonSet, nodes: i32) -> Bounds {
    let rolling = ds.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
    let surge = rolling.and_then(|r| r.max_surge.as_ref()).map_or(0, |s| share(s, nodes, Round::Up));
    let one = IntOrString::Int(1);
    let unavailable = rolling.and_then(|r| r.max_unavailable.as_ref()).unwrap_or(&one);
    let unavailable = share(unavailable, nodes, Round::Up);
    // Both zero could never move.
    Bounds { surge, unavailable: if surge == 0 { unavailable.max(1) } else { unavailable } }
}

impl Daemon<'_> {
    /// One wave of the update; nothing under `OnDelete`.
    pub(super) fn roll(&self, plan: &mut Plan) {
        let strategy = self.ds.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref());
        if strategy == Some("OnDelete") {
            return;
        }
        let bounds = bounds(self.ds, self.wanted());
        if bounds.surge > 0 { self.roll_with_surge(bounds, plan) } else { self.roll_in_place(bounds, plan) }
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pods::is_active(pod) && pods::is_available(pod, self.min_ready_s(), self.view.now)
    }

    /// Old pods that serve nobody go at once, others as far as maxUnavailable permits.
    fn roll_in_place(&self, bounds: Bounds, plan: &mut Plan) {
        let (mut unavailable, mut candidates) = (0, Vec::new());
        for (node, _) in self.nodes.iter().filter(|(_, f)| *f == Fate::Run) {
            let alive: Vec<&Pod> = self.pods_of(node).iter().copied().filter(|p| pods::is_active(p)).collect();
            let serves = alive.iter().any(|p| self.is_available(p));
            unavailable += i32::from(!serves);
            match alive.iter().find(|p| !self.is_current(p)) {
                Some(old) if !serves => self.remove(old, plan),
                Some(old) => candidates.push(*old),
                None => {}
            }
        }
        let spare = usize::try_from(bounds.unavailable - unavailable).unwrap_or(0);
        candidates.into_iter().take(spare).for_each(|p| self.remove(p, plan));
    }

    /// New pods beside the old ones; an old one goes when its successor is available, or when it serves nobody.
    fn roll_with_surge(&self, bounds: Bounds, plan: &mut Plan) {
        let mut made = Vec::new();
        let mut surging = 0;
        for (node, _) in self.nodes.iter().filter(|(_, f)| *f == Fate::Run) {
            let alive: Vec<&Pod> = self.pods_of(node).iter().copied().filter(|p| pods::is_active(p)).collect();
            let old = alive.iter().find(|p| !self.is_current(p));
            let new = alive.iter().find(|p| self.is_current(p));
            match (old, new) {
                (Some(old), Some(new)) if self.is_available(new) => self.remove(old, plan),
                (Some(_), Some(_)) => surging += 1,
                (Some(old), None) if !self.is_available(old) => self.remove(old, plan),
                (Some(_), None) => made.push(*node),
                (None, _) => {}
            }
        }
        let spare = usize::try_from(bounds.surge - surging).unwrap_or(0);
        plan.writes.extend(made.into_iter().take(spare).map(|n| self.creation(n)));
    }
}
