//! The two strategies, and scaling the Deployment as a whole.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;

use super::replicas::{available, noted, notes_agree, occupied, proportional, wanted};
use super::{DESIRED, MAX, Rollout, meta};
use crate::controllers::common::{claim, pods};
use crate::controllers::{Action, Plan, Write};

impl Rollout<'_> {
    /// Whether spec.replicas changed since the ReplicaSets in use were last scaled.
    pub(super) fn is_scaling(&self) -> bool {
        self.all().filter(|rs| wanted(rs) > 0).any(|rs| noted(rs, DESIRED).is_some_and(|n| n != self.bounds.wanted))
    }

    /// Follows a change of spec.replicas without advancing the rollout: one ReplicaSet in use takes all of it, several
    /// share it in proportion. True if anything is written.
    pub(super) fn scale_as_whole(&self, plan: &mut Plan) -> bool {
        let mut active: Vec<&ReplicaSet> = self.all().filter(|rs| wanted(rs) > 0).collect();
        let sole = match active.as_slice() {
            [] => self.new.or_else(|| self.old.last().copied()),
            [one] => Some(*one),
            _ => None,
        };
        if let Some(sole) = sole {
            return self.scale(sole, self.bounds.wanted, plan);
        }
        if self.is_saturated() {
            return self
                .old
                .iter()
                .filter(|rs| wanted(rs) > 0)
                .map(|rs| self.scale(rs, 0, plan))
                .fold(false, |any, wrote| any | wrote);
        }
        let total: i32 = active.iter().map(|rs| wanted(rs)).sum();
        let most = if self.bounds.wanted > 0 { self.bounds.most() } else { 0 };
        let change = most - total;
        // Growth goes to the newest of equals, shrinking to the oldest.
        active.sort_by_key(|rs| (std::cmp::Reverse(wanted(rs)), rs.metadata.creation_timestamp.clone()));
        if change > 0 {
            active.sort_by_key(|rs| {
                (std::cmp::Reverse(wanted(rs)), std::cmp::Reverse(rs.metadata.creation_timestamp.clone()))
            });
        }
        let sizes: Vec<_> = active.iter().map(|rs| (wanted(rs), noted(rs, MAX).unwrap_or(most))).collect();
        let targets =
            if change == 0 { sizes.iter().map(|s| s.0).collect() } else { proportional(&sizes, most, change) };
        active.iter().zip(targets).fold(false, |any, (rs, size)| self.scale(rs, size, plan) || any)
    }

    /// The new ReplicaSet alone already gives what is wanted.
    fn is_saturated(&self) -> bool {
        self.new.is_some_and(|new| {
            wanted(new) == self.bounds.wanted
                && noted(new, DESIRED) == Some(self.bounds.wanted)
                && available(new) == self.bounds.wanted
        })
    }

    /// One ReplicaSet to `size`, with its annotations. False if it says so already.
    fn scale(&self, rs: &ReplicaSet, size: i32, plan: &mut Plan) -> bool {
        let old = wanted(rs);
        if old == size && notes_agree(rs, self.bounds) {
            return false;
        }
        let mut scaled = rs.clone();
        scaled.spec.replicas = Some(size);
        let annotations = scaled.metadata.annotations.get_or_insert_default();
        annotations.insert(DESIRED.to_owned(), self.bounds.wanted.to_string());
        annotations.insert(MAX.to_owned(), self.bounds.most().to_string());
        let way = if size > old { "up" } else { "down" };
        let name = meta::name(&rs.metadata);
        let message = format!("Scaled {way} replica set {name} from {old} to {size}");
        let done = (old != size).then(|| meta::normal(self.d, "ScalingReplicaSet", message));
        plan.writes.push(Write { action: claim::put(&scaled), done, failed: None });
        true
    }

    /// RollingUpdate: grow the new, then shrink the old, never leaving the bounds.
    pub(super) fn roll(&self, plan: &mut Plan) {
        let start = self.room().min(self.bounds.wanted);
        if self.ensure_new(start, plan) {
            return;
        }
        let Some(new) = self.new else { return };
        let size = match wanted(new) {
            n if n > self.bounds.wanted => self.bounds.wanted,
            n => n + self.room().min(self.bounds.wanted - n),
        };
        if size != wanted(new) || !notes_agree(new, self.bounds) {
            self.scale(new, size, plan);
            return;
        }
        for (rs, size) in self.old.iter().zip(self.shrunk(new)) {
            if size != wanted(rs) {
                self.scale(rs, size, plan);
            }
        }
    }

    /// How many pods may still be added.
    fn room(&self) -> i32 {
        (self.bounds.most() - self.all().map(occupied).sum::<i32>()).max(0)
    }

    /// Sizes of the old ReplicaSets after this wave: unhealthy pods go first, then as many healthy ones as
    /// availability permits.
    fn shrunk(&self, new: &ReplicaSet) -> Vec<i32> {
        let mut sizes: Vec<i32> = self.old.iter().map(|rs| wanted(rs)).collect();
        let least = self.bounds.least_available();
        let total: i32 = sizes.iter().sum::<i32>() + wanted(new);
        let mut budget = total - least - (wanted(new) - available(new));
        for (size, rs) in sizes.iter_mut().zip(&self.old) {
            let sick = (*size - available(rs)).clamp(0, budget.max(0));
            *size -= sick;
            budget -= sick;
        }
        let healthy: i32 = self.all().map(available).sum();
        let mut spare = (healthy - least).max(0).min(budget.max(0));
        for size in &mut sizes {
            let cut = (*size).min(spare);
            *size -= cut;
            spare -= cut;
        }
        sizes
    }

    /// Recreate: all old pods are gone before the first new one is made.
    pub(super) fn recreate(&self, plan: &mut Plan) {
        for rs in self.old.iter().filter(|rs| wanted(rs) > 0) {
            self.scale(rs, 0, plan);
        }
        if !plan.writes.is_empty() || self.old.iter().any(|rs| has_running_pods(rs, self)) {
            return;
        }
        if self.ensure_new(self.bounds.wanted, plan) {
            return;
        }
        if let Some(new) = self.new {
            self.scale(new, self.bounds.wanted, plan);
        }
    }
}

fn has_running_pods(rs: &ReplicaSet, rollout: &Rollout<'_>) -> bool {
    occupied(rs) > 0 || rollout.view.snapshot.owned::<Pod>(meta::uid(&rs.metadata)).any(|p| !pods::is_finished(p))
}

/// Whether a plan writes the Deployment itself, so that its status must wait for the next wave.
pub(super) fn writes_deployment(plan: &Plan) -> bool {
    use k8s_openapi::api::apps::v1::Deployment;
    plan.writes.iter().any(
        |w| matches!(&w.action, Action::Put { kind, .. } if *kind == crate::controllers::KindRef::of::<Deployment>()),
    )
}
