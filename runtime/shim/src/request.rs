//! What a frame asks for, read no further than the supervisor itself needs.
//!
//! A process and resources can be large, and a worker acts on them: the supervisor skips over them without keeping a
//! byte, and the worker, which has the frame by fork, reads it whole.

use serde::Deserialize;

use crate::{Call, Request, VERSION};

/// A frame that is no request of this protocol's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSense {
    /// A call that lacks what it is about.
    #[error("{call} without {what}")]
    Lacks {
        /// The call.
        call: String,
        /// What it lacks.
        what: &'static str,
    },
    /// No call of this version, or not all of one.
    #[error("this supervisor speaks version {version} of the protocol, which has no such call: {0}", version = VERSION)]
    Unknown(String),
}

/// A request as the supervisor sees it.
#[derive(Debug)]
pub enum Ask {
    /// Everything but exec and update.
    Plain(Box<Call>),
    /// [`Call::Exec`].
    Exec {
        /// OCI id.
        container: String,
        /// Whether it wants a terminal; otherwise descriptors came along.
        terminal: bool,
        /// Its time.
        timeout_ms: Option<u64>,
        /// The whole frame.
        frame: Vec<u8>,
    },
    /// [`Call::Update`].
    Update {
        /// OCI id, or the pod.
        container: Option<String>,
        /// The whole frame.
        frame: Vec<u8>,
    },
}

#[derive(Deserialize)]
struct Head {
    id: u64,
    call: HeadCall,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadCall {
    op: String,
    #[serde(default)]
    container: Option<String>,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    process: HeadProcess,
}

#[derive(Deserialize, Default)]
struct HeadProcess {
    #[serde(default)]
    terminal: Option<bool>,
}

/// The request's id, and what it asks for or why it makes no sense. `None`: not even an id can be read.
pub fn read(frame: Vec<u8>) -> Option<(u64, Result<Ask, NoSense>)> {
    let Head { id, call } = serde_json::from_slice(&frame).ok()?;
    let missing = |what| NoSense::Lacks { call: call.op.clone(), what };
    let ask = match (call.op.as_str(), call.container) {
        ("exec", Some(container)) => Ok(Ask::Exec {
            container,
            terminal: call.process.terminal.unwrap_or(false),
            timeout_ms: call.timeout_ms,
            frame,
        }),
        ("exec", None) => Err(missing("a container")),
        ("update", container) => Ok(Ask::Update { container, frame }),
        _ => whole(&frame).map(|call| Ask::Plain(Box::new(call))),
    };
    Some((id, ask))
}

/// All of a request.
///
/// # Errors
/// When it is none of this version's.
pub fn whole(frame: &[u8]) -> Result<Call, NoSense> {
    let request: Request = serde_json::from_slice(frame).map_err(|error| NoSense::Unknown(error.to_string()))?;
    Ok(request.call)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Option<(u64, Result<String, String>)> {
        let (id, ask) = read(text.as_bytes().to_vec())?;
        let shown = match ask {
            Ok(Ask::Plain(call)) => Ok(format!("{call:?}")),
            Ok(Ask::Exec { container, terminal, timeout_ms, .. }) => {
                Ok(format!("exec in {container}, terminal {terminal}, {timeout_ms:?}"))
            }
            Ok(Ask::Update { container, .. }) => Ok(format!("update {container:?}")),
            Err(error) => Err(error.to_string()),
        };
        Some((id, shown))
    }

    #[test]
    fn frames_are_read_as_far_as_needed() {
        let exec =
            r#"{"id":7,"call":{"op":"exec","container":"c","process":{"terminal":true,"args":["a"]},"timeoutMs":5}}"#;
        assert_eq!(read_text(exec), Some((7, Ok("exec in c, terminal true, Some(5)".to_owned()))));
        assert_eq!(read_text(r#"{"id":1,"call":{"op":"hello"}}"#), Some((1, Ok("Hello".to_owned()))));
        let update = r#"{"id":2,"call":{"op":"update","container":null,"resources":{}}}"#;
        assert_eq!(read_text(update), Some((2, Ok("update None".to_owned()))));
    }

    #[test]
    fn what_makes_no_sense_is_answered_if_it_has_an_id() {
        assert_eq!(read_text("{]"), None);
        assert_eq!(read_text(r#"{"call":{"op":"hello"}}"#), None);
        let (id, said) = read_text(r#"{"id":3,"call":{"op":"teleport"}}"#).unwrap_or((0, Ok(String::new())));
        assert_eq!(id, 3);
        assert!(said.is_err_and(|said| said.contains("version 1") && said.contains("teleport")));
    }
}
