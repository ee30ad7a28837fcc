//! What a cgroup of v1 allows, as devices.list shows it: what rules make of it, and how it is brought from one list to
//! another.
//!
//! A cgroup allows everything or nothing, and keeps exceptions from that
//! (Documentation/admin-guide/cgroup-v1/devices.rst). A rule about everything forgets them; any other makes an exception,
//! or takes back one of exactly the same numbers.

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxDeviceCgroup;

use super::ResourceError;
use super::devices::{ALL, MKNOD, READ, Rule, WRITE, is_everything, v1_line, v1_rules};

/// Access by kind, major and minor.
pub type Exceptions = BTreeMap<(char, Option<u32>, Option<u32>), u32>;

/// What a cgroup allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// Everything but these.
    AllBut(Exceptions),
    /// These.
    Only(Exceptions),
}

/// A rule about everything.
const EVERYTHING: Rule = Rule { allow: true, kind: 'a', major: None, minor: None, access: ALL };

impl Allowed {
    /// What these rules, and those that every container has, make of a cgroup that allows everything.
    pub fn by(user: &[LinuxDeviceCgroup]) -> Result<Allowed, ResourceError> {
        let mut allowed = Allowed::AllBut(Exceptions::new());
        v1_rules(user)?.iter().for_each(|rule| allowed.apply(rule));
        Ok(allowed)
    }

    /// Reads a devices.list, which does not tell the exceptions of a cgroup that allows everything.
    pub fn read(text: &str) -> Option<Allowed> {
        let mut only = Exceptions::new();
        for line in text.lines() {
            let [kind, numbers, access] = line.split_whitespace().collect::<Vec<_>>()[..] else { return None };
            if kind == "a" {
                return Some(Allowed::AllBut(Exceptions::new()));
            }
            let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
            let (major, minor) = numbers.split_once(':')?;
            only.insert((kind.chars().next()?, number(major)?, number(minor)?), bits(access));
        }
        Some(Allowed::Only(only))
    }

    /// What the kernel makes of a write.
    fn apply(&mut self, rule: &Rule) {
        if is_everything(rule) {
            let none = Exceptions::new();
            *self = if rule.allow { Allowed::AllBut(none) } else { Allowed::Only(none) };
            return;
        }
        let (exceptions, adds) = match self {
            Allowed::AllBut(exceptions) => (exceptions, !rule.allow),
            Allowed::Only(exceptions) => (exceptions, rule.allow),
        };
        let key = (rule.kind, rule.major, rule.minor);
        let access = exceptions.entry(key).or_default();
        *access = if adds { *access | rule.access } else { *access & !rule.access };
        exceptions.retain(|_, access| *access != 0);
    }

    /// The writes, file and text, that make a cgroup with this list allow what is `wanted`.
    pub fn settle(&self, wanted: &Allowed) -> Vec<(&'static str, String)> {
        let mut rules = Vec::new();
        match (self, wanted) {
            (Allowed::Only(now), Allowed::Only(wanted)) => {
                rules.extend(differing(now, wanted, false));
                rules.extend(differing(wanted, now, true));
            }
            (Allowed::AllBut(_), Allowed::AllBut(wanted)) => rules.extend(differing(wanted, &Exceptions::new(), false)),
            (Allowed::AllBut(_), Allowed::Only(wanted)) => {
                rules.push(Rule { allow: false, ..EVERYTHING });
                rules.extend(differing(wanted, &Exceptions::new(), true));
            }
            (Allowed::Only(_), Allowed::AllBut(wanted)) => {
                rules.push(EVERYTHING);
                rules.extend(differing(wanted, &Exceptions::new(), false));
            }
        }
        rules.iter().map(v1_line).collect()
    }
}

/// Rules about what `these` have and `those` have not.
fn differing(these: &Exceptions, those: &Exceptions, allow: bool) -> Vec<Rule> {
    let missing = |(key, access): (&(char, Option<u32>, Option<u32>), &u32)| {
        let access = access & !those.get(key).unwrap_or(&0);
        (access != 0).then_some(Rule { allow, kind: key.0, major: key.1, minor: key.2, access })
    };
    these.iter().filter_map(missing).collect()
}

fn bits(letters: &str) -> u32 {
    let bit = |letter| match letter {
        'r' => READ,
        'w' => WRITE,
        'm' => MKNOD,
        _ => 0,
    };
    letters.chars().map(bit).fold(0, |bits, bit| bits | bit)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    fn by(rules: serde_json::Value) -> Allowed {
        Allowed::by(&serde_json::from_value::<Vec<LinuxDeviceCgroup>>(rules).unwrap()).unwrap()
    }

    /// A cgroup that takes writes.
    fn after(mut allowed: Allowed, writes: &[(&str, String)]) -> Allowed {
        for (file, text) in writes {
            let allow = *file == "devices.allow";
            let rule = match Allowed::read(text.trim()) {
                _ if text == "a" => Rule { allow, ..EVERYTHING },
                Some(Allowed::Only(one)) => {
                    let ((kind, major, minor), access) = one.into_iter().next().unwrap();
                    Rule { allow, kind, major, minor, access }
                }
                other => panic!("{text}: {other:?}"),
            };
            allowed.apply(&rule);
        }
        allowed
    }

    #[test]
    fn the_last_word_about_everything_decides_and_the_rest_are_exceptions() {
        let Allowed::Only(only) = by(json!([{"allow": false, "access": "rwm"},
            {"allow": true, "type": "b", "major": 8, "minor": 5, "access": "rw"},
            {"allow": false, "type": "b", "major": 8, "minor": 5, "access": "w"}]))
        else {
            panic!("all is denied first")
        };
        assert_eq!(only[&('b', Some(8), Some(5))], READ);
        assert_eq!(only[&('c', None, None)], MKNOD);
        assert_eq!(only[&('c', Some(1), Some(3))], ALL);
        assert_eq!(by(json!([{"allow": true, "access": "rwm"}])), Allowed::AllBut(Exceptions::new()));
        assert_eq!(by(json!([])), Allowed::AllBut(Exceptions::new()));
        let but = by(json!([{"allow": false, "type": "c", "major": 1, "minor": 1, "access": "rw"},
            {"allow": false, "type": "c", "major": 1, "minor": 3, "access": "rw"}]));
        assert_eq!(but, Allowed::AllBut([(('c', Some(1), Some(1)), READ | WRITE)].into()), "/dev/null is everybody's");
    }

    #[test]
    fn the_kernels_list_is_understood() {
        let read = Allowed::read("c *:* m\nb 8:* rw\n").unwrap();
        assert_eq!(read, Allowed::Only([(('c', None, None), MKNOD), (('b', Some(8), None), READ | WRITE)].into()));
        assert_eq!(Allowed::read("a *:* rwm\n"), Some(Allowed::AllBut(Exceptions::new())));
        assert_eq!(Allowed::read(""), Some(Allowed::Only(Exceptions::new())));
        assert_eq!(Allowed::read("c 1 rwm\n"), None);
    }

    #[test]
    fn settling_makes_any_list_the_wanted_one_and_a_second_time_nothing() {
        let lists = [
            by(json!([])),
            by(json!([{"allow": false, "access": "rwm"}])),
            by(json!([{"allow": false, "type": "c", "major": 1, "minor": 1, "access": "rw"}])),
            by(json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "b", "minor": 5, "access": "r"}])),
            Allowed::Only(Exceptions::new()),
        ];
        for now in &lists {
            for wanted in &lists {
                // The exceptions of what allows everything cannot be seen, so nobody asks to settle from them.
                if matches!(now, Allowed::AllBut(but) if !but.is_empty()) {
                    continue;
                }
                let settled = after(now.clone(), &now.settle(wanted));
                assert_eq!(&settled, wanted, "from {now:?}");
                assert!(matches!(wanted, Allowed::AllBut(_)) || settled.settle(wanted).is_empty());
            }
        }
    }
}
