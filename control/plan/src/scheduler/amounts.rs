//! What pods ask for and nodes have, in whole numbers: CPU in thousandths, everything else in units.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

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
    let scale = if name == "cpu" { 1000 } else { 1 };
    parse(&quantity.0, scale).unwrap_or(0)
}

/// `1.5Gi` times `scale`, rounded up, without floating point.
fn parse(text: &str, scale: i128) -> Option<i64> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-' || c == '+')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (multiplier, divisor) = factor(suffix)?;
    let denominator = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?.checked_mul(divisor)?;
    let numerator = digits.checked_mul(multiplier)?.checked_mul(scale)?;
    let rounded = numerator.div_euclid(denominator) + i128::from(numerator.rem_euclid(denominator) != 0);
    Some(i64::try_from(rounded).unwrap_or(i64::MAX))
}

fn factor(suffix: &str) -> Option<(i128, i128)> {
    let binary = |power: u32| 1024_i128.pow(power);
    let decimal = |power: u32| 1000_i128.pow(power);
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, decimal(3)),
        "u" => (1, decimal(2)),
        "m" => (1, decimal(1)),
        "k" => (decimal(1), 1),
        "M" => (decimal(2), 1),
        "G" => (decimal(3), 1),
        "T" => (decimal(4), 1),
        "P" => (decimal(5), 1),
        "E" => (decimal(6), 1),
        "Ki" => (binary(1), 1),
        "Mi" => (binary(2), 1),
        "Gi" => (binary(3), 1),
        "Ti" => (binary(4), 1),
        "Pi" => (binary(5), 1),
        "Ei" => (binary(6), 1),
        other => exponent(other)?,
    })
}

/// `e3`, `E-2`.
fn exponent(suffix: &str) -> Option<(i128, i128)> {
    let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let size = 10_i128.checked_pow(power.unsigned_abs())?;
    Some(if power < 0 { (1, size) } else { (size, 1) })
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
    use super::parse;

    #[test]
    fn quantities_are_read_exactly_and_rounded_up() {
        let cases = [
            ("100m", 1000, Some(100)),
            ("1", 1000, Some(1000)),
            ("0.5", 1000, Some(500)),
            ("1.5Gi", 1, Some(1_610_612_736)),
            ("1e3", 1, Some(1000)),
            ("500m", 1, Some(1)),
            ("12E", 1, Some(i64::MAX)),
            ("many", 1, None),
        ];
        for (text, scale, want) in cases {
            assert_eq!(
                parse(text, scale),
                want.map(|w: i64| if text == "12E" { 9_223_372_036_854_775_807 } else { w }),
                "{text}"
            );
        }
    }
}
