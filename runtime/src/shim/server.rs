//! The loop: who is ready, and whose turn it is.
//!
//! The set of descriptors is small (a handful per container) and changes with every call, so it is built anew for
//! each poll: there is no registration that could go stale.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use pintle_shim::{ContainerState, Event, Message};
use pintle_sys::{Errno, scm};

use super::attach::Attachment;
use super::calls::Asked;
use super::conn::Conn;
use super::container::{Container, Drained, record_exit};
use super::execs::Exec;
use super::jobs::Job;
use super::log_file::Stream;
use super::start::Settings;
use crate::cgroup::Cgroups;
use crate::clock;
use crate::container::Env;
use crate::error::{Doing as _, Result};
use crate::ready;

/// Chunks read from one output before others have their turn.
const TURNS: usize = 8;
/// How long clients may take to read what is left when the pod is shut down.
const GOODBYE_MAX: Duration = Duration::from_secs(10);
/// Chunks read from an output whose container has ended: all that a pipe can hold, many times over.
const LAST_TURNS: usize = 1024;

/// Who can be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Listener,
    Signals,
    Conn(u64),
    Worker(u64),
    Leaving(u64),
    Output(u64, Stream),
    Input(u64),
    AttachedIn(u64, u64),
    AttachedOut(u64, u64),
}

/// Where a supervisor sits.
pub struct Place {
    /// Says that this pod has one.
    pub lock: nix::fcntl::Flock<File>,
    /// Its socket.
    pub listener: UnixListener,
    /// The small init of a shared pid namespace, and the namespace.
    pub shared_pid: Option<(OwnedFd, File)>,
}

/// The supervisor.
pub struct Server {
    pub(super) env: Env,
    pub(super) config: Settings,
    pub(super) pod: Cgroups,
    listener: UnixListener,
    signals: SignalFd,
    pub(super) conns: BTreeMap<u64, Conn>,
    /// By a serial number, so that the order is that of creation.
    pub(super) containers: BTreeMap<u64, Container>,
    pub(super) execs: BTreeMap<u64, Exec>,
    /// What workers are doing.
    pub(super) jobs: BTreeMap<u64, Job>,
    /// Calls that wait for a job to end, in the order they came.
    pub(super) waiting: Vec<Asked>,
    /// Children that ended before a worker told us what they are: pid, code, signal.
    pub(super) strays: Vec<(i32, i32, i32)>,
    /// Clients of containers that have ended, with output still to read.
    leaving: Vec<Attachment>,
    next_serial: u64,
    pub(super) done: bool,
    /// Something happened since memory was last given back.
    busy: bool,
    /// Holds a shared pid namespace open.
    pub(super) small_init: Option<OwnedFd>,
    /// That namespace.
    pub(super) pid_ns: Option<File>,
    /// Says that this pod has a supervisor, as long as it lives.
    _lock: nix::fcntl::Flock<File>,
}

impl Server {
    /// Ready to run. From here on the death of children is read from a descriptor.
    pub fn new(env: Env, config: Settings, pod: Cgroups, place: Place) -> Result<Server> {
        let what = || "set up signals".to_owned();
        let mut wanted = SigSet::empty();
        wanted.add(Signal::SIGCHLD);
        let signals = pintle_sys::signal::as_fd(wanted).doing(what)?;
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            // Only `Shutdown` ends a supervisor: its containers' exit codes die with it.
            pintle_sys::signal::ignore(signal).doing(what)?;
        }
        let (small_init, pid_ns) = place.shared_pid.unzip();
        Ok(Server {
            env,
            config,
            pod,
            listener: place.listener,
            signals,
            conns: BTreeMap::new(),
            containers: BTreeMap::new(),
            execs: BTreeMap::new(),
            jobs: BTreeMap::new(),
            waiting: Vec::new(),
            strays: Vec::new(),
            leaving: Vec::new(),
            next_serial: 1,
            done: false,
            busy: true,
            small_init,
            pid_ns,
            _lock: place.lock,
        })
    }

    /// A number never given before.
    pub(super) fn serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial - 1
    }

    /// Serves until shut down; gives the exit code.
    pub fn run(&mut self) -> i32 {
        while !self.done {
            match self.wait() {
                // A quiet moment: what the last calls needed is not needed while waiting for the next.
                Ok(ready) if ready.is_empty() => self.busy = false,
                Ok(ready) => ready.into_iter().for_each(|(source, events)| self.serve(source, events)),
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    crate::log::warn(&format!("poll: {errno}"));
                    return 1;
                }
            }
            self.end_overdue_execs();
        }
        self.say_goodbye();
        0
    }

    /// The pod is gone, but not yet those who read its last words.
    fn say_goodbye(&mut self) {
        let deadline = Instant::now() + GOODBYE_MAX;
        loop {
            self.leaving.retain_mut(|client| client.flush().is_ok() && !client.is_empty());
            let left = deadline.saturating_duration_since(Instant::now()).as_millis();
            if self.leaving.is_empty() || left == 0 {
                return;
            }
            let sinks = self.leaving.iter().flat_map(Attachment::sinks).filter(|(_, waits)| *waits);
            let mut fds: Vec<_> = sinks.map(|(fd, _)| PollFd::new(fd.as_fd(), PollFlags::POLLOUT)).collect();
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            if poll(&mut fds, timeout).is_err_and(|errno| errno != Errno::EINTR) {
                return;
            }
        }
    }

    fn wait(&self) -> pintle_sys::Result<Vec<(Source, PollFlags)>> {
        let deadline = self.execs.values().filter_map(|exec| exec.deadline).min();
        ready::wait(self.env.proof, self.busy, &self.sources(), deadline)
    }

    /// Clients of a container that says nothing more: they get what is queued.
    fn let_go(&mut self, clients: Vec<Attachment>) {
        self.leaving.extend(clients.into_iter().filter(|client| !client.is_empty()));
    }

    fn sources(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let readable = PollFlags::POLLIN;
        let mut sources = vec![
            (Source::Signals, self.signals.as_fd(), readable),
            (Source::Listener, self.listener.as_fd(), readable),
        ];
        for (serial, conn) in &self.conns {
            let events = if conn.wants_to_write() { readable | PollFlags::POLLOUT } else { readable };
            sources.push((Source::Conn(*serial), conn.socket().as_fd(), events));
        }
        for (serial, job) in &self.jobs {
            sources.push((Source::Worker(*serial), job.worker.channel(), readable));
        }
        for (serial, container) in &self.containers {
            container_sources(*serial, container, &mut sources);
        }
        for client in &self.leaving {
            let waiting = client.sinks().filter(|(_, waits)| *waits);
            sources.extend(waiting.map(|(fd, _)| (Source::Leaving(client.token), fd.as_fd(), PollFlags::POLLOUT)));
        }
        sources
    }

    fn serve(&mut self, source: Source, events: PollFlags) {
        self.busy |= !matches!(source, Source::Output(..));
        match source {
            Source::Listener => self.accept(),
            Source::Signals => self.reap(),
            Source::Conn(serial) => self.serve_conn(serial, events),
            Source::Worker(serial) => self.hear(serial),
            Source::Leaving(token) => {
                self.leaving.retain_mut(|one| one.token != token || (one.flush().is_ok() && !one.is_empty()));
            }
            Source::Output(serial, stream) => self.read_output(serial, stream),
            Source::Input(serial) => {
                if let Some(container) = self.containers.get_mut(&serial) {
                    container.flush_input();
                }
            }
            Source::AttachedIn(serial, token) => self.read_attached(serial, token),
            Source::AttachedOut(serial, token) => self.flush_attached(serial, token, events),
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            let own = nix::unistd::geteuid().as_raw();
            let trusted = scm::peer(&socket).is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own);
            if trusted && socket.set_nonblocking(true).is_ok() {
                let serial = self.serial();
                self.conns.insert(serial, Conn::new(socket));
            }
        }
    }

    fn serve_conn(&mut self, serial: u64, events: PollFlags) {
        let Some(conn) = self.conns.get_mut(&serial) else { return };
        if events.contains(PollFlags::POLLOUT) && conn.flush().is_err() {
            self.drop_conn(serial);
            return;
        }
        let (frames, left) = conn.receive();
        frames.into_iter().for_each(|frame| self.answer(serial, frame));
        if left.is_err() {
            self.drop_conn(serial);
        }
    }

    pub(super) fn drop_conn(&mut self, serial: u64) {
        self.conns.remove(&serial);
    }

    fn read_output(&mut self, serial: u64, stream: Stream) {
        let Some(container) = self.containers.get_mut(&serial) else { return };
        if container.drain(stream, TURNS) == Drained::Ended {
            container.close_output(stream);
            if container.console.is_none() && container.outputs.iter().all(Option::is_none) {
                // Once nothing more can come, attached clients see the end.
                let clients = std::mem::take(&mut container.attached);
                self.let_go(clients);
            }
        }
    }

    fn read_attached(&mut self, serial: u64, token: u64) {
        let Some(container) = self.containers.get_mut(&serial) else { return };
        let Some(at) = container.attached.iter().position(|one| one.token == token) else { return };
        let mut buffer = [0; 4096];
        match container.attached[at].read(&mut buffer) {
            Some(n) => container.feed(&buffer[..n]),
            None => {
                container.attached[at].stdin = None;
                if container.stdin_once && container.console.is_none() {
                    container.stdin_ends();
                }
            }
        }
    }

    fn flush_attached(&mut self, serial: u64, token: u64, events: PollFlags) {
        let Some(container) = self.containers.get_mut(&serial) else { return };
        let broken = events.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL);
        container.attached.retain_mut(|one| one.token != token || (!broken && one.flush().is_ok()));
    }

    /// Collects every child that ended: containers, execs, and orphans that fell to us.
    fn reap(&mut self) {
        while matches!(self.signals.read_signal(), Ok(Some(_))) {}
        loop {
            let (pid, code, signal) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), code, 0),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), 128 + signal as i32, signal as i32),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(errno) => {
                    crate::log::warn(&format!("wait for children: {errno}"));
                    return;
                }
            };
            if let Some(serial) = self.containers.iter().find(|(_, c)| c.state.pid == pid).map(|(serial, _)| *serial) {
                self.container_ended(serial, code, signal);
            } else {
                self.exec_ended(pid, code, signal);
            }
        }
    }

    pub(super) fn container_ended(&mut self, serial: u64, code: i32, signal: i32) {
        let starting = self.containers.get(&serial).is_some_and(|container| self.is_starting(&container.state.id));
        let Some(container) = self.containers.get_mut(&serial) else { return };
        if starting {
            // Whether the program ever ran decides what its exit code is.
            container.ended_early = Some((code, signal));
            return;
        }
        let code = if container.start_failed { 128 } else { code };
        container.ended(code, signal, clock::now_ms());
        if !container.own_pid_ns
            && let Err(error) = container.cgroups.signal(libc::SIGKILL)
        {
            crate::log::warn(&format!("end the processes of {}: {error}", container.state.id));
        }
        // What it wrote last must be in the log before anyone hears that it ended.
        for stream in [Stream::Stdout, Stream::Stderr] {
            if container.drain(stream, LAST_TURNS) == Drained::Ended {
                container.close_output(stream);
            }
        }
        let clients = std::mem::take(&mut container.attached);
        let state = container.state.clone();
        if let Err(error) = record_exit(&self.config.dir, &state) {
            crate::log::warn(&error.to_string());
        }
        self.let_go(clients);
        self.broadcast(&Event::Exited { state });
    }

    pub(super) fn states(&self) -> Vec<ContainerState> {
        self.containers.values().map(|container| container.state.clone()).collect()
    }

    fn broadcast(&mut self, event: &Event) {
        let message = Message::Event(event.clone());
        self.conns.retain(|_, conn| !conn.subscribed || conn.send(&message, Vec::new()).is_ok());
    }
}

fn container_sources<'a>(
    serial: u64,
    container: &'a Container,
    sources: &mut Vec<(Source, BorrowedFd<'a>, PollFlags)>,
) {
    if let Some(console) = container.console.as_ref().filter(|_| !container.is_held_back()) {
        sources.push((Source::Output(serial, Stream::Stdout), console.as_fd(), PollFlags::POLLIN));
    }
    for (stream, output) in [Stream::Stdout, Stream::Stderr].into_iter().zip(&container.outputs) {
        if let Some(output) = output.as_ref().filter(|_| !container.is_held_back()) {
            sources.push((Source::Output(serial, stream), output.as_fd(), PollFlags::POLLIN));
        }
    }
    if let Some(input) = container.input().filter(|_| !container.stdin_queue.is_empty()) {
        sources.push((Source::Input(serial), input.as_fd(), PollFlags::POLLOUT));
    }
    for attachment in &container.attached {
        if let Some(stdin) = attachment.stdin.as_ref().filter(|_| container.wants_input()) {
            sources.push((Source::AttachedIn(serial, attachment.token), stdin.as_fd(), PollFlags::POLLIN));
        }
        for (sink, waits) in attachment.sinks() {
            let events = if waits { PollFlags::POLLOUT } else { PollFlags::empty() };
            sources.push((Source::AttachedOut(serial, attachment.token), sink.as_fd(), events));
        }
    }
}
