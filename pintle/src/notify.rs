//! systemd's notification protocol (sd_notify(3)), both ends: our daemons say READY=1 to whoever set NOTIFY_SOCKET, be
//! it systemd or our own monitor.

use anyhow::{Context as _, Result};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

/// Sends one message. Nobody listening, or a listener that went away, is no failure of ours.
pub fn send(message: &str) {
    let Some(target) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send_to(&target, message) {
        tracing::debug!(%error, message, "nobody took the notification");
    }
}

fn send_to(target: &std::ffi::OsStr, message: &str) -> std::io::Result<()> {
    let address = match target.as_bytes() {
        // A leading @ stands for the NUL of an abstract name.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(target)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
}

/// The listening end. A path, not an abstract name: those end at the border of a network namespace.
pub struct Listener {
    socket: tokio::net::UnixDatagram,
    path: PathBuf,
}

/// What a daemon says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// It serves.
    Ready,
    /// What it is doing.
    Status(String),
}

impl Listener {
    /// Listens at `path`, replacing what a killed process left there.
    pub fn bind(path: &Path) -> Result<Self> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
        let socket =
            tokio::net::UnixDatagram::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// The value for NOTIFY_SOCKET.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next thing said. Cancel-safe.
    pub async fn next(&self) -> Result<Message> {
        let mut buffer = [0_u8; 4096];
        loop {
            let length = self.socket.recv(&mut buffer).await.context("cannot read a notification")?;
            if let Some(message) = parse(&String::from_utf8_lossy(&buffer[..length])) {
                return Ok(message);
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The directory may be gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// READY outranks a STATUS in the same datagram.
fn parse(text: &str) -> Option<Message> {
    if text.lines().any(|l| l == "READY=1") {
        return Some(Message::Ready);
    }
    text.lines().find_map(|l| l.strip_prefix("STATUS=")).map(|s| Message::Status(s.to_owned()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        assert_eq!(parse("STATUS=x\nREADY=1"), Some(Message::Ready));
        assert_eq!(parse("STATUS=loading"), Some(Message::Status("loading".into())));
        assert_eq!(parse("STOPPING=1"), None);
    }

    #[tokio::test]
    async fn what_is_sent_arrives_and_a_stale_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::mem::forget(std::os::unix::net::UnixDatagram::bind(&path).unwrap());
        let listener = Listener::bind(&path).unwrap();
        send_to(path.as_os_str(), "STOPPING=1").unwrap();
        send_to(path.as_os_str(), "READY=1\n").unwrap();
        assert_eq!(listener.next().await.unwrap(), Message::Ready);
        drop(listener);
        assert!(!path.exists());
    }
}
