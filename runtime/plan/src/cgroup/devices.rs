//! Device rules: the user's, then what every container needs.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::{ResourceError, refuse};

/// One rule, normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Allow or deny.
    pub allow: bool,
    /// 'a', 'b' or 'c'.
    pub kind: char,
    /// `None` is any.
    pub major: Option<u32>,
    /// `None` is any.
    pub minor: Option<u32>,
    /// Access: read 2, write 4, mknod 1, as the kernel's BPF_DEVCG_ACC_* has them.
    pub access: u32,
}

/// BPF_DEVCG_ACC_MKNOD.
pub const MKNOD: u32 = 1;
/// BPF_DEVCG_ACC_READ.
pub const READ: u32 = 2;
/// BPF_DEVCG_ACC_WRITE.
pub const WRITE: u32 = 4;
pub(super) const ALL: u32 = MKNOD | READ | WRITE;

/// What any container may: mknod of anything (opening is another matter), the default devices, terminals, tun.
const ALWAYS: [(char, Option<u32>, Option<u32>, u32); 12] = [
    ('c', None, None, MKNOD),
    ('b', None, None, MKNOD),
    ('c', Some(1), Some(3), ALL),
    ('c', Some(1), Some(8), ALL),
    ('c', Some(1), Some(7), ALL),
    ('c', Some(5), Some(0), ALL),
    ('c', Some(1), Some(5), ALL),
    ('c', Some(1), Some(9), ALL),
    ('c', Some(136), None, ALL),
    ('c', Some(5), Some(2), ALL),
    ('c', Some(10), Some(200), ALL),
    ('c', Some(5), Some(1), ALL),
];

/// All rules in order; the last match decides. A number or letter that is not understood is an error: to take it for
/// "any" would open more than was asked.
pub fn rules(user: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, ResourceError> {
    let always = ALWAYS.iter().map(|(kind, major, minor, access)| Rule {
        allow: true,
        kind: *kind,
        major: *major,
        minor: *minor,
        access: *access,
    });
    let mut all = user.iter().enumerate().map(|(n, rule)| convert(n, rule)).collect::<Result<Vec<_>, _>>()?;
    // A rule for no access at all matches nothing.
    all.retain(|rule| rule.access != 0);
    all.extend(always);
    Ok(all)
}

fn convert(index: usize, rule: &LinuxDeviceCgroup) -> Result<Rule, ResourceError> {
    let number = |field: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value).map(Some).map_err(|_out_of_range| {
            refuse(format!("devices[{index}].{field}"), format!("{value} is no device number"))
        }),
    };
    Ok(Rule {
        allow: rule.allow(),
        kind: match rule.typ() {
            Some(LinuxDeviceType::B) => 'b',
            Some(LinuxDeviceType::C | LinuxDeviceType::U | LinuxDeviceType::P) => 'c',
            Some(LinuxDeviceType::A) | None => 'a',
        },
        major: number("major", rule.major())?,
        minor: number("minor", rule.minor())?,
        access: access_bits(index, rule.access().as_deref().unwrap_or("rwm"))?,
    })
}

fn access_bits(index: usize, text: &str) -> Result<u32, ResourceError> {
    text.chars().try_fold(0, |bits, letter| match letter {
        'm' => Ok(bits | MKNOD),
        'r' => Ok(bits | READ),
        'w' => Ok(bits | WRITE),
        _ => Err(refuse(format!("devices[{index}].access"), format!("{text:?} has letters other than r, w and m"))),
    })
}

/// The rules as lines for devices.allow and devices.deny.
pub fn v1_lines(user: &[LinuxDeviceCgroup]) -> Result<Vec<(&'static str, String)>, ResourceError> {
    Ok(v1_rules(user)?.iter().map(v1_line).collect())
}

/// The rules as v1 can take them, in which only a rule about everything is of kind `a`: the kernel reads no further than
/// that letter, and would take a narrower one for it.
pub(super) fn v1_rules(user: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, ResourceError> {
    let split = |rule: Rule| {
        let narrow = rule.kind == 'a' && !is_everything(&rule);
        let kinds: &[char] = if narrow { &['b', 'c'] } else { std::slice::from_ref(&rule.kind) };
        kinds.iter().map(|kind| Rule { kind: *kind, ..rule }).collect::<Vec<_>>()
    };
    Ok(rules(user)?.into_iter().flat_map(split).collect())
}

/// File and text of one rule.
pub(super) fn v1_line(rule: &Rule) -> (&'static str, String) {
    let file = if rule.allow { "devices.allow" } else { "devices.deny" };
    (file, if is_everything(rule) { "a".to_owned() } else { line(rule) })
}

/// Whether a rule makes all before it moot.
pub(super) fn is_everything(rule: &Rule) -> bool {
    rule.kind == 'a' && rule.major.is_none() && rule.minor.is_none() && rule.access == ALL
}

pub(crate) fn line(rule: &Rule) -> String {
    let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    format!("{} {}:{} {}", rule.kind, number(rule.major), number(rule.minor), letters(rule.access))
}

/// `rwm`, as far as set.
pub(crate) fn letters(access: u32) -> String {
    let all = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    all.iter().filter(|(bit, _)| access & bit != 0).map(|(_, letter)| *letter).collect()
}
