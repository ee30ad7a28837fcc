//! Stdio of a task's process: FIFOs that containerd or its client made, a file, or nothing; a terminal is relayed.
//!
//! Without a terminal the process gets the FIFOs themselves: nothing is copied, and output goes on while nobody serves
//! it here. We keep an end of the other direction of each open, so that a client which goes away (containerd is
//! restarted) neither breaks a pipe nor ends stdin.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use pintle_sys::{Errno, fd};

use crate::error::{Doing as _, Error, Result};

/// What may wait on its way to or from a terminal, in bytes; beyond, the other side waits.
const QUEUE_LEN_MAX: usize = 64 << 10;

/// As asked for.
#[derive(Debug, Clone, Default)]
pub struct Stdio {
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub terminal: bool,
}

/// What we hold of a process's stdio.
#[derive(Debug, Default)]
pub struct Io {
    /// Keeps stdin from ending before it is asked to.
    stdin: Option<OwnedFd>,
    /// Keep outputs from breaking.
    _outputs: Vec<OwnedFd>,
    /// With a terminal.
    pub terminal: Option<Terminal>,
}

/// A terminal and the FIFOs it is relayed to.
#[derive(Debug)]
pub struct Terminal {
    /// The process's side is its other end.
    pub master: Option<OwnedFd>,
    /// From the client.
    pub input: Option<OwnedFd>,
    /// To the client.
    pub output: Option<OwnedFd>,
    to_process: VecDeque<u8>,
    to_client: VecDeque<u8>,
}

/// Opens what was asked for: the process's descriptors (none with a terminal) and what we keep.
pub fn open(stdio: &Stdio) -> Result<(Option<[OwnedFd; 3]>, Io)> {
    if stdio.terminal {
        let input = both_ends(&stdio.stdin)?;
        let output = both_ends(&stdio.stdout)?;
        let terminal =
            Terminal { master: None, input, output, to_process: VecDeque::new(), to_client: VecDeque::new() };
        return Ok((None, Io { terminal: Some(terminal), ..Io::default() }));
    }
    let kept_stdin = both_ends(&stdio.stdin)?;
    let stdin = match &kept_stdin {
        Some(_) => blocking(File::options().read(true), &stdio.stdin)?,
        None => null()?,
    };
    let mut kept = Vec::new();
    let stdout = output(&stdio.stdout, &mut kept)?;
    let stderr = output(&stdio.stderr, &mut kept)?;
    Ok((Some([stdin, stdout, stderr]), Io { stdin: kept_stdin, _outputs: kept, terminal: None }))
}

fn null() -> Result<OwnedFd> {
    let opened = File::options().read(true).write(true).open("/dev/null");
    opened.map(OwnedFd::from).doing(|| "open /dev/null".to_owned())
}

/// Opened for both directions a FIFO never waits for its other end (fifo(7)).
fn both_ends(name: &str) -> Result<Option<OwnedFd>> {
    if name.is_empty() {
        return Ok(None);
    }
    let path = name.strip_prefix("fifo://").unwrap_or(name);
    let opened = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
    opened.map(|file| Some(file.into())).doing(|| format!("open {path}"))
}

/// Only after `both_ends`, which makes sure that this does not wait; what comes of it blocks, as programs expect.
fn blocking(options: &mut std::fs::OpenOptions, name: &str) -> Result<OwnedFd> {
    let path = name.strip_prefix("fifo://").unwrap_or(name);
    options.open(path).map(OwnedFd::from).doing(|| format!("open {path}"))
}

fn output(name: &str, kept: &mut Vec<OwnedFd>) -> Result<OwnedFd> {
    if name.is_empty() {
        return null();
    }
    if let Some(path) = name.strip_prefix("file://") {
        if let Some(dir) = Path::new(path).parent() {
            std::fs::create_dir_all(dir).doing(|| format!("make {}", dir.display()))?;
        }
        let opened = File::options().create(true).append(true).mode(0o640).open(path);
        return opened.map(OwnedFd::from).doing(|| format!("open {path}"));
    }
    if name.contains("://") && !name.starts_with("fifo://") {
        return Err(Error::Usage(format!("output to {name} is not supported; use a FIFO or file://")));
    }
    kept.extend(both_ends(name)?);
    blocking(File::options().write(true), name)
}

impl Io {
    /// The client has closed stdin: so does the process's end once it has read everything.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
        if let Some(terminal) = &mut self.terminal {
            terminal.input = None;
        }
    }

    /// The process has ended: readers see the end when they have read everything.
    pub fn process_ended(&mut self) {
        match &mut self.terminal {
            None => *self = Io::default(),
            Some(terminal) => {
                terminal.input = None;
                terminal.read_output();
                terminal.write_output();
            }
        }
    }
}

impl Terminal {
    /// The process runs: its console's master.
    pub fn connect(&mut self, master: OwnedFd) -> Result<()> {
        fd::set_nonblocking(&master).doing(|| "set up the console".to_owned())?;
        self.master = Some(master);
        Ok(())
    }

    /// Whether output can be taken.
    pub fn wants_output(&self) -> bool {
        self.to_client.len() < QUEUE_LEN_MAX
    }

    /// Whether input can be taken.
    pub fn wants_input(&self) -> bool {
        self.master.is_some() && self.to_process.len() < QUEUE_LEN_MAX
    }

    /// Whether output waits for the client.
    pub fn has_output(&self) -> bool {
        !self.to_client.is_empty()
    }

    /// Whether input waits for the process.
    pub fn has_input(&self) -> bool {
        !self.to_process.is_empty()
    }

    /// From the process, as long as there is room.
    pub fn read_output(&mut self) {
        let mut buffer = [0; 4096];
        while self.wants_output() {
            let Some(master) = &self.master else { return };
            match nix::unistd::read(master, &mut buffer) {
                // EIO: the last of a terminal's users is gone.
                Ok(0) | Err(Errno::EIO) => {
                    self.master = None;
                    self.to_process = VecDeque::new();
                }
                Ok(n) if self.output.is_some() => self.to_client.extend(&buffer[..n]),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    /// To the client, as much as it takes. The end, once all is said.
    pub fn write_output(&mut self) {
        if let Some(output) = &self.output {
            drain(&mut self.to_client, output);
        }
        if self.master.is_none() && self.to_client.is_empty() {
            self.output = None;
        }
    }

    /// From the client.
    pub fn read_input(&mut self) {
        let mut buffer = [0; 4096];
        let Some(input) = &self.input else { return };
        match nix::unistd::read(input, &mut buffer) {
            Ok(n) if n > 0 => self.to_process.extend(&buffer[..n]),
            Ok(_) => self.input = None,
            Err(_) => {}
        }
        self.write_input();
    }

    /// To the process.
    pub fn write_input(&mut self) {
        if let Some(master) = &self.master {
            drain(&mut self.to_process, master);
        }
    }
}

fn drain(queue: &mut VecDeque<u8>, to: &OwnedFd) {
    while !queue.is_empty() {
        let (head, _) = queue.as_slices();
        match nix::unistd::write(to, head) {
            Ok(n) => drop(queue.drain(..n)),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return,
            Err(_) => queue.clear(),
        }
    }
}
