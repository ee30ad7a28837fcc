//! Rulesets sent to the kernel and watched there, by raw nfnetlink. A [`Nft`] is bound to the network namespace in
//! which it was opened, whichever thread uses it later. Calls block: the kernel answers on the spot, a large
//! transaction within some tens of milliseconds.

pub mod conntrack;
mod encode;
#[cfg(any(test, fuzzing))]
pub mod garbage;
pub mod members;
pub mod monitor;
mod spoken;
mod wire;

use std::io;
use std::os::fd::AsFd;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use pintle_nft::{Op, TableId, Transaction, text};

pub use encode::Grain;
use encode::{kind, msg};
use wire::{Message, Writer, control, flag, nfproto};

/// [`Nft::commit`] gives batches up to this size a message per element, so that an error names the very element.
const FINE_GRAINED_MAX: usize = 64;

/// Why a ruleset could not be sent or read.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The socket could not be opened, written or read.
    #[error("cannot {action} over nfnetlink")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel refused a transaction; nothing of it was applied.
    #[error("the kernel refused {} operation(s) of the batch, first: {object}", count)]
    Refused {
        /// The first operation that was refused.
        object: String,
        /// How many messages were refused.
        count: usize,
        /// The positions in the batch of all refused operations; with [`Grain::Coarse`] a message's elements all count.
        at: Vec<usize>,
        /// The kernel's reason for the first.
        source: io::Error,
    },
    /// The kernel had more to say than the socket's buffer holds.
    #[error("the kernel's answers to a batch of {ops} operation(s) were lost")]
    Overrun {
        /// The size of the batch.
        ops: usize,
    },
}

impl NftError {
    /// Whether the same may go well a moment later: the kernel is short of memory or busy, which is no object's fault.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let (Self::Socket { source, .. } | Self::Refused { source, .. }) = self else { return true };
        let transient = [Errno::ENOBUFS, Errno::ENOMEM, Errno::EBUSY, Errno::EAGAIN, Errno::EINTR];
        source.raw_os_error().is_some_and(|e| transient.contains(&Errno::from_raw(e)))
    }

    /// Whether this process may not, rather than the kernel cannot.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        let (Self::Socket { source, .. } | Self::Refused { source, .. }) = self else { return false };
        source.kind() == io::ErrorKind::PermissionDenied
    }

    /// Whether the kernel has no nfnetlink, or no nf_tables within it.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        let (Self::Socket { source, .. } | Self::Refused { source, .. }) = self else { return false };
        let unsupported = [Errno::EPROTONOSUPPORT, Errno::EAFNOSUPPORT, Errno::EOPNOTSUPP];
        source.raw_os_error().is_some_and(|e| unsupported.contains(&Errno::from_raw(e)))
    }

    /// What the user can do about it, where we know.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        let (Self::Socket { source, .. } | Self::Refused { source, .. }) = self else { return None };
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPERM) => Some("this needs CAP_NET_ADMIN"),
            Some(Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT) => Some("the kernel was built without nf_tables"),
            Some(Errno::EOPNOTSUPP | Errno::ENOENT) => {
                Some("a kernel module may be missing: nft_nat, nft_masq, nft_reject_ipv4, nft_numgen or nft_fib_ipv4")
            }
            _ => None,
        }
    }
}

/// A conversation with nf_tables in one network namespace.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
    port: u32,
    sequence: u32,
    send_buffer: usize,
}

impl Nft {
    /// Opens a conversation in the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel has no nfnetlink.
    pub fn open() -> Result<Self, NftError> {
        let (socket, port) = open_socket()?;
        Ok(Self { socket, port, sequence: 1, send_buffer: 0 })
    }

    /// The socket's netlink port, by which a [`monitor::Monitor`] tells our own changes from others'.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Sends the batches in order. Each is applied whole or not at all; after an error the later ones are not sent.
    ///
    /// # Errors
    /// [`NftError::Refused`] names the operation; else the socket failed.
    pub fn commit(&mut self, transaction: &Transaction) -> Result<(), NftError> {
        let grain = |ops: &[Op]| if ops.len() > FINE_GRAINED_MAX { Grain::Coarse } else { Grain::Fine };
        transaction.batches.iter().filter(|b| !b.is_empty()).try_for_each(|b| self.commit_batch(b, grain(b)))
    }

    /// Sends one batch, which is applied whole or not at all.
    ///
    /// # Errors
    /// As [`Nft::commit`].
    pub fn commit_batch(&mut self, ops: &[Op], grain: Grain) -> Result<(), NftError> {
        let batch = encode::batch(ops, self.sequence, grain);
        let last = batch.first + u32::try_from(batch.messages.len()).unwrap_or(0);
        self.sequence = last + 1;
        self.reserve(batch.bytes.len());
        self.send(&batch.bytes)?;
        // The kernel has answered before sending returned: all there is to read is there.
        let mut refused: Vec<(std::ops::Range<usize>, i32)> = Vec::new();
        let mut read_all = false;
        loop {
            let datagram = match self.receive_now() {
                Ok(Some(datagram)) => datagram,
                Ok(None) => break,
                Err(NftError::Socket { source, .. }) if is(&source, Errno::ENOBUFS) => {
                    if refused.is_empty() {
                        return Err(NftError::Overrun { ops: ops.len() });
                    }
                    continue;
                }
                Err(e) => return Err(e),
            };
            for message in Message::all(&datagram) {
                let Some(errno) = message.errno() else { continue };
                let at = message.sequence.checked_sub(batch.first).map_or(0, |n| n as usize);
                match errno {
                    0 => read_all |= message.sequence + 1 == last,
                    errno => refused.push((batch.messages.get(at).cloned().unwrap_or_default(), errno)),
                }
            }
        }
        match refused.first() {
            Some((first, errno)) => Err(NftError::Refused {
                object: ops.get(first.start).map(text::op).unwrap_or_default(),
                count: refused.len(),
                at: refused.iter().flat_map(|(at, _)| at.clone()).collect(),
                source: io::Error::from_raw_os_error(*errno),
            }),
            None if !read_all => Err(NftError::Overrun { ops: ops.len() }),
            None => Ok(()),
        }
    }

    /// Whether the table is there.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn table_exists(&mut self, table: &TableId) -> Result<bool, NftError> {
        let asked = self.ask(msg::GETTABLE, nfproto(table.family), |w| w.text(1, &table.name));
        match asked {
            Ok(_) => Ok(true),
            Err(NftError::Socket { source, .. }) if is(&source, Errno::ENOENT) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether the table has this chain.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn chain_exists(&mut self, table: &TableId, chain: &str) -> Result<bool, NftError> {
        let asked = self.ask(msg::GETCHAIN, nfproto(table.family), |w| {
            w.text(1, &table.name);
            w.text(3, chain);
        });
        match asked {
            Ok(_) => Ok(true),
            Err(NftError::Socket { source, .. }) if is(&source, Errno::ENOENT) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The generation of the namespace's ruleset: a number that every transaction of anybody changes.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn generation(&mut self) -> Result<u32, NftError> {
        let answer = self.ask(msg::GETGEN, 0, |_| {})?;
        let id = Message::all(&answer).find(|m| m.kind == kind(msg::NEWGEN)).and_then(|m| m.attrs().u32(1));
        Ok(id.unwrap_or(0))
    }

    /// Asks one question outside of a batch and returns the datagram that answers it.
    fn ask(&mut self, message: u16, family: u8, content: impl FnOnce(&mut Writer)) -> Result<Vec<u8>, NftError> {
        let sequence = self.sequence;
        self.sequence += 1;
        let mut w = Writer::default();
        w.begin(kind(message), 0, sequence, family, 0);
        content(&mut w);
        w.end();
        self.send(&w.bytes)?;
        loop {
            let datagram = receive(&self.socket)?;
            let Some(answer) = Message::all(&datagram).find(|m| m.sequence == sequence) else { continue };
            return match answer.errno() {
                Some(errno) if errno != 0 => Err(socket_error("ask", io::Error::from_raw_os_error(errno))),
                _ => Ok(datagram),
            };
        }
    }

    fn socket(&self) -> &Socket {
        &self.socket
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence += 1;
        self.sequence - 1
    }

    /// Sends a batch of which only the message with sequence number `last` asks for an answer.
    fn deliver(&mut self, bytes: &[u8], last: u32) -> Result<(), NftError> {
        self.reserve(bytes.len());
        self.send(bytes)?;
        let mut read_all = false;
        while let Some(datagram) = self.receive_now()? {
            for message in Message::all(&datagram) {
                match message.errno() {
                    Some(errno) if errno != 0 => {
                        return Err(socket_error("remember clients", io::Error::from_raw_os_error(errno)));
                    }
                    Some(_) => read_all |= message.sequence == last,
                    None => {}
                }
            }
        }
        if read_all { Ok(()) } else { Err(NftError::Overrun { ops: 1 }) }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), NftError> {
        self.socket.send(bytes, 0).map(drop).map_err(|e| socket_error("send a batch", e))
    }

    fn receive_now(&self) -> Result<Option<Vec<u8>>, NftError> {
        self.socket.set_non_blocking(true).map_err(|e| socket_error("read", e))?;
        let got = receive(&self.socket);
        self.socket.set_non_blocking(false).map_err(|e| socket_error("read", e))?;
        match got {
            Ok(datagram) => Ok(Some(datagram)),
            Err(NftError::Socket { source, .. }) if is(&source, Errno::EAGAIN) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A batch is one datagram: the send buffer must hold it.
    fn reserve(&mut self, bytes: usize) {
        let wanted = bytes + 4096;
        if wanted > self.send_buffer.max(128 << 10) {
            // Without the capability the ordinary limit holds, and sending says EMSGSIZE if it is too small.
            if setsockopt(&self.socket.as_fd(), sockopt::SndBufForce, &wanted).is_ok() {
                self.send_buffer = wanted;
            }
        }
    }
}

fn open_socket() -> Result<(Socket, u32), NftError> {
    let open = || {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let addr = socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Errors without the whole request in them: a refused batch would not fit the buffer twice.
        socket.set_cap_ack(true)?;
        Ok((socket, addr.port_number()))
    };
    open().map_err(|e| socket_error("open a socket", e))
}

fn receive(socket: &Socket) -> Result<Vec<u8>, NftError> {
    socket.recv_from_full().map(|(datagram, _)| datagram).map_err(|e| socket_error("read", e))
}

fn socket_error(action: &'static str, source: io::Error) -> NftError {
    NftError::Socket { action, source }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

/// Sends one dump request and hands every message of the answer to `each`.
fn dump(
    socket: &Socket,
    kind: u16,
    sequence: u32,
    family: u8,
    content: impl FnOnce(&mut Writer),
    mut each: impl FnMut(&Message<'_>),
) -> Result<(), NftError> {
    let mut w = Writer::default();
    w.begin(kind, flag::DUMP, sequence, family, 0);
    content(&mut w);
    w.end();
    socket.send(&w.bytes, 0).map_err(|e| socket_error("ask for a list", e))?;
    loop {
        let datagram = receive(socket)?;
        for message in Message::all(&datagram).filter(|m| m.sequence == sequence) {
            match message.errno() {
                Some(errno) if errno != 0 => {
                    return Err(socket_error("list", io::Error::from_raw_os_error(errno)));
                }
                _ if message.kind == control::DONE => return Ok(()),
                _ => each(&message),
            }
        }
    }
}
