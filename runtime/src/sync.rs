//! The channel between a container's parent and its first process until exec: one SOCK_SEQPACKET pair.
//!
//! Child to parent: one fixed-size message per event, descriptors attached where the event has one. Parent to child:
//! one byte, "go". The end of the channel without a failure message means that exec succeeded.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use pintle_runtime_plan::step::Point;
use pintle_sys::{Errno, Result, scm};

/// The step index that stands for execve itself.
pub const EXEC: u32 = u32::MAX;

const LEN: usize = 9;

/// What the child tells.
#[derive(Debug)]
pub enum News {
    /// A step failed; the child exits.
    Failed { step: u32, errno: Errno },
    /// A step was refused and skipped.
    Warned { step: u32, errno: Errno },
    /// The child waits for the parent to act.
    Reached(Point),
    /// Created: it waits at the fifo.
    Ready,
    /// The console's master.
    Console(OwnedFd),
    /// The seccomp listener.
    Listener(OwnedFd),
    /// The channel ended: the program runs, or the child died.
    Ended,
}

/// The child's end.
#[derive(Debug)]
pub struct ChildEnd(OwnedFd);

/// The parent's end.
#[derive(Debug)]
pub struct ParentEnd(OwnedFd);

/// A fresh channel.
pub fn channel() -> Result<(ParentEnd, ChildEnd)> {
    let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((ParentEnd(a), ChildEnd(b)))
}

fn message(kind: u8, step: u32, value: i32) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[0] = kind;
    bytes[1..5].copy_from_slice(&step.to_le_bytes());
    bytes[5..9].copy_from_slice(&value.to_le_bytes());
    bytes
}

impl ChildEnd {
    fn send(&self, kind: u8, step: u32, value: i32, fds: &[BorrowedFd<'_>]) -> Result<()> {
        scm::send(&self.0, &message(kind, step, value), fds).map(drop)
    }

    /// The descriptor's number, to be kept open.
    pub fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Waits for the parent's byte and gives what came with it; the parent's death is EPIPE.
    pub fn wait_for_go(&self) -> Result<Vec<OwnedFd>> {
        let (mut byte, mut handed) = ([0; 1], Vec::new());
        loop {
            match scm::receive(&self.0, &mut byte, &mut handed) {
                Err(Errno::EINTR) => {}
                Ok(0) => return Err(Errno::EPIPE),
                // There was room for all that can be sent, so it is our limit on descriptors that has cut them off.
                Err(Errno::ENOBUFS) => return Err(Errno::EMFILE),
                other => return other.map(|_| handed),
            }
        }
    }

    /// Asks the parent to act, and waits.
    pub fn sync(&self, point: Point) -> Result<()> {
        self.send(b'S', 0, point as i32, &[])?;
        self.wait_for_go().map(drop)
    }

    /// Reports a refusal. Nobody listening is fine.
    pub fn warn(&self, step: usize, errno: Errno) -> Result<()> {
        self.or_nobody(self.send(b'W', step as u32, errno as i32, &[]))
    }

    /// Reports the end.
    pub fn fail(&self, step: u32, errno: Errno) {
        // The parent may be gone (a container started long ago); then there is nobody to tell.
        let _nobody_listens = self.send(b'F', step, errno as i32, &[]);
    }

    /// Creation is complete.
    pub fn ready(&self) -> Result<()> {
        self.send(b'R', 0, 0, &[])
    }

    /// Hands the console over.
    pub fn send_console(&self, master: BorrowedFd<'_>) -> Result<()> {
        self.send(b'C', 0, 0, &[master])
    }

    /// Hands the seccomp listener over.
    pub fn send_listener(&self, listener: BorrowedFd<'_>) -> Result<()> {
        self.send(b'L', 0, 0, &[listener])
    }

    fn or_nobody(&self, done: Result<()>) -> Result<()> {
        match done {
            Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            other => other,
        }
    }
}

impl ParentEnd {
    /// For handing it to another process.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// The end that another process handed over.
    pub fn from_fd(fd: OwnedFd) -> ParentEnd {
        ParentEnd(fd)
    }

    /// Lets the child go on, with these.
    pub fn go(&self, handed: &[BorrowedFd<'_>]) -> Result<()> {
        scm::send(&self.0, b"g", handed).map(drop)
    }

    /// Waits for the next event.
    pub fn next(&self) -> Result<News> {
        let (mut bytes, mut fds) = ([0; LEN], Vec::new());
        let n = loop {
            match scm::receive(&self.0, &mut bytes, &mut fds) {
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNRESET) => break 0,
                other => break other?,
            }
        };
        if n < LEN {
            return Ok(News::Ended);
        }
        let step = u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        let value = i32::from_le_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]);
        Ok(match (bytes[0], fds.pop()) {
            (b'F', _) => News::Failed { step, errno: Errno::from_raw(value) },
            (b'W', _) => News::Warned { step, errno: Errno::from_raw(value) },
            (b'S', _) => News::Reached(if value == Point::Hooks as i32 { Point::Hooks } else { Point::Rlimits }),
            (b'R', _) => News::Ready,
            (b'C', Some(fd)) => News::Console(fd),
            (b'L', Some(fd)) => News::Listener(fd),
            _ => return Err(Errno::EBADMSG),
        })
    }
}

impl AsFd for ParentEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
