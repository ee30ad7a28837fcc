//! Device rules: the user's, then what every container needs.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

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
const ALL: u32 = MKNOD | READ | WRITE;

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

/// All rules in order; the last match decides.
pub fn rules(user: &[LinuxDeviceCgroup]) -> Vec<Rule> {
    let convert = |rule: &LinuxDeviceCgroup| Rule {
        allow: rule.allow(),
        kind: match rule.typ() {
            Some(LinuxDeviceType::B) => 'b',
            Some(LinuxDeviceType::C | LinuxDeviceType::U | LinuxDeviceType::P) => 'c',
            Some(LinuxDeviceType::A) | None => 'a',
        },
        major: rule.major().and_then(|n| u32::try_from(n).ok()),
        minor: rule.minor().and_then(|n| u32::try_from(n).ok()),
        access: access_bits(rule.access().as_deref().unwrap_or("rwm")),
    };
    let always = ALWAYS.iter().map(|(kind, major, minor, access)| Rule {
        allow: true,
        kind: *kind,
        major: *major,
        minor: *minor,
        access: *access,
    });
    user.iter().map(convert).chain(always).collect()
}

fn access_bits(text: &str) -> u32 {
    text.chars().fold(0, |bits, letter| {
        bits | match letter {
            'm' => MKNOD,
            'r' => READ,
            'w' => WRITE,
            _unknown => 0,
        }
    })
}

/// The rules as lines for devices.allow and devices.deny. A rule for all devices resets the list, and then the
/// kernel takes nothing but a bare `a`.
pub fn v1_lines(user: &[LinuxDeviceCgroup]) -> Vec<(&'static str, String)> {
    rules(user)
        .into_iter()
        .map(|rule| {
            let file = if rule.allow { "devices.allow" } else { "devices.deny" };
            (file, line(&rule))
        })
        .collect()
}

fn line(rule: &Rule) -> String {
    if rule.kind == 'a' && rule.major.is_none() && rule.minor.is_none() && rule.access == ALL {
        return "a".to_owned();
    }
    let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let mut access = String::new();
    for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
        if rule.access & bit != 0 {
            access.push(letter);
        }
    }
    format!("{} {}:{} {access}", rule.kind, number(rule.major), number(rule.minor))
}
