//! What pods ask for and nodes have, in whole numbers: CPU in thousandths, everything else in units.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use pintle_api::quantity::Amount;

/// Amounts by resource name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Amounts(pub BTreeMap<String, i64>);

/// What a container without requests counts as when nodes are compared (never when they are filtered).
const CPU_FLOOR_MILLI: i64 = 100;
const MEMORY_FLOOR: i64 = 200 * 1024 * 1024;

impl Amounts {
    pub(super) fn read(map: Option<&BTreeMap<String, Quantity>>) -> Amounts {
        Amounts(map.into_iter().flatten().map(|(name, q)| (name.clone(), amount(name, q))).collect())
    }
    pub(super) fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }
    pub(super) fn add(&mut self, other: &Amounts) {
        for (name, amount) in &other.0 {
            let sum = self.0.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }
    fn raise(&mut self, other: &Amounts) {
        for (name, amount) in &other.0 {
            let most = self.0.entry(name.clone()).or_default();
            *most = (*most).max(*amount);
        }
    }
    /// For comparisons: nothing asked still takes something.
    pub(super) fn floored(&self) -> Amounts {
        let mut floored = self.clone();
        floored.raise(&Amounts(
            [("cpu".to_owned(), CPU_FLOOR_MILLI), ("memory".to_owned(), MEMORY_FLOOR)]
                .into_iter()
                .filter(|(name, _)| self.get(name) == 0)
                .collect(),
        ));
        floored
    }
}

/// A quantity in the unit of its resource, rounded up; 0 for what validation would have refused.
fn amount(name: &str, quantity: &Quantity) -> i64 {
    let amount = Amount::or_zero(quantity);
    if name == "cpu" { amount.milli() } else { amount.units() }
}

/// What the pod takes from a node: containers and sidecars together, or an init container that needs more while it
/// runs; overhead on top; the pod's own request, where it has one, instead of the sum of its containers'.
pub(super) fn requests(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::default() };
    let of = |c: &Container| Amounts::read(c.resources.as_ref().and_then(|r| r.requests.as_ref()));
    let (mut running, mut starting) = (Amounts::default(), Amounts::default());
    let mut sidecars = Amounts::default();
    for init in spec.init_containers.iter().flatten() {
        let mut now = of(init);
        if init.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&now);
            starting.raise(&sidecars);
        } else {
            now.add(&sidecars);
            starting.raise(&now);
        }
    }
    spec.containers.iter().for_each(|c| running.add(&of(c)));
    running.add(&sidecars);
    running.raise(&starting);
    let own = Amounts::read(spec.resources.as_ref().and_then(|r| r.requests.as_ref()));
    running.0.extend(own.0);
    running.add(&Amounts::read(spec.overhead.as_ref()));
    running
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_read_in_thousandths_all_else_in_units_rounded_up() {
        let cases = [
            ("cpu", "100m", 100),
            ("cpu", "0.5", 500),
            ("memory", "1.5Gi", 1_610_612_736),
            ("memory", "500m", 1),
            ("memory", "12E", i64::MAX),
            ("memory", "many", 0),
        ];
        for (name, text, want) in cases {
            assert_eq!(amount(name, &Quantity(text.to_owned())), want, "{name} {text}");
        }
    }
}
