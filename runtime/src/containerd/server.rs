//! The loop: who is ready, and whose turn it is. The set of descriptors is built anew for each poll.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use pintle_sys::{Errno, scm};
use pintle_ttrpc::{Frame, RESPONSE, Response};
use prost::Message as _;

use super::calls::{Answer, Asked};
use super::conn::Conn;
use super::io::Terminal;
use super::jobs::Job;
use super::process::{Caller, Process, Task};
use super::publish::Publisher;
use crate::container::Env;
use crate::error::{Doing as _, Result};
use crate::ready;

/// How long a shim that was told to end waits for its last words to be taken.
const FAREWELL: Duration = Duration::from_secs(2);

/// Who can be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Listener,
    Signals,
    Events,
    Conn(u64),
    Worker(u64),
    /// A terminal of a process.
    Terminal(u64),
    /// The memory killer, at the task of this first process.
    Oom(u64),
}

/// The shim.
pub struct Server {
    pub(super) env: Env,
    listener: UnixListener,
    socket: PathBuf,
    signals: SignalFd,
    pub(super) conns: BTreeMap<u64, Conn>,
    /// By id.
    pub(super) tasks: BTreeMap<String, Task>,
    /// By a serial number, so that the order is that of creation.
    pub(super) processes: BTreeMap<u64, Process>,
    pub(super) jobs: BTreeMap<u64, Job>,
    /// Calls that wait for a job to end, in the order they came.
    pub(super) waiting: Vec<Asked>,
    /// Children that ended before a worker told us what they are: pid and exit status.
    pub(super) strays: Vec<(i32, i32)>,
    pub(super) events: Publisher,
    next_serial: u64,
    /// Told to end; by then it does.
    pub(super) leaving: Option<Instant>,
    busy: bool,
}

impl Server {
    /// Ready to run. From here on the death of children is read from a descriptor.
    pub fn new(
        env: Env,
        namespace: &str,
        listener: UnixListener,
        socket: PathBuf,
        events: Option<PathBuf>,
    ) -> Result<Server> {
        let what = || "set up signals".to_owned();
        let mut wanted = SigSet::empty();
        wanted.add(Signal::SIGCHLD);
        let signals = pintle_sys::signal::as_fd(wanted).doing(what)?;
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE] {
            // Only `Shutdown` ends a shim: its tasks' exit codes die with it.
            pintle_sys::signal::ignore(signal).doing(what)?;
        }
        Ok(Server {
            env,
            listener,
            socket,
            signals,
            conns: BTreeMap::new(),
            tasks: BTreeMap::new(),
            processes: BTreeMap::new(),
            jobs: BTreeMap::new(),
            waiting: Vec::new(),
            strays: Vec::new(),
            events: Publisher::new(events, namespace),
            next_serial: 1,
            leaving: None,
            busy: true,
        })
    }

    /// A number never given before.
    pub(super) fn serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial - 1
    }

    /// Told to end: no new client finds it, and what is on its way may arrive.
    pub(super) fn leave(&mut self) {
        let _may_be_gone = std::fs::remove_file(&self.socket);
        self.leaving = Some(Instant::now() + FAREWELL);
    }

    /// Serves until shut down; gives the exit code.
    pub fn run(&mut self) -> i32 {
        while !self.has_left() {
            match self.wait() {
                Ok(ready) if ready.is_empty() => self.busy = false,
                Ok(ready) => ready.into_iter().for_each(|(source, events)| self.serve(source, events)),
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    crate::log::warn(&format!("poll: {errno}"));
                    return 1;
                }
            }
            self.events.on_time(Instant::now());
        }
        0
    }

    fn has_left(&self) -> bool {
        let quiet = self.events.is_idle() && self.conns.values().all(|conn| !conn.wants_to_write());
        self.leaving.is_some_and(|deadline| quiet || deadline <= Instant::now())
    }

    fn wait(&self) -> pintle_sys::Result<Vec<(Source, PollFlags)>> {
        let deadline = self.events.retry.into_iter().chain(self.leaving).min();
        ready::wait(self.env.proof, self.busy, &self.sources(), deadline)
    }

    fn sources(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let readable = PollFlags::POLLIN;
        let both = |wants: bool| if wants { readable | PollFlags::POLLOUT } else { readable };
        let mut sources = vec![
            (Source::Signals, self.signals.as_fd(), readable),
            (Source::Listener, self.listener.as_fd(), readable),
        ];
        if let Some((socket, wants)) = self.events.source() {
            sources.push((Source::Events, socket.as_fd(), both(wants)));
        }
        for (serial, conn) in &self.conns {
            sources.push((Source::Conn(*serial), conn.socket().as_fd(), both(conn.wants_to_write())));
        }
        for (serial, job) in &self.jobs {
            sources.push((Source::Worker(*serial), job.worker.channel(), readable));
        }
        for (serial, process) in &self.processes {
            if let Some(terminal) = &process.io.terminal {
                terminal_sources(*serial, terminal, &mut sources);
            }
            let watch = self.tasks.get(&process.task).and_then(|task| task.oom_watch.as_ref());
            if let Some(watch) = watch.filter(|_| process.is_init()) {
                sources.push((Source::Oom(*serial), watch.as_fd(), watch.flags()));
            }
        }
        sources
    }

    fn serve(&mut self, source: Source, events: PollFlags) {
        self.busy |= !matches!(source, Source::Terminal(..));
        match source {
            Source::Listener => self.accept(),
            Source::Signals => self.reap(),
            Source::Events => self.events.serve(),
            Source::Conn(serial) => self.serve_conn(serial, events),
            Source::Worker(serial) => self.hear(serial),
            Source::Oom(serial) => self.told_of_oom(serial),
            Source::Terminal(serial) => {
                if let Some(terminal) = self.processes.get_mut(&serial).and_then(|one| one.io.terminal.as_mut()) {
                    terminal.write_input();
                    if terminal.wants_input() {
                        terminal.read_input();
                    }
                    terminal.read_output();
                    terminal.write_output();
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            let own = nix::unistd::geteuid().as_raw();
            let trusted = scm::peer(&socket).is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own);
            if trusted && socket.set_nonblocking(true).is_ok() {
                let serial = self.serial();
                self.conns.insert(serial, Conn::new(socket));
                // Whoever connects is containerd, perhaps a new one.
                self.events.try_anew();
            }
        }
    }

    fn serve_conn(&mut self, serial: u64, events: PollFlags) {
        let Some(conn) = self.conns.get_mut(&serial) else { return };
        let flushed = if events.contains(PollFlags::POLLOUT) { conn.flush() } else { Ok(()) };
        match flushed.and_then(|()| conn.receive()) {
            Ok(frames) => frames.into_iter().for_each(|frame| self.asked(serial, frame)),
            Err(_gone) => self.drop_conn(serial),
        }
    }

    fn drop_conn(&mut self, serial: u64) {
        self.conns.remove(&serial);
        for process in self.processes.values_mut() {
            process.waiting.retain(|caller| caller.conn != serial);
        }
    }

    /// Answers a call. Its caller may be gone; what was done stays done.
    pub(super) fn respond(&mut self, to: Caller, answer: Answer) {
        let response = match answer {
            Ok(payload) => Response { status: None, payload },
            Err(fault) => Response { status: Some(fault.into()), payload: Vec::new() },
        };
        let frame = Frame { stream: to.stream, kind: RESPONSE, data: response.encode_to_vec() };
        if let Some(conn) = self.conns.get_mut(&to.conn)
            && conn.send(&frame).is_err()
        {
            self.drop_conn(to.conn);
        }
    }

    /// Collects every child that ended: processes, workers, and orphans that fell to us.
    fn reap(&mut self) {
        while matches!(self.signals.read_signal(), Ok(Some(_))) {}
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(errno) => {
                    crate::log::warn(&format!("wait for children: {errno}"));
                    return;
                }
            };
            match self.processes.iter().find(|(_, one)| one.pid == pid && one.exit.is_none()).map(|(serial, _)| *serial)
            {
                Some(serial) => self.process_ended(serial, status),
                None => self.keep_stray(pid, status),
            }
        }
    }
}

fn terminal_sources<'a>(serial: u64, terminal: &'a Terminal, sources: &mut Vec<(Source, BorrowedFd<'a>, PollFlags)>) {
    let source = Source::Terminal(serial);
    if let Some(master) = &terminal.master {
        let mut events = PollFlags::empty();
        events.set(PollFlags::POLLIN, terminal.wants_output());
        events.set(PollFlags::POLLOUT, terminal.has_input());
        if !events.is_empty() {
            sources.push((source, master.as_fd(), events));
        }
    }
    if let Some(input) = terminal.input.as_ref().filter(|_| terminal.wants_input()) {
        sources.push((source, input.as_fd(), PollFlags::POLLIN));
    }
    if let Some(output) = terminal.output.as_ref().filter(|_| terminal.has_output()) {
        sources.push((source, output.as_fd(), PollFlags::POLLOUT));
    }
}
