//! Feature gates: which names there are, and what each means here. A proxy that has a feature whatever its gate says, or
//! never has it, says so when a file asks for the other; a name that is none is an error, as in kube-proxy.

use std::collections::BTreeMap;

use super::ConfigError;

/// What is so here, whatever the gate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Here {
    Always,
    Never,
}

/// Gates of what this proxy does, or of what it could do.
const OURS: &[(&str, Here)] = &[
    ("ClientsAllowCBOR", Here::Never),
    ("ClientsPreferCBOR", Here::Never),
    ("ComponentFlagz", Here::Never),
    ("ComponentStatusz", Here::Never),
    ("ContextualLogging", Here::Always),
    ("KubeProxyDrainingTerminatingNodes", Here::Always),
    ("LoadBalancerIPMode", Here::Always),
    ("NFTablesProxyMode", Here::Always),
    ("PreferSameTrafficDistribution", Here::Always),
    ("ServiceTrafficDistribution", Here::Always),
    ("TopologyAwareHints", Here::Always),
    ("WatchListClient", Here::Never),
    ("WinDSR", Here::Never),
    ("WinOverlay", Here::Never),
];

/// Gates that decide whether fields of `logging` may be used; see `logging`.
pub const LOGGING_ALPHA: &str = "LoggingAlphaOptions";
/// The same, and on unless told otherwise.
pub const LOGGING_BETA: &str = "LoggingBetaOptions";

/// Names of gates that concern other components, or nobody in particular: Kubernetes 1.32's, and later ones. A cluster's
/// gates are often given to all of its components alike.
const OTHERS: &str = include_str!("feature_gates.txt");

fn is_known(name: &str) -> bool {
    [LOGGING_ALPHA, LOGGING_BETA].contains(&name)
        || OURS.iter().any(|(ours, _)| *ours == name)
        || OTHERS.lines().any(|other| other == name)
}

/// Every name is known.
///
/// # Errors
/// The first that is not.
pub fn check(gates: &BTreeMap<String, bool>) -> Result<(), ConfigError> {
    match gates.keys().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => {
            Err(ConfigError::Field { field: "featureGates", why: format!("unrecognized feature gate: {name}") })
        }
    }
}

/// Whether a gate is on, where it is not told otherwise.
pub fn is_on(gates: &BTreeMap<String, bool>, name: &str, default: bool) -> bool {
    gates.get(name).copied().unwrap_or(default)
}

/// The gates whose setting changes nothing, each with why. One that asks for what is so anyway is not among them.
pub fn without_effect(gates: &BTreeMap<String, bool>) -> impl Iterator<Item = String> + '_ {
    let counts = |name: &str| [LOGGING_ALPHA, LOGGING_BETA].contains(&name);
    gates.iter().filter(move |(name, _)| !counts(name)).filter_map(|(name, on)| {
        let here = OURS.iter().find(|(ours, _)| ours == name).map(|(_, here)| *here);
        let why = match (here, on) {
            (Some(Here::Always), true) | (Some(Here::Never), false) => return None,
            (Some(Here::Always), false) => "always so here",
            (Some(Here::Never), true) => "never so here",
            (None, _) => "nothing of this proxy's",
        };
        Some(format!("featureGates.{name} ({why})"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_and_none_is_there_twice() {
        let mut all: Vec<&str> = OURS.iter().map(|(name, _)| *name).chain([LOGGING_ALPHA, LOGGING_BETA]).collect();
        all.extend(OTHERS.lines());
        for name in &all {
            assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric()), "{name:?}");
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
