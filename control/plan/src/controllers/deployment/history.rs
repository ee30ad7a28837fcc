//! Generations: templates, names, revisions, and how many old ones stay.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::replicas::{self, wanted};
use super::{DESIRED, HASH, MAX, REVISION, REVISION_HISTORY, Rollout, meta};
use crate::controllers::common::{claim, hash};
use crate::controllers::{KindRef, Plan};

/// Annotations that describe the Deployment itself and would lie on a ReplicaSet.
const NOT_COPIED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

/// Whether the ReplicaSet makes pods of this template, apart from the label that says which generation they are.
pub(super) fn has_template(rs: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let Some(own) = rs.spec.template.as_ref() else { return false };
    own.spec == template.spec && bare(own.metadata.as_ref()) == bare(template.metadata.as_ref())
}

/// Template metadata without the hash and without the difference between empty and absent.
fn bare(meta: Option<&ObjectMeta>) -> ObjectMeta {
    let mut meta = meta.cloned().unwrap_or_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH);
    }
    meta.labels = meta.labels.filter(|l| !l.is_empty());
    meta.annotations = meta.annotations.filter(|a| !a.is_empty());
    meta.creation_timestamp = None;
    meta
}

/// The revision annotation, 0 where it is absent.
pub(super) fn revision(meta: &ObjectMeta) -> i64 {
    meta::annotation(meta, REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

impl Rollout<'_> {
    /// The revision the new ReplicaSet is to have.
    fn next_revision(&self) -> i64 {
        self.old.iter().map(|rs| revision(&rs.metadata)).max().unwrap_or(0) + 1
    }

    /// The Deployment's annotations that its ReplicaSets carry too.
    fn copied_annotations(&self) -> BTreeMap<String, String> {
        let mut copied = self.d.metadata.annotations.clone().unwrap_or_default();
        copied.retain(|k, _| !NOT_COPIED.contains(&k.as_str()));
        copied
    }

    /// Makes the ReplicaSet of the wanted template, or brings its revision and annotations up to date.
    /// True if that is this wave's work.
    pub(super) fn ensure_new(&self, replicas: i32, plan: &mut Plan) -> bool {
        match self.new {
            None => {
                self.create(replicas, plan);
                true
            }
            Some(new) => self.refresh(new, plan) || self.follow_revision(new, plan),
        }
    }

    fn create(&self, replicas: i32, plan: &mut Plan) {
        let hash = hash::template(&self.spec.template, self.d.status.as_ref().and_then(|s| s.collision_count));
        let name = format!("{}-{hash}", meta::name(&self.d.metadata));
        let taken = crate::controllers::Name::new(meta::namespace(&self.d.metadata), name.clone());
        if let Some(other) = self.view.snapshot.get::<ReplicaSet>(&taken) {
            if !meta::is_deleting(&other.metadata) {
                self.count_collision(plan);
            }
            return;
        }
        let rs = self.replica_set(name.clone(), &hash, replicas);
        let note =
            meta::normal(self.d, "ScalingReplicaSet", format!("Scaled up replica set {name} from 0 to {replicas}"));
        if replicas > 0 {
            plan.push_noted(claim::create(&rs), note);
        } else {
            plan.push(claim::create(&rs));
        }
    }

    /// Two templates of one hash: the count makes the next hash another.
    fn count_collision(&self, plan: &mut Plan) {
        let mut d = self.d.clone();
        let count = &mut d.status.get_or_insert_default().collision_count;
        *count = Some(count.unwrap_or(0) + 1);
        plan.push(claim::put_status(&d));
    }

    fn replica_set(&self, name: String, hash: &str, replicas: i32) -> ReplicaSet {
        let label = |labels: &mut Option<BTreeMap<String, String>>| {
            labels.get_or_insert_default().insert(HASH.to_owned(), hash.to_owned());
        };
        let mut template = self.spec.template.clone();
        label(&mut template.metadata.get_or_insert_default().labels);
        let mut selector = self.spec.selector.clone();
        label(&mut selector.match_labels);
        let mut annotations = self.copied_annotations();
        annotations.insert(REVISION.to_owned(), self.next_revision().to_string());
        annotations.insert(DESIRED.to_owned(), self.bounds.wanted.to_string());
        annotations.insert(MAX.to_owned(), self.bounds.most().to_string());
        ReplicaSet {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: self.d.metadata.namespace.clone(),
                labels: template.metadata.as_ref().and_then(|m| m.labels.clone()),
                annotations: Some(annotations),
                owner_references: Some(vec![meta::controlled_by(self.d)]),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                replicas: Some(replicas),
                min_ready_seconds: self.spec.min_ready_seconds,
                selector,
                template: Some(template),
            },
            status: None,
        }
    }

    /// A ReplicaSet that is wanted again gets the newest revision; annotations and minReadySeconds follow.
    fn refresh(&self, new: &ReplicaSet, plan: &mut Plan) -> bool {
        let mut rs = new.clone();
        let annotations = rs.metadata.annotations.get_or_insert_default();
        annotations.extend(self.copied_annotations());
        let (own, next) = (revision(&new.metadata), self.next_revision());
        if own < next {
            annotations.insert(REVISION.to_owned(), next.to_string());
            if own > 0 {
                let past = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
                *past = if past.is_empty() { own.to_string() } else { format!("{past},{own}") };
            }
        }
        rs.spec.min_ready_seconds = self.spec.min_ready_seconds;
        if rs == *new {
            return false;
        }
        plan.push(claim::put(&rs));
        true
    }

    /// The Deployment carries the revision of its newest ReplicaSet.
    fn follow_revision(&self, new: &ReplicaSet, plan: &mut Plan) -> bool {
        let revision = revision(&new.metadata);
        if revision == 0 || history_revision(self.d) == revision {
            return false;
        }
        let mut d = self.d.clone();
        d.metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), revision.to_string());
        plan.push(claim::put(&d));
        true
    }

    /// Removes the oldest empty ReplicaSets beyond revisionHistoryLimit once the rollout is complete.
    pub(super) fn forget_history(&self, plan: &mut Plan) {
        let Some(limit) = self.spec.revision_history_limit.and_then(|l| usize::try_from(l).ok()) else { return };
        if !self.is_complete() {
            return;
        }
        let mut empty: Vec<_> = self.old.iter().filter(|rs| is_idle(rs)).collect();
        empty.sort_by_key(|rs| (revision(&rs.metadata), rs.metadata.creation_timestamp.clone()));
        let surplus = self.old.len().saturating_sub(limit);
        for rs in empty.into_iter().take(surplus) {
            plan.push(meta::delete(KindRef::of::<ReplicaSet>(), &rs.metadata));
        }
    }
}

fn history_revision(d: &Deployment) -> i64 {
    revision(&d.metadata)
}

/// Nothing wanted, nothing left, and its controller has seen the last change.
fn is_idle(rs: &ReplicaSet) -> bool {
    let status = rs.status.clone().unwrap_or_default();
    wanted(rs) == 0
        && replicas::occupied(rs) == 0
        && rs.metadata.generation.unwrap_or(0) <= status.observed_generation.unwrap_or(0)
        && !meta::is_deleting(&rs.metadata)
}
