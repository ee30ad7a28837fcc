//! Values that only mean something together: an update that names one of a pair needs the other.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

/// `new` with the missing halves of its pairs taken from `old`: quota and period share a file on v2, and v2's swap is
/// the difference of OCI's swap and limit. Zero is unset, as everywhere in runc.
pub fn partners(old: Option<&LinuxResources>, new: &LinuxResources) -> LinuxResources {
    let mut full = new.clone();
    let Some(old) = old else { return full };
    if let (Some(old), Some(cpu)) = (old.cpu(), new.cpu()) {
        full.set_cpu(Some(quota_and_period(old, cpu.clone())));
    }
    if let (Some(old), Some(memory)) = (old.memory(), new.memory()) {
        full.set_memory(Some(limit_and_swap(old, *memory)));
    }
    full
}

fn quota_and_period(old: &LinuxCpu, mut new: LinuxCpu) -> LinuxCpu {
    let (quota, period) = (new.quota().filter(|q| *q != 0), new.period().filter(|p| *p != 0));
    match (quota, period) {
        (Some(_), None) => drop(new.set_period(old.period())),
        (None, Some(_)) => drop(new.set_quota(old.quota())),
        _ => {}
    }
    new
}

fn limit_and_swap(old: &LinuxMemory, mut new: LinuxMemory) -> LinuxMemory {
    let (limit, swap) = (new.limit().filter(|l| *l != 0), new.swap().filter(|s| *s != 0));
    match (limit, swap) {
        // No limit on memory lifts that on swap too: there the old one has no say.
        (Some(0..), None) => drop(new.set_swap(old.swap())),
        (None, Some(_)) => drop(new.set_limit(old.limit())),
        _ => {}
    }
    new
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_missing_half_of_a_pair_is_the_old_one() {
        let table = [
            (json!({"cpu": {"quota": 5}}), json!({"cpu": {"quota": 5, "period": 100}})),
            (json!({"cpu": {"period": 7}}), json!({"cpu": {"quota": 50, "period": 7}})),
            (json!({"cpu": {"shares": 7}}), json!({"cpu": {"shares": 7}})),
            (json!({"memory": {"limit": 5}}), json!({"memory": {"limit": 5, "swap": 20}})),
            (json!({"memory": {"limit": -1}}), json!({"memory": {"limit": -1}})),
            (json!({"memory": {"swap": 15}}), json!({"memory": {"swap": 15, "limit": 10}})),
            (json!({"pids": {"limit": 1}}), json!({"pids": {"limit": 1}})),
        ];
        let old: LinuxResources =
            serde_json::from_value(json!({"cpu": {"quota": 50, "period": 100}, "memory": {"limit": 10, "swap": 20}}))
                .unwrap();
        for (new, expected) in table {
            let full = partners(Some(&old), &serde_json::from_value(new).unwrap());
            assert_eq!(serde_json::to_value::<_>(full).unwrap(), expected as Value);
        }
    }
}
