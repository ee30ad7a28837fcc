//! What commands print is read by programs that may stop reading: `pintle-runc list | head -1`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Bundle, require_root, texts};
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

fn commands() -> Vec<Vec<&'static str>> {
    vec![
        vec!["list"],
        vec!["list", "-q"],
        vec!["list", "-f", "json"],
        vec!["state", "c"],
        vec!["ps", "c"],
        vec!["ps", "-f", "json", "c"],
        vec!["events", "--stats", "c"],
        vec!["events", "--interval", "1ms", "c"],
        vec!["features"],
        vec!["--version"],
        vec!["--help"],
        vec!["kill", "--help"],
        vec!["nonsense"],
    ]
}

#[test]
fn a_reader_that_is_gone_ends_a_command_by_sigpipe_and_without_a_word() {
    if !require_root("makes a container") {
        return;
    }
    let bundle = Bundle::new("sleep 1000");
    assert_eq!((bundle.create(), bundle.runc(&["start", "c"]).status.code()), (0, Some(0)));
    for command in commands() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = bundle.command(&command).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.signal(), texts(&output).1.as_str()), (Some(libc::SIGPIPE), ""), "{command:?}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    if !require_root("makes a container") {
        return;
    }
    let bundle = Bundle::new("sleep 1000");
    assert_eq!((bundle.create(), bundle.runc(&["start", "c"]).status.code()), (0, Some(0)));
    for command in commands() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = bundle.command(&command).stdout(full).stderr(Stdio::piped()).output().unwrap();
        let said = texts(&output).1;
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains("cannot write to stdout: no space left on device"), "{command:?}: {said}");
    }
}
