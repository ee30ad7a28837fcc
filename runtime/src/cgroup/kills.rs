//! Counting the memory killer's strikes, also in a cgroup that goes before anybody could read its count: systemd removes a
//! unit's as soon as its last process has ended, and that process may be the one that was killed.
//!
//! What is gone is looked up in the kernel's log, which names the victim's cgroup (mm/oom_kill.c, since Linux 5.0; not of
//! more than ten kills in five seconds).

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{Cgroups, Layout};

/// A record of /dev/kmsg is never longer (kernel/printk, CONSOLE_EXT_LOG_MAX).
const RECORD_LEN_MAX: usize = 8192;
/// The first that is not the kernel's, above three bits of level.
const FACILITY_USER: u32 = 1 << 3;

/// A count that is kept.
#[derive(Debug)]
pub struct Kills {
    cgroups: Cgroups,
    count: u64,
    log: Option<Log>,
}

/// The kernel's log from some moment on, and whom it is read for.
#[derive(Debug)]
struct Log {
    records: File,
    /// As the kernel writes it.
    cgroup: String,
}

impl Kills {
    /// Goes on from `count`.
    pub fn since(count: u64, cgroups: Cgroups) -> Kills {
        Kills { cgroups, count, log: None }
    }

    /// For a unit's: reads the kernel's log too, from now on. Where that is not allowed, a count that nobody could read is
    /// lost.
    pub fn of_unit(self, layout: &Layout) -> Kills {
        let log = self.cgroups.of("memory").and_then(|directory| Log::open(layout, directory));
        Kills { log, ..self }
    }

    /// Whether it struck since this was last asked.
    pub fn more(&mut self) -> bool {
        let Some(now) = self.cgroups.count_oom_kills() else {
            return self.log.as_mut().is_some_and(Log::tells);
        };
        let more = now > self.count;
        self.count = now;
        if let Some(log) = self.log.as_mut().filter(|_| more) {
            log.forget();
        }
        more
    }
}

impl Log {
    fn open(layout: &Layout, directory: &Path) -> Option<Log> {
        let mut options = File::options();
        let mut records = options.read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok()?;
        records.seek(SeekFrom::End(0)).ok()?;
        let mount = layout.mounts().iter().find(|mount| directory.starts_with(&mount.mountpoint))?;
        let path = mount.root.join(directory.strip_prefix(&mount.mountpoint).ok()?);
        // Names of units may have backslashes, which are told by their number.
        Some(Log { records, cgroup: path.to_str()?.replace('\\', "\\x5c") })
    }

    /// What was there so far is known.
    fn forget(&mut self) {
        let _at_worst_told_twice = self.records.seek(SeekFrom::End(0));
    }

    /// Whether somebody was killed there; each record is read once.
    fn tells(&mut self) -> bool {
        let (mut record, mut told) = ([0; RECORD_LEN_MAX], false);
        loop {
            match self.records.read(&mut record) {
                Ok(0) => return told,
                Ok(length) => told |= is_about(&String::from_utf8_lossy(&record[..length]), &self.cgroup),
                // Overwritten before it was read: the next read goes on with the oldest there is.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(_) => return told,
            }
        }
    }
}

/// `6,…;oom-kill:constraint=CONSTRAINT_MEMCG,…,task_memcg=/t.slice/t-c.scope,task=sh,pid=99,uid=0`: the killer's choice, in
/// this cgroup or one below. The first number is level and facility (syslog(3)); the kernel's own, which is 0, nobody else
/// can write with.
fn is_about(record: &str, cgroup: &str) -> bool {
    let victims = || {
        let (head, text) = record.lines().next()?.split_once(';')?;
        let priority: u32 = head.split(',').next()?.parse().ok()?;
        let choice = text.strip_prefix("oom-kill:").filter(|_| priority < FACILITY_USER)?;
        choice.split_once("task_memcg=")?.1.split(',').next()
    };
    victims()
        .and_then(|victims| victims.strip_prefix(cgroup))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_its_victims_cgroup() {
        let record = "6,1011,63290,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,\
            oom_memcg=/t.slice,task_memcg=/t.slice/t-c.scope,task=sh,pid=99,uid=0\n SUBSYSTEM=memory\n";
        for (cgroup, about) in [
            ("/t.slice/t-c.scope", true),
            ("/t.slice", true),
            ("/t.slice/t", false),
            ("/t.slice/t-c.scope/x", false),
            ("/u.slice", false),
        ] {
            assert_eq!(is_about(record, cgroup), about, "{cgroup}");
        }
        assert!(!is_about("6,1,2,-;Memory cgroup out of memory: Killed process 99 (sh)\n", "/t.slice"));
        // Programs may write to the log as well.
        assert!(!is_about(&record.replacen('6', "14", 1), "/t.slice"));
        assert!(!is_about("6,1,2,-;say;oom-kill:task_memcg=/t.slice,", "/t.slice"));
    }
}
