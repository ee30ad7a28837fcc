//! What commands print is read by programs that may stop reading: `pintle check | head -1`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

/// signal(7).
const SIGPIPE: i32 = 13;

#[test]
fn a_reader_that_is_gone_ends_a_command_by_sigpipe_and_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("kubeconfig"), "apiVersion: v1\n").unwrap();
    for words in ["version", "completion bash", "check", "kubeconfig --state-dir DIR", "image ls --state-dir DIR"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let words = words.replace("DIR", dir.path().to_str().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_pintle"));
        command.args(words.split(' ')).env("PINTLE_STATE_DIR", dir.path()).stdout(writer).stderr(Stdio::piped());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{words}: {said}");
        // `image` takes it for a success.
        let expected = if words.starts_with("image") { (None, "") } else { (Some(SIGPIPE), "") };
        assert_eq!((output.status.signal(), &*said), expected, "{words}");
    }
}

#[test]
fn people_who_stopped_reading_change_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pintle"));
    command.args(["kubeconfig", "--state-dir", dir.path().to_str().unwrap()]).stderr(writer).stdout(Stdio::null());
    assert_eq!(command.status().unwrap().code(), Some(1), "there is no cluster");
}
