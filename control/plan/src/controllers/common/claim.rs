//! Which pods (or ReplicaSets) an owner holds, should adopt, or should let go.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{labels, meta};
use crate::controllers::snapshot::{Snapshot, name_of};
use crate::controllers::words::{Action, Key, KindRef, Question, Scoped};
use crate::controllers::{View, encode};
use crate::kind::ApiObject;

/// What [`claim`] found.
pub struct Claimed<'a, T> {
    /// Owned already, or adopted by `writes`.
    pub held: Vec<&'a T>,
    /// Adoptions and releases to write.
    pub writes: Vec<Action>,
}

/// Sorts the objects of `owner`'s namespace into held, adopted and released.
///
/// Orphans are adopted only when the answer to [`ask`] shows the owner alive: a cache may still hold an owner that was
/// deleted and made anew under the same name. `adoptable` says which orphans are worth it.
pub fn claim<'a, T: ApiObject, O: ApiObject>(
    owner: &'a O,
    selector: &'a LabelSelector,
    view: &View<'a>,
    adoptable: impl Fn(&T) -> bool,
) -> Claimed<'a, T>
where
    T::Scope: Scoped,
    O::Scope: Scoped,
{
    let own = owner.metadata();
    let mut claimed = Claimed { held: Vec::new(), writes: Vec::new() };
    let kind = KindRef::of::<T>();
    for object in view.snapshot.owned::<T>(meta::uid(own)) {
        let theirs = object.metadata();
        if meta::controller_uid(theirs) != Some(meta::uid(own)) {
            continue;
        }
        if labels::matches(selector, theirs.labels.as_ref()) {
            claimed.held.push(object);
        } else if !meta::is_deleting(own) && !meta::is_deleting(theirs) {
            claimed.writes.push(meta::release(kind, theirs, meta::uid(own)));
        }
    }
    if meta::is_deleting(own) || !is_alive(owner, view) {
        return claimed;
    }
    for orphan in orphans::<T>(own.namespace.as_deref().unwrap_or_default(), selector, view.snapshot) {
        if adoptable(orphan) {
            claimed.writes.push(meta::adopt(kind, orphan.metadata(), meta::controlled_by(owner)));
            claimed.held.push(orphan);
        }
    }
    claimed
}

/// Asks whether the owner still lives, if there is anything to adopt.
pub fn ask<T: ApiObject, O: ApiObject>(owner: &O, selector: &LabelSelector, snapshot: &Snapshot) -> Vec<Question>
where
    T::Scope: Scoped,
    O::Scope: Scoped,
{
    let own = owner.metadata();
    if meta::is_deleting(own) || orphans::<T>(meta::namespace(own), selector, snapshot).next().is_none() {
        return Vec::new();
    }
    vec![Question::Read(Key::new(KindRef::of::<O>(), name_of(own)))]
}

fn is_alive<O: ApiObject>(owner: &O, view: &View<'_>) -> bool
where
    O::Scope: Scoped,
{
    let key = Key::new(KindRef::of::<O>(), name_of(owner.metadata()));
    view.read(&key).is_some_and(|live| {
        live["metadata"]["uid"].as_str() == owner.metadata().uid.as_deref()
            && live["metadata"]["deletionTimestamp"].is_null()
    })
}

fn orphans<'a, T: ApiObject>(
    namespace: &'a str,
    selector: &'a LabelSelector,
    snapshot: &'a Snapshot,
) -> impl Iterator<Item = &'a T>
where
    T::Scope: Scoped,
{
    snapshot.list_in::<T>(namespace).filter(|o| {
        let theirs = o.metadata();
        meta::controller_of(theirs).is_none()
            && !meta::is_deleting(theirs)
            && labels::matches(selector, theirs.labels.as_ref())
    })
}

/// PUT of `/status`.
pub fn put_status<T: ApiObject>(object: &T) -> Action
where
    T::Scope: Scoped,
{
    Action::Put { kind: KindRef::of::<T>(), part: crate::controllers::Part::Status, object: encode(object) }
}

/// PUT of the object.
pub fn put<T: ApiObject>(object: &T) -> Action
where
    T::Scope: Scoped,
{
    Action::Put { kind: KindRef::of::<T>(), part: crate::controllers::Part::Main, object: encode(object) }
}

/// POST of the object.
pub fn create<T: ApiObject>(object: &T) -> Action
where
    T::Scope: Scoped,
{
    Action::Create { kind: KindRef::of::<T>(), object: encode(object) }
}
