//! Priority: a pod's class becomes a number. The two system classes are known without an object.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use pintle_api::status;

use super::{Plugin, Review};
use crate::serve::answer::Failure;

/// Upstream: pkg/apis/scheduling.
const SYSTEM: &[(&str, i32)] = &[("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub(super) struct Priority;

impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn admit(&self, review: &mut Review<'_>) -> Result<(), Failure> {
        if !review.creates("", "pods") {
            return Ok(());
        }
        let about = review.call.kind.about(review.name);
        let Some(pod) = review.object.as_ref().and_then(|object| object.downcast_ref::<Pod>()) else { return Ok(()) };
        let spec = pod.spec.clone().unwrap_or_default();
        let class = spec.priority_class_name.filter(|class| !class.is_empty());
        let found = match &class {
            None => Some((0, None)),
            Some(class) => system(class).map(|value| (value, None)).or_else(|| {
                let found: PriorityClass = review.find("scheduling.k8s.io/v1", "PriorityClass", "", class)?;
                Some((found.value.unwrap_or(0), found.preemption_policy))
            }),
        };
        let Some((value, preemption)) = found else {
            let why = format!("no PriorityClass with name {} was found", class.unwrap_or_default());
            return Err(status::forbidden(about, &why).into());
        };
        if spec.priority.is_some_and(|asked| asked != value) {
            let why = format!(
                "the integer value of priority ({}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name",
                spec.priority.unwrap_or_default()
            );
            return Err(status::forbidden(about, &why).into());
        }
        if let Some(pod) = review.object.as_mut().and_then(|object| object.downcast_mut::<Pod>()) {
            let spec = pod.spec.get_or_insert_default();
            spec.priority = Some(value);
            let preemption = preemption.unwrap_or_else(|| "PreemptLowerPriority".to_owned());
            spec.preemption_policy.get_or_insert(preemption);
        }
        Ok(())
    }
}

fn system(class: &str) -> Option<i32> {
    SYSTEM.iter().find(|(name, _)| *name == class).map(|(_, value)| *value)
}
