//! How a failure reaches the person: one line for what, one per cause, one for what to do; and the exit code.

use pintle_control::apiserver::ApiServerError;
use std::fmt::Write as _;
use std::process::ExitCode;

/// The exit codes; `pintle --help` documents them. Wrong usage (2) is clap's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 0
    Done,
    /// 1
    Failed,
    /// 3
    Unfit,
    /// 4
    NotReady,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> ExitCode {
        ExitCode::from(match code {
            Code::Done => 0,
            Code::Failed => 1,
            Code::Unfit => 3,
            Code::NotReady => 4,
        })
    }
}

/// An error of this crate: what failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    what: String,
    hint: String,
    code: Code,
}

impl Failure {
    /// A failure with a hint, exit code 1.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into(), code: Code::Failed }
    }

    /// Another exit code.
    #[must_use]
    pub fn code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }
}

/// The exit code an error asks for.
pub fn code(error: &anyhow::Error) -> Code {
    error.chain().find_map(|e| e.downcast_ref::<Failure>()).map_or(Code::Failed, |f| f.code)
}

/// The whole text, ending in a newline.
pub fn render(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}\n");
    let mut told = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if told != cause {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  cause: {}", cause.replace('\n', "\n         "));
        }
        told = cause;
    }
    if let Some(hint) = error.chain().find_map(hint) {
        let _ = writeln!(text, "  hint: {}", hint.replace('\n', "\n        "));
    }
    text
}

/// The hint of one link of the chain.
fn hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return Some(failure.hint.clone()).filter(|h| !h.is_empty());
    }
    if let Some(hint) = error.downcast_ref::<ApiServerError>().and_then(ApiServerError::hint) {
        return Some(hint.into());
    }
    if let Some(io) = error.downcast_ref::<std::io::Error>() {
        return match io.kind() {
            std::io::ErrorKind::PermissionDenied => Some("run it as root".into()),
            std::io::ErrorKind::StorageFull => Some("free some space, or choose another --state-dir".into()),
            std::io::ErrorKind::AddrInUse => {
                Some("another program listens there: `ss -ltnp` names it; stop it or choose another port".into())
            }
            _ => None,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn an_error_reads_as_what_why_and_what_to_do() {
        let io = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        let error = Err::<(), _>(io).context("cannot listen on 0.0.0.0:6443").expect_err("just made");
        insta::assert_snapshot!(render(&error), @r"
        error: cannot listen on 0.0.0.0:6443
          cause: address in use
          hint: another program listens there: `ss -ltnp` names it; stop it or choose another port
        ");
        assert_eq!(code(&error), Code::Failed);
    }

    #[test]
    fn a_failure_of_ours_brings_its_hint_and_its_exit_code_through_any_context() {
        let failure = Failure::new("not root", "run it with sudo").code(Code::Unfit);
        let error = anyhow::Error::new(failure).context("cannot start the cluster");
        insta::assert_snapshot!(render(&error), @r"
        error: cannot start the cluster
          cause: not root
          hint: run it with sudo
        ");
        assert_eq!(code(&error), Code::Unfit);
    }
}
