//! A conversation with a service manager: one call at a time, over its private socket or a message bus.
//!
//! Owns: the socket, who answers which call, and waiting for jobs. Does not own: the bytes (`pintle-dbus`).

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pintle_dbus::{Call, HEADER_LEN, Kind, Malformed, Message, OPENING, Opened, Value, message_len, opened};
use pintle_runtime_plan::systemd::Manager;

/// How long systemd may take for a call or a job. It starts units one after another, so a busy node needs seconds.
const PATIENCE: Duration = Duration::from_secs(30);

const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";

/// Why a conversation failed.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// No socket answers.
    #[error("systemd cannot be reached: {0}")]
    Unreachable(String),
    /// The socket failed.
    #[error("talking to systemd: {0}")]
    Io(#[from] std::io::Error),
    /// It took too long.
    #[error("systemd did not answer within {} seconds", PATIENCE.as_secs())]
    TimedOut,
    /// It talks nonsense.
    #[error("talking to systemd: {0}")]
    Malformed(#[from] Malformed),
    /// It says no.
    #[error("{message} ({name})")]
    Refused { name: String, message: String },
}

impl BusError {
    fn is(&self, suffix: &str) -> bool {
        matches!(self, BusError::Refused { name, .. } if name.strip_prefix(SERVICE).is_some_and(|it| it == suffix))
    }

    /// StartTransientUnit of a name that is taken.
    pub fn unit_exists(&self) -> bool {
        self.is(".UnitExists")
    }

    /// A call about a unit that systemd does not know.
    pub fn no_such_unit(&self) -> bool {
        self.is(".NoSuchUnit")
    }
}

type Result<T> = std::result::Result<T, BusError>;

/// A connection.
#[derive(Debug)]
pub struct Bus {
    socket: UnixStream,
    /// Read and not yet understood.
    buffer: Vec<u8>,
    serial: u32,
    /// Jobs that ended while something else was waited for: path, result.
    ended: Vec<(String, String)>,
    deadline: Instant,
}

impl Bus {
    /// Connects: to the manager's private socket where we may, which needs no bus; else over the bus.
    pub fn open(manager: Manager) -> Result<Bus> {
        let mut tried = Vec::new();
        for (path, kind) in sockets(manager) {
            match UnixStream::connect(&path) {
                Ok(socket) => return Bus::begin(socket, kind),
                Err(error) => tried.push(format!("{}: {error}", path.display())),
            }
        }
        if manager == Manager::User {
            tried
                .push("a user's systemd runs while he is logged in, or always after loginctl enable-linger".to_owned());
        }
        Err(BusError::Unreachable(tried.join("; ")))
    }

    fn begin(socket: UnixStream, kind: Socket) -> Result<Bus> {
        let deadline = Instant::now() + PATIENCE;
        let mut bus = Bus { socket, buffer: Vec::new(), serial: 0, ended: Vec::new(), deadline };
        bus.send(OPENING)?;
        loop {
            let line = bus.line()?;
            match opened(&line) {
                Opened::NotYet => {}
                Opened::Yes => break,
                Opened::Refused => {
                    let words = String::from_utf8_lossy(&line).trim().to_owned();
                    return Err(BusError::Unreachable(format!("it refuses us: {words}")));
                }
            }
        }
        if kind == Socket::Bus {
            bus.join()?;
        }
        Ok(bus)
    }

    /// A bus wants to be greeted, and tells of jobs only those who ask.
    fn join(&mut self) -> Result<()> {
        const BUS: &str = "org.freedesktop.DBus";
        let rule = format!("type='signal',sender='{SERVICE}',interface='{MANAGER}',member='JobRemoved'");
        for (member, arguments) in [("Hello", vec![]), ("AddMatch", vec![Value::Str(rule)])] {
            self.ask(&Call { destination: BUS, path: "/org/freedesktop/DBus", interface: BUS, member, arguments })?;
        }
        self.call("Subscribe", Vec::new()).map(drop)
    }

    /// Calls a method of the manager.
    pub fn call(&mut self, member: &str, arguments: Vec<Value>) -> Result<Vec<Value>> {
        self.ask(&Call { destination: SERVICE, path: MANAGER_PATH, interface: MANAGER, member, arguments })
    }

    /// A string among the manager's properties.
    pub fn manager_property(&mut self, name: &str) -> Result<String> {
        let arguments = vec![Value::str(MANAGER), Value::str(name)];
        let interface = "org.freedesktop.DBus.Properties";
        let answer =
            self.ask(&Call { destination: SERVICE, path: MANAGER_PATH, interface, member: "Get", arguments })?;
        if let Some(Value::Variant(value)) = answer.into_iter().next()
            && let Value::Str(text) = *value
        {
            return Ok(text);
        }
        Err(Malformed("a property that is no string").into())
    }

    /// Calls a method that makes a job; gives the job.
    pub fn start_job(&mut self, member: &str, arguments: Vec<Value>) -> Result<String> {
        match self.call(member, arguments)?.into_iter().next() {
            Some(Value::Path(job)) => Ok(job),
            _ => Err(Malformed("an answer without a job").into()),
        }
    }

    /// Waits for a job's end; gives its result, "done" if all went well.
    pub fn wait(&mut self, job: &str) -> Result<String> {
        self.deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.ended.iter().position(|(path, _)| path == job) {
                return Ok(self.ended.swap_remove(at).1);
            }
            let message = self.message()?;
            self.note(&message)?;
        }
    }

    fn ask(&mut self, call: &Call<'_>) -> Result<Vec<Value>> {
        self.deadline = Instant::now() + PATIENCE;
        self.serial += 1;
        let bytes = call.encode(self.serial);
        self.send(&bytes)?;
        loop {
            let message = self.message()?;
            match (message.kind, message.reply_to == Some(self.serial)) {
                (Kind::Return, true) => return Ok(message.arguments()?),
                (Kind::Error, true) => {
                    let message_of = message.arguments()?.into_iter().next();
                    let text = if let Some(Value::Str(text)) = message_of { text } else { String::new() };
                    return Err(BusError::Refused { name: message.error.unwrap_or_default(), message: text });
                }
                _ => self.note(&message)?,
            }
        }
    }

    /// JobRemoved(u id, o job, s unit, s result). Nothing else that systemd tells is of interest.
    fn note(&mut self, message: &Message) -> Result<()> {
        let ours = message.kind == Kind::Signal
            && message.interface.as_deref() == Some(MANAGER)
            && message.member.as_deref() == Some("JobRemoved");
        if ours {
            let mut arguments = message.arguments()?.into_iter();
            if let (_, Some(Value::Path(job)), _, Some(Value::Str(result))) =
                (arguments.next(), arguments.next(), arguments.next(), arguments.next())
            {
                self.ended.push((job, result));
            }
        }
        Ok(())
    }

    fn message(&mut self) -> Result<Message> {
        self.fill(HEADER_LEN)?;
        let header = *self.buffer.first_chunk().ok_or(Malformed("it ends too early"))?;
        let length = message_len(&header)?;
        self.fill(length)?;
        let rest = self.buffer.split_off(length);
        let bytes = std::mem::replace(&mut self.buffer, rest);
        Ok(Message::decode(&bytes)?)
    }

    fn line(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.truncate(end);
                return Ok(line);
            }
            self.fill(self.buffer.len() + 1)?;
        }
    }

    /// Reads until so many bytes are there.
    fn fill(&mut self, length: usize) -> Result<()> {
        let mut chunk = [0; 4096];
        while self.buffer.len() < length {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(BusError::TimedOut);
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(n) => self.buffer.extend(&chunk[..n]),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket.set_write_timeout(Some(PATIENCE))?;
        match self.socket.write_all(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(BusError::TimedOut),
            other => Ok(other?),
        }
    }
}

/// What listens at a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Socket {
    /// The manager alone.
    Private,
    /// A message bus.
    Bus,
}

/// Where a manager may be reached, the best way first.
fn sockets(manager: Manager) -> Vec<(PathBuf, Socket)> {
    let from = |variable: &str| std::env::var(variable).ok().and_then(|address| unix_path(&address));
    match manager {
        Manager::System => {
            let bus = from("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(|| PathBuf::from("/run/dbus/system_bus_socket"));
            vec![(PathBuf::from("/run/systemd/private"), Socket::Private), (bus, Socket::Bus)]
        }
        Manager::User => {
            let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty());
            let uid = nix::unistd::getuid();
            let runtime = runtime.map_or_else(|| PathBuf::from(format!("/run/user/{uid}")), PathBuf::from);
            let bus = from("DBUS_SESSION_BUS_ADDRESS").unwrap_or_else(|| runtime.join("bus"));
            vec![(runtime.join("systemd/private"), Socket::Private), (bus, Socket::Bus)]
        }
    }
}

/// The path in an address such as `unix:path=/run/user/1000/bus,guid=…` (specification, "Server Addresses").
fn unix_path(address: &str) -> Option<PathBuf> {
    let first = address.split(';').find_map(|one| one.strip_prefix("unix:"))?;
    let path = first.split(',').find_map(|pair| pair.strip_prefix("path="))?;
    Some(Path::new(path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_socket() {
        let table = [
            ("unix:path=/run/user/1000/bus", Some("/run/user/1000/bus")),
            ("unix:guid=1,path=/a/b", Some("/a/b")),
            ("tcp:host=x;unix:path=/c", Some("/c")),
            ("unix:abstract=/d", None),
            ("", None),
        ];
        for (address, path) in table {
            assert_eq!(unix_path(address).as_deref(), path.map(Path::new), "{address}");
        }
    }
}
