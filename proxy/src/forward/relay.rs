//! Both directions of a connection, by splice(2): data goes from socket to socket through a pipe and never through this
//! process. A pipe is lent while data is under way, so that a silent connection has none; where none is left, data is
//! copied.
//!
//! An end that is told goes on to the other side as an end (half-close); an error ends both.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::net::Shutdown;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::Counters;
use crate::metrics::Number;

/// As much as a pipe holds by default.
const CHUNK: usize = 64 * 1024;
/// Copied at a time, where there is no pipe.
const COPIED: usize = 16 * 1024;

/// Forwards until both ends have ended, or either failed.
pub async fn both_ways(client: &TcpStream, server: &TcpStream, pipes: &Pipes, counters: &Counters) -> io::Result<()> {
    let to_server = one_way(client, server, pipes, &counters.to_server);
    let to_client = one_way(server, client, pipes, &counters.to_client);
    tokio::try_join!(to_server, to_client).map(drop)
}

async fn one_way(from: &TcpStream, to: &TcpStream, pipes: &Pipes, bytes: &Number) -> io::Result<()> {
    loop {
        from.readable().await?;
        let moved = match pipes.lend() {
            Some(pipe) => splice_some(from, to, pipe).await,
            None => copy_some(from, to).await,
        };
        match moved {
            Ok(0) => return end(to),
            Ok(moved) => bytes.add(moved),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Tells that nothing more comes.
fn end(to: &TcpStream) -> io::Result<()> {
    match rustix::net::shutdown(to, Shutdown::Write) {
        // It has ended already.
        Err(rustix::io::Errno::NOTCONN) => Ok(()),
        other => Ok(other?),
    }
}

/// Moves what has come; how much. The pipe goes back empty, or not at all.
async fn splice_some(from: &TcpStream, to: &TcpStream, pipe: Lent<'_>) -> io::Result<usize> {
    let Some(Ends { read, write }) = &pipe.ends else { return copy_some(from, to).await };
    let taken = from.try_io(Interest::READABLE, || move_some(from, write, CHUNK));
    let mut left = *taken.as_ref().unwrap_or(&0);
    while left > 0 {
        left -= to.async_io(Interest::WRITABLE, || move_some(read, to, left)).await?;
    }
    pipe.give_back();
    taken
}

fn move_some(from: &impl AsFd, to: &impl AsFd, length: usize) -> io::Result<usize> {
    Ok(splice(from, None, to, None, length, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?)
}

async fn copy_some(from: &TcpStream, to: &TcpStream) -> io::Result<usize> {
    let mut buffer = vec![0; COPIED];
    let taken = from.try_read(&mut buffer)?;
    let mut done = 0;
    while done < taken {
        to.writable().await?;
        match to.try_write(&buffer[done..taken]) {
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

/// Pipes to be lent.
pub struct Pipes {
    state: Mutex<State>,
    max: usize,
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

#[derive(Default)]
struct State {
    /// Empty ones that nobody has.
    idle: Vec<Ends>,
    /// All there are.
    made: usize,
}

impl Pipes {
    /// None yet, and never more than `max`.
    pub fn new(max: usize) -> Self {
        Self { state: Mutex::default(), max }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty pipe, if there is one or may be.
    fn lend(&self) -> Option<Lent<'_>> {
        let mut state = self.state();
        let ends = match state.idle.pop() {
            Some(ends) => ends,
            None if state.made >= self.max => return None,
            None => {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
                state.made += 1;
                Ends { read, write }
            }
        };
        Some(Lent { pipes: self, ends: Some(ends) })
    }
}

/// A pipe in use. Unless it is given back empty it is closed.
struct Lent<'a> {
    pipes: &'a Pipes,
    /// Both ends; away once given back.
    ends: Option<Ends>,
}

impl Lent<'_> {
    fn give_back(mut self) {
        self.pipes.state().idle.extend(self.ends.take());
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if self.ends.is_some() {
            self.pipes.state().made -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
