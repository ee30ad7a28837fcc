//! Arithmetic of a rollout: bounds, shares, and how many each ReplicaSet has.

use k8s_openapi::api::apps::v1::{DeploymentSpec, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{DESIRED, MAX, meta};

/// How far a rollout may stray from spec.replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// spec.replicas.
    pub wanted: i32,
    /// Pods above that.
    pub surge: i32,
    /// Pods below that.
    pub unavailable: i32,
}

impl Bounds {
    pub(super) fn of(spec: &DeploymentSpec) -> Bounds {
        let wanted = spec.replicas.unwrap_or(1);
        if super::is_recreate(spec) {
            return Bounds { wanted, surge: 0, unavailable: wanted };
        }
        let rolling = spec.strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".to_owned());
        let surge = share(rolling.and_then(|r| r.max_surge.as_ref()).unwrap_or(&quarter), wanted, Round::Up);
        let unavailable =
            share(rolling.and_then(|r| r.max_unavailable.as_ref()).unwrap_or(&quarter), wanted, Round::Down);
        // Both zero could never move; validation refuses it, but percentages may round to it.
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Bounds { wanted, surge, unavailable: unavailable.min(wanted) }
    }
    pub(super) fn most(self) -> i32 {
        self.wanted.saturating_add(self.surge)
    }
    pub(super) fn least_available(self) -> i32 {
        (self.wanted - self.unavailable).max(0)
    }
}

/// Direction of a percentage.
#[derive(Clone, Copy)]
pub(in crate::controllers) enum Round {
    Up,
    Down,
}

/// An absolute number, or a percentage of `whole`. Nonsense counts as 0: validation has refused it already.
pub(in crate::controllers) fn share(value: &IntOrString, whole: i32, round: Round) -> i32 {
    match value {
        IntOrString::Int(n) => (*n).max(0),
        IntOrString::String(s) => {
            let percent: i64 = s.trim_end_matches('%').parse().unwrap_or(0);
            let hundredths = percent * i64::from(whole);
            let exact = match round {
                Round::Up => (hundredths + 99) / 100,
                Round::Down => hundredths / 100,
            };
            i32::try_from(exact).unwrap_or(i32::MAX).max(0)
        }
    }
}

/// spec.replicas.
pub(super) fn wanted(rs: &ReplicaSet) -> i32 {
    rs.spec.replicas.unwrap_or(1)
}

/// Pods that count against the surge: those wanted, or those still there because the ReplicaSet has not yet shrunk.
pub(super) fn occupied(rs: &ReplicaSet) -> i32 {
    wanted(rs).max(rs.status.as_ref().map_or(0, |s| s.replicas))
}

/// Available pods, no more than wanted: a ReplicaSet told to shrink still reports the pods it is about to remove.
pub(super) fn available(rs: &ReplicaSet) -> i32 {
    rs.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0).min(wanted(rs))
}

/// An annotation written by this controller.
pub(super) fn noted(rs: &ReplicaSet, key: &str) -> Option<i32> {
    meta::annotation(&rs.metadata, key)?.parse().ok()
}

/// Whether the scale annotations say what they should.
pub(super) fn notes_agree(rs: &ReplicaSet, bounds: Bounds) -> bool {
    noted(rs, DESIRED) == Some(bounds.wanted) && noted(rs, MAX) == Some(bounds.most())
}

/// Shares `change` among ReplicaSets in proportion to their size, by the largest remainder, larger ones first.
///
/// `sizes` is ordered; the result has its order. While the Deployment's own maximum was different, sizes are relative
/// to the maximum they were scaled under (`max` of each).
pub(super) fn proportional(sizes: &[(i32, i32)], most: i32, change: i32) -> Vec<i32> {
    let mut left = change;
    let mut result: Vec<i32> = sizes
        .iter()
        .map(|&(size, max)| {
            let exact = f64::from(size) * f64::from(most) / f64::from(max.max(1));
            #[expect(clippy::cast_possible_truncation, reason = "pod counts are far below 2^31")]
            let fraction = exact.round() as i32 - size;
            let part = if change > 0 { fraction.clamp(0, left.max(0)) } else { fraction.clamp(left.min(0), 0) };
            left -= part;
            size + part
        })
        .collect();
    if let Some(first) = result.first_mut() {
        *first = (*first + left).max(0);
    }
    result
}
