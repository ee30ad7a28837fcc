//! The mount options of config.json: which flag each is, and what is left for the file system (mount(8)).

use crate::step::Attr;

/// MOUNT_ATTR_RDONLY.
pub const RDONLY: u64 = 0x01;
const NOSUID: u64 = 0x02;
const NODEV: u64 = 0x04;
const NOEXEC: u64 = 0x08;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const ATIME_MASK: u64 = 0x70;
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x20_0000;

/// MS_REC, MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED of mount(2).
pub const MS_REC: u64 = 0x4000;
/// Cannot be bind mounted.
pub const MS_UNBINDABLE: u64 = 1 << 17;
/// Nothing propagates.
pub const MS_PRIVATE: u64 = 1 << 18;
/// Propagates inwards.
pub const MS_SLAVE: u64 = 1 << 19;
/// Propagates both ways.
pub const MS_SHARED: u64 = 1 << 20;

enum What {
    Set(u64),
    Clear(u64),
    Propagation(u64),
    /// A flag of the superblock: handed to the file system under this name.
    Super(&'static str),
    Nothing,
}
use What::{Clear, Nothing, Propagation, Set, Super};

const OPTIONS: &[(&str, What)] = &[
    ("acl", Super("acl")),
    ("async", Super("async")),
    ("atime", Clear(NOATIME)),
    ("defaults", Nothing),
    ("dev", Clear(NODEV)),
    ("diratime", Clear(NODIRATIME)),
    ("dirsync", Super("dirsync")),
    ("exec", Clear(NOEXEC)),
    ("iversion", Super("iversion")),
    ("lazytime", Super("lazytime")),
    ("loud", Nothing),
    ("mand", Super("mand")),
    ("noacl", Super("noacl")),
    ("noatime", Set(NOATIME)),
    ("nodev", Set(NODEV)),
    ("nodiratime", Set(NODIRATIME)),
    ("noexec", Set(NOEXEC)),
    ("noiversion", Super("noiversion")),
    ("nolazytime", Super("nolazytime")),
    ("nomand", Super("nomand")),
    ("norelatime", Nothing),
    ("nostrictatime", Nothing),
    ("nosuid", Set(NOSUID)),
    ("nosymfollow", Set(NOSYMFOLLOW)),
    ("private", Propagation(MS_PRIVATE)),
    ("relatime", Set(0)),
    ("remount", Nothing),
    ("ro", Set(RDONLY)),
    ("rprivate", Propagation(MS_PRIVATE | MS_REC)),
    ("rshared", Propagation(MS_SHARED | MS_REC)),
    ("rslave", Propagation(MS_SLAVE | MS_REC)),
    ("runbindable", Propagation(MS_UNBINDABLE | MS_REC)),
    ("rw", Clear(RDONLY)),
    ("shared", Propagation(MS_SHARED)),
    ("silent", Nothing),
    ("slave", Propagation(MS_SLAVE)),
    ("strictatime", Set(STRICTATIME)),
    ("suid", Clear(NOSUID)),
    ("symfollow", Clear(NOSYMFOLLOW)),
    ("sync", Super("sync")),
    ("unbindable", Propagation(MS_UNBINDABLE)),
];

/// The recursive twins: applied to all mounts below by mount_setattr.
const RECURSIVE: &[(&str, What)] = &[
    ("ratime", Clear(NOATIME)),
    ("rdev", Clear(NODEV)),
    ("rdiratime", Clear(NODIRATIME)),
    ("rexec", Clear(NOEXEC)),
    ("rnoatime", Set(NOATIME)),
    ("rnodev", Set(NODEV)),
    ("rnodiratime", Set(NODIRATIME)),
    ("rnoexec", Set(NOEXEC)),
    ("rnorelatime", Nothing),
    ("rnostrictatime", Nothing),
    ("rnosuid", Set(NOSUID)),
    ("rnosymfollow", Set(NOSYMFOLLOW)),
    ("rrelatime", Set(0)),
    ("rro", Set(RDONLY)),
    ("rrw", Clear(RDONLY)),
    ("rstrictatime", Set(STRICTATIME)),
    ("rsuid", Clear(NOSUID)),
    ("rsymfollow", Clear(NOSYMFOLLOW)),
];

/// A mount's options, sorted out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `bind`: Some(false), `rbind`: Some(true).
    pub bind: Option<bool>,
    /// For this mount.
    pub attr: Attr,
    /// For this mount and all below.
    pub recursive: Attr,
    /// MS_* propagation, perhaps with MS_REC; 0 if none was asked.
    pub propagation: u64,
    /// `tmpcopyup`.
    pub copy_up: bool,
    /// `idmap`: Some(false), `ridmap`: Some(true).
    pub idmap: Option<bool>,
    /// Flags of the superblock, which only a mount that makes one can set: `sync`, `lazytime` and the like.
    pub superblock: Vec<&'static str>,
    /// For the file system, in order.
    pub data: Vec<String>,
}

impl Options {
    /// Sorts the options of one mount.
    pub fn parse<S: AsRef<str>>(options: &[S]) -> Options {
        let mut parsed = Options::default();
        for option in options {
            parsed.take(option.as_ref());
        }
        parsed
    }

    fn take(&mut self, option: &str) {
        match option {
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.idmap = Some(self.idmap.unwrap_or(false)),
            "ridmap" => self.idmap = Some(true),
            _ => {
                if let Some(what) = find(OPTIONS, option) {
                    if let Propagation(flags) = what {
                        self.propagation = *flags;
                    } else if let Super(name) = what {
                        self.superblock.push(name);
                    } else {
                        change(&mut self.attr, what);
                    }
                } else if let Some(what) = find(RECURSIVE, option) {
                    change(&mut self.recursive, what);
                } else {
                    self.data.push(option.to_owned());
                }
            }
        }
    }
}

fn find<'a>(table: &'a [(&str, What)], option: &str) -> Option<&'a What> {
    table.binary_search_by(|(name, _)| (*name).cmp(option)).ok().map(|at| &table[at].1)
}

/// A later option overrules an earlier one; the access-time policies exclude each other.
fn change(attr: &mut Attr, what: &What) {
    match what {
        Set(bits) if bits & ATIME_MASK != 0 || *bits == 0 => {
            attr.clear |= ATIME_MASK;
            attr.set = attr.set & !ATIME_MASK | bits;
        }
        Set(bits) => {
            attr.set |= bits;
            attr.clear &= !bits;
        }
        Clear(bits) if bits & ATIME_MASK != 0 => {
            attr.clear |= ATIME_MASK;
            attr.set &= !ATIME_MASK;
        }
        Clear(bits) => {
            attr.clear |= bits;
            attr.set &= !bits;
        }
        Propagation(_) | Super(_) | Nothing => {}
    }
}

/// Every option name this runtime knows, sorted, for `features`.
pub fn known() -> Vec<String> {
    let special = ["bind", "rbind", "idmap", "ridmap", "tmpcopyup"];
    let tables = OPTIONS.iter().chain(RECURSIVE).map(|(name, _)| *name);
    let mut names: Vec<String> = tables.chain(special).map(str::to_owned).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_so_that_search_finds_everything() {
        for table in [OPTIONS, RECURSIVE] {
            assert!(table.is_sorted_by_key(|(name, _)| *name));
            assert!(table.iter().all(|(name, _)| find(table, name).is_some()));
        }
    }

    #[test]
    fn options_sort_into_flags_propagation_and_data() {
        let table: &[(&[&str], Options)] = &[
            (
                &["nosuid", "noexec", "nodev"],
                Options { attr: Attr { set: 0xe, ..Attr::default() }, ..Options::default() },
            ),
            (&["ro", "rw"], Options { attr: Attr { clear: 1, ..Attr::default() }, ..Options::default() }),
            (
                &["rbind", "rslave", "ro"],
                Options {
                    bind: Some(true),
                    propagation: MS_SLAVE | MS_REC,
                    attr: Attr { set: 1, ..Attr::default() },
                    ..Options::default()
                },
            ),
            (
                &["strictatime", "noatime"],
                Options { attr: Attr { set: NOATIME, clear: ATIME_MASK, propagation: 0 }, ..Options::default() },
            ),
            (&["rbind", "bind"], Options { bind: Some(true), ..Options::default() }),
            (
                &["mode=755", "size=64k"],
                Options { data: vec!["mode=755".into(), "size=64k".into()], ..Options::default() },
            ),
            (&["rro"], Options { recursive: Attr { set: 1, ..Attr::default() }, ..Options::default() }),
        ];
        for (options, expected) in table {
            assert_eq!(&Options::parse(options), expected, "{options:?}");
        }
    }
}
