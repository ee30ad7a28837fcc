//! Conditions: the same rule for every status that has them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{NodeCondition, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A time of whole seconds, as metav1.Time is encoded: a finer one would differ from its own echo.
pub fn time(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).expect("a second within the range of now"))
}

/// The node's condition of that type.
pub fn of_node<'a>(conditions: &'a Option<Vec<NodeCondition>>, type_: &str) -> Option<&'a NodeCondition> {
    conditions.iter().flatten().find(|c| c.type_ == type_)
}

/// Sets a pod condition; the transition time moves only with the status. False if nothing changed.
pub fn set_pod(conditions: &mut Option<Vec<PodCondition>>, mut new: PodCondition, now: Timestamp) -> bool {
    let list = conditions.get_or_insert_default();
    let Some(old) = list.iter_mut().find(|c| c.type_ == new.type_) else {
        new.last_transition_time = Some(time(now));
        list.push(new);
        return true;
    };
    if old.status == new.status && old.reason == new.reason && old.message == new.message {
        return false;
    }
    new.last_transition_time =
        if old.status == new.status { old.last_transition_time.clone() } else { Some(time(now)) };
    *old = new;
    true
}
