//! DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or cannot be reached, unless it says
//! otherwise.

use k8s_openapi::api::core::v1::{Pod, Toleration};

use super::{Plugin, Review};
use crate::serve::answer::Failure;

const STAY_S: i64 = 300;
const TAINTS: &[&str] = &["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub(super) struct DefaultTolerations;

impl Plugin for DefaultTolerations {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn admit(&self, review: &mut Review<'_>) -> Result<(), Failure> {
        if review.is("", "pods")
            && let Some(pod) = review.object.as_mut().and_then(|object| object.downcast_mut::<Pod>())
        {
            add(pod.spec.get_or_insert_default().tolerations.get_or_insert_default());
        }
        Ok(())
    }
}

fn add(tolerations: &mut Vec<Toleration>) {
    for taint in TAINTS {
        let covers = |toleration: &Toleration| {
            let key = toleration.key.as_deref().unwrap_or_default();
            let effect = toleration.effect.as_deref().unwrap_or_default();
            (key == *taint || key.is_empty()) && matches!(effect, "NoExecute" | "")
        };
        if !tolerations.iter().any(covers) {
            tolerations.push(Toleration {
                key: Some((*taint).to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(STAY_S),
                value: None,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_taints_are_tolerated_for_a_while_unless_the_pod_speaks_of_them() {
        let mut none = Vec::new();
        add(&mut none);
        assert_eq!(none.iter().filter(|toleration| toleration.toleration_seconds == Some(STAY_S)).count(), 2);
        add(&mut none);
        assert_eq!(none.len(), 2);
        let mut all = vec![Toleration { operator: Some("Exists".to_owned()), ..Toleration::default() }];
        add(&mut all);
        assert_eq!(all.len(), 1);
    }
}
