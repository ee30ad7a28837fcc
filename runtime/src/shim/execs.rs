//! Processes run in containers on request, and the time they have.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use pintle_shim::request;
use pintle_shim::{Call, Event, Exit, Failure, Message, Reply};
use pintle_sys::fd;

use super::calls::Outcome;
use super::jobs::Kind;
use super::server::Server;
use crate::cgroup::Cgroups;
use crate::error::{Doing as _, Error, Result};
use crate::exec::ExecRequest;
use crate::worker::{self, Worker, failure};

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

impl Exec {
    /// Its time begins now.
    pub fn new(pid: i32, conn: u64, timeout_ms: Option<u64>, cgroup: Option<Cgroups>) -> Exec {
        let deadline = timeout_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
        Exec { pid, conn, console: None, deadline, timed_out: false, cgroup }
    }
}

impl Server {
    /// Has a worker start one.
    pub(super) fn start_exec(
        &mut self,
        conn: u64,
        request: u64,
        container: String,
        timeout_ms: Option<u64>,
        stdio: Option<[OwnedFd; 3]>,
        frame: Vec<u8>,
    ) -> std::result::Result<Outcome, Failure> {
        let serial = self.find(&container)?;
        let number = self.serial();
        let whole = &self.containers[&serial].cgroups;
        let cgroup = timeout_ms.map(|_| own_cgroup(whole, number)).transpose().map_err(|error| failure(&error))?;
        let join = cgroup.as_ref().map(|own| joined(whole, own).join());
        let (id, pid_ns) = (container.clone(), self.pid_ns.as_ref());
        let worker = Worker::spawn(&self.env, |env, teller| {
            let Call::Exec { process, .. } = request::whole(&frame)? else {
                return Err(Error::Usage("not an exec".to_owned()));
            };
            pintle_runtime_plan::spec::validate_process(&process)?;
            worker::enter_pid_ns(pid_ns)?;
            let exec = ExecRequest { id, process: *process, stdio, preserve_fds: 0, ignore_paused: false, join };
            worker::run(env, teller, exec)
        });
        match worker {
            Ok(worker) => Ok(self.begin(conn, request, container, Kind::Exec { number, timeout_ms, cgroup }, worker)),
            Err(error) => {
                remove(cgroup.as_ref());
                Err(failure(&error))
            }
        }
    }

    /// A worker has started one.
    pub(super) fn exec_started(&mut self, number: u64, mut exec: Exec, request: u64, console: Option<OwnedFd>) {
        let (pid, conn) = (exec.pid, exec.conn);
        exec.console = console.as_ref().and_then(|console| fd::duplicate(console).ok());
        self.execs.insert(number, exec);
        self.respond(conn, request, Ok((Reply::ExecStarted { exec: number, pid }, console.into_iter().collect())));
        if let Some((code, signal)) = self.take_stray(pid) {
            self.exec_ended(pid, code, signal);
        }
    }

    /// A child that is no container's init: an exec, a worker, or an orphan nobody waits for.
    pub(super) fn exec_ended(&mut self, pid: i32, code: i32, signal: i32) {
        let Some(number) = self.execs.iter().find(|(_, exec)| exec.pid == pid).map(|(number, _)| *number) else {
            self.keep_stray(pid, code, signal);
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

    /// Kills what ran out of time, with everything it started. A worker sweeps until nobody is left: who forks
    /// faster than the sweep must not hold the pod up.
    pub(super) fn end_overdue_execs(&mut self) {
        let now = Instant::now();
        let mut overdue = Vec::new();
        for exec in self.execs.values_mut().filter(|exec| exec.deadline.is_some_and(|deadline| deadline <= now)) {
            exec.deadline = None;
            exec.timed_out = true;
            overdue.push((exec.pid, exec.cgroup.clone()));
        }
        for (pid, cgroup) in overdue {
            let sweep = |_: &_, _: &worker::Teller<'_>| cgroup.map_or(Ok(Some(())), |own| own.kill_all().map(Some));
            match Worker::spawn(&self.env, sweep) {
                Ok(worker) => drop(self.begin(0, 0, format!("exec {pid}"), Kind::Sweep, worker)),
                Err(error) => crate::log::warn(&format!("end exec {pid}: {error}")),
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
pub fn remove(cgroup: Option<&Cgroups>) {
    for path in cgroup.iter().flat_map(|cgroup| cgroup.paths.values()) {
        let _goes_with_the_container = std::fs::remove_dir(path);
    }
}
