//! Waiting for descriptors, as both supervisors do it. Owns: when memory is given back while nothing happens. Does not own:
//! what is waited for, and what follows.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pintle_sys::clone::SingleThreaded;

/// After so long without events memory is given back, once, in milliseconds.
const QUIET_MS: u16 = 500;

/// Who of `sources` is ready; nobody once `deadline` is there, or, for a `busy` supervisor, after a moment of quiet: the
/// next call, no longer busy, gives memory back while it waits.
///
/// # Errors
/// poll(2)'s, EINTR too.
pub fn wait<S: Copy>(
    proof: SingleThreaded,
    busy: bool,
    sources: &[(S, BorrowedFd<'_>, PollFlags)],
    deadline: Option<Instant>,
) -> pintle_sys::Result<Vec<(S, PollFlags)>> {
    let mut fds: Vec<PollFd<'_>> = sources.iter().map(|(_, fd, events)| PollFd::new(*fd, *events)).collect();
    let timeout = timeout(busy, deadline);
    if busy {
        poll(&mut fds, timeout)?;
    } else {
        pintle_sys::memory::wait_released(proof, &mut fds, timeout.into())?;
    }
    let ready = sources.iter().zip(&fds).filter_map(|((source, ..), fd)| {
        let events = fd.revents().unwrap_or(PollFlags::empty());
        (!events.is_empty()).then_some((*source, events))
    });
    Ok(ready.collect())
}

fn timeout(busy: bool, deadline: Option<Instant>) -> PollTimeout {
    let quiet = if busy { PollTimeout::from(QUIET_MS) } else { PollTimeout::NONE };
    let Some(deadline) = deadline else { return quiet };
    let left = deadline.saturating_duration_since(Instant::now());
    // A millisecond more: waking just before the deadline would spin until it.
    let left = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
    if busy { left.min(quiet) } else { left }
}
