//! Notices when somebody else changes a table of ours, by nf_tables' notifications. The kernel tells whose socket
//! caused each change, so our own are told apart without knowing what they were.

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use nix::errno::Errno;
use pintle_nft::TableId;

use super::encode::SUBSYSTEM;
use super::wire::{Message, nfproto};
use super::{NftError, is, socket_error};

/// NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h.
const GROUP: u32 = 7;

/// What has been noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noticed {
    /// Somebody else changed one of the watched tables.
    Foreign,
    /// Notifications were lost: somebody else may have changed one of the watched tables.
    Lost,
}

/// A watch over tables in one network namespace.
pub struct Monitor {
    socket: TokioSocket,
    tables: Vec<TableId>,
}

impl Monitor {
    /// Begins to watch, in the calling thread's namespace; needs a tokio runtime.
    ///
    /// # Errors
    /// When the kernel has no nfnetlink, or the socket cannot be watched.
    pub fn open(tables: Vec<TableId>) -> Result<Self, NftError> {
        let open = || {
            let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
            socket.socket_mut().bind_auto()?;
            socket.socket_mut().add_membership(GROUP)?;
            Ok(socket)
        };
        Ok(Self { socket: open().map_err(|e| socket_error("watch for changes", e))?, tables })
    }

    /// Waits until somebody whose socket is not `own_port` changes one of the tables. Cancel-safe.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn wait(&mut self, own_port: u32) -> Result<Noticed, NftError> {
        loop {
            match self.socket.recv_from_full().await {
                Ok((datagram, _)) => {
                    if Message::all(&datagram).any(|m| m.port != own_port && touches(&self.tables, &m)) {
                        return Ok(Noticed::Foreign);
                    }
                }
                Err(e) if is(&e, Errno::ENOBUFS) => return Ok(Noticed::Lost),
                Err(e) => return Err(socket_error("watch for changes", e)),
            }
        }
    }

    /// Forgets what has come but was not read: for a caller that is about to install everything anyway.
    pub async fn forget(&mut self) {
        loop {
            tokio::select! {
                biased;
                // An overrun is forgotten too.
                got = self.socket.recv_from_full() => match got {
                    Err(e) if !is(&e, Errno::ENOBUFS) => return,
                    _ => {}
                },
                () = std::future::ready(()) => return,
            }
        }
    }

    /// Stops listening while we send something large ourselves: the kernel would build a notification for every
    /// element. What others do in between must be looked for afterwards.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn pause(&self) -> Result<(), NftError> {
        self.socket.socket_ref().drop_membership(GROUP).map_err(|e| socket_error("pause watching", e))
    }

    /// Listens again after [`Monitor::pause`].
    ///
    /// # Errors
    /// When the socket fails.
    pub fn resume(&self) -> Result<(), NftError> {
        self.socket.socket_ref().add_membership(GROUP).map_err(|e| socket_error("resume watching", e))
    }
}

pub(super) fn touches(tables: &[TableId], message: &Message<'_>) -> bool {
    if message.kind >> 8 != SUBSYSTEM {
        return false;
    }
    // The first attribute of every object's message is its table's name; of a generation's it is a number.
    let Some(name) = message.attrs().text(1) else { return false };
    tables.iter().any(|t| &*t.name == name && message.family() == Some(nfproto(t.family)))
}
