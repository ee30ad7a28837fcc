//! Processes run in containers on request, and the time they have.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use pintle_shim::{Event, Exit, Failure, FailureKind, Message, Reply};
use pintle_sys::fd;

use super::server::Server;
use crate::cgroup::Cgroups;
use crate::error::{Doing as _, Result};
use crate::exec::{ExecRequest, exec};

/// A running exec.
#[derive(Debug)]
pub struct Exec {
    /// As seen by us.
    pub pid: i32,
    /// Who hears of its end.
    pub conn: u64,
    /// For resizing.
    pub console: Option<OwnedFd>,
    /// When it is killed.
    pub deadline: Option<Instant>,
    /// It was.
    pub timed_out: bool,
    /// A cgroup of its own, so that all its descendants can be found when its time is up.
    pub cgroup: Option<Cgroups>,
}

impl Server {
    /// Starts one.
    pub(super) fn start_exec(
        &mut self,
        conn: u64,
        container: String,
        process: oci_spec::runtime::Process,
        timeout_ms: Option<u64>,
    ) -> std::result::Result<(Reply, Vec<OwnedFd>), Failure> {
        let serial = self.find(&container)?;
        let terminal = process.terminal().unwrap_or(false);
        let stdio = if terminal { None } else { Some(self.take_stdio(conn)?) };
        pintle_runtime_plan::spec::validate_process(&process).map_err(|error| super::calls::failure(&error.into()))?;
        let number = self.serial();
        let cgroup = match timeout_ms {
            Some(_) => {
                Some(own_cgroup(&self.containers[&serial].cgroups, number).map_err(|e| super::calls::failure(&e))?)
            }
            None => None,
        };
        let join = cgroup.as_ref().map(|own| joined(&self.containers[&serial].cgroups, own).join());
        let request = ExecRequest { id: container, process, stdio, preserve_fds: 0, ignore_paused: false, join };
        let launched = exec(&self.env, request).map_err(|error| {
            remove(cgroup.as_ref());
            super::calls::failure(&error)
        })?;
        let kept = launched.console.as_ref().map(fd::duplicate).transpose();
        let exec = Exec {
            pid: launched.pid,
            conn,
            console: kept.map_err(|errno| Failure { kind: FailureKind::System, message: errno.to_string() })?,
            deadline: timeout_ms.map(|ms| Instant::now() + Duration::from_millis(ms)),
            timed_out: false,
            cgroup,
        };
        self.execs.insert(number, exec);
        Ok((Reply::ExecStarted { exec: number, pid: launched.pid }, launched.console.into_iter().collect()))
    }

    fn take_stdio(&mut self, conn: u64) -> std::result::Result<[OwnedFd; 3], Failure> {
        let missing = || Failure {
            kind: FailureKind::Invalid,
            message: "exec without a terminal needs three descriptors: stdin, stdout, stderr".to_owned(),
        };
        let conn = self.conns.get_mut(&conn).ok_or_else(missing)?;
        let mut next = || conn.take_fd().ok_or_else(missing);
        Ok([next()?, next()?, next()?])
    }

    /// A child that is no container's init: an exec, or an orphan nobody waits for.
    pub(super) fn exec_ended(&mut self, pid: i32, code: i32, signal: i32) {
        let Some(number) = self.execs.iter().find(|(_, exec)| exec.pid == pid).map(|(number, _)| *number) else {
            return;
        };
        let Some(exec) = self.execs.remove(&number) else { return };
        remove(exec.cgroup.as_ref());
        let exit = Exit { code, signal, oom_killed: false, timed_out: exec.timed_out };
        let message = Message::Event(Event::ExecExited { exec: number, exit });
        if let Some(conn) = self.conns.get_mut(&exec.conn)
            && conn.send(&message, Vec::new()).is_err()
        {
            self.drop_conn(exec.conn);
        }
    }

    /// Kills what ran out of time, with everything it started.
    pub(super) fn end_overdue_execs(&mut self) {
        let now = Instant::now();
        for exec in self.execs.values_mut().filter(|exec| exec.deadline.is_some_and(|deadline| deadline <= now)) {
            exec.deadline = None;
            exec.timed_out = true;
            let killed = exec.cgroup.as_ref().map_or(Ok(()), Cgroups::kill_all);
            if let Err(error) = killed {
                crate::log::warn(&format!("end exec {}: {error}", exec.pid));
            }
        }
    }
}

/// A sub-cgroup in one hierarchy is enough to find everybody: `pids` on v1, the only one on v2. Its limits are those
/// of the container above.
fn own_cgroup(container: &Cgroups, number: u64) -> Result<Cgroups> {
    let name = format!("exec-{number}");
    let wanted = container.paths.iter().find(|(key, _)| key.is_empty() || key.split(',').any(|one| one == "pids"));
    let Some((key, path)) = wanted.or_else(|| container.paths.iter().next()) else {
        return Ok(Cgroups::known(BTreeMap::new()));
    };
    let own = path.join(name);
    std::fs::create_dir(&own).doing(|| format!("make cgroup {}", own.display()))?;
    Ok(Cgroups::known(BTreeMap::from([(key.clone(), own)])))
}

fn joined(container: &Cgroups, own: &Cgroups) -> Cgroups {
    let mut paths = container.paths.clone();
    paths.extend(own.paths.clone());
    Cgroups::known(paths)
}

/// Descendants may live on in it; then it goes with the container.
fn remove(cgroup: Option<&Cgroups>) {
    for path in cgroup.iter().flat_map(|cgroup| cgroup.paths.values()) {
        let _goes_with_the_container = std::fs::remove_dir(path);
    }
}
