//! Resource limit names and numbers (getrlimit(2), asm-generic/resource.h).

use oci_spec::runtime::PosixRlimit;

use crate::step::Rlimit;

/// In order of their numbers.
pub const NAMES: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

/// The limits of config.json, unknown types impossible by its schema.
pub fn plan(limits: &[PosixRlimit]) -> Vec<Rlimit> {
    limits
        .iter()
        .filter_map(|limit| {
            let name = limit.typ().to_string();
            let resource = NAMES.iter().position(|known| *known == name)?;
            Some(Rlimit { resource: resource as u32, name: NAMES[resource], soft: limit.soft(), hard: limit.hard() })
        })
        .collect()
}
