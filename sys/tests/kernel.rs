//! The wrappers against the real kernel.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use pintle_sys::clone::SingleThreaded;
use pintle_sys::process::CommandExt as _;
use pintle_sys::{netns, pidfd, scm};

fn require_root(what_for: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "CI must run as root: {what_for}");
    if !root {
        eprintln!("SKIPPED: not root: {what_for}");
    }
    root
}

fn link(netns: &std::path::Path) -> String {
    std::fs::read_link(netns).unwrap().to_string_lossy().into_owned()
}

#[test]
fn a_pinned_namespace_is_entered_by_children_and_threads_but_not_by_us() {
    if !require_root("makes network namespaces") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pod");
    let own = link("/proc/self/ns/net".as_ref());
    let pinned = netns::create_at(&path).unwrap();
    assert!(netns::create_at(&path).is_err(), "a second pin at the same path must fail");
    let inside = netns::run_in(&pinned, || link("/proc/thread-self/ns/net".as_ref())).unwrap();
    let mut child = Command::new("/bin/readlink");
    child.arg("/proc/self/ns/net").in_netns(netns::open(&path).unwrap()).new_session().death_signal(Signal::SIGKILL);
    let seen = String::from_utf8(child.output().unwrap().stdout).unwrap();
    assert_eq!(seen.trim(), inside);
    assert_ne!(inside, own);
    assert_eq!(link("/proc/self/ns/net".as_ref()), own);
    netns::remove_at(&path).unwrap();
    netns::remove_at(&path).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_passed_descriptor_is_open_in_the_child_and_nothing_else_is() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let fd: std::os::fd::OwnedFd = writer.into();
    let number = pintle_sys::process::number_of(&fd);
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(format!("echo hello >&{number}")).pass_fd(fd).stdout(Stdio::null());
    assert!(command.status().unwrap().success());
    drop(command);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello\n");
}

#[test]
fn a_test_process_is_not_single_threaded() {
    assert!(SingleThreaded::assert().is_none(), "the test harness runs tests on threads");
}

#[test]
fn descriptors_and_bytes_arrive_together() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    scm::send(&ours, b"frame", &[writer.as_fd()]).unwrap();
    drop(writer);
    let (mut bytes, mut fds) = ([0; 16], Vec::new());
    assert_eq!(scm::receive(&theirs, &mut bytes, &mut fds).unwrap(), 5);
    assert_eq!(fds.len(), 1);
    nix::unistd::write(&fds[0], b"through").unwrap();
    fds.clear();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
    assert_eq!(scm::peer(&ours).unwrap().pid(), std::process::id() as i32);
}

#[test]
#[expect(clippy::zombie_processes, reason = "reaped through the pidfd")]
fn a_pidfd_reports_how_a_child_ended() {
    let child = Command::new("/bin/sleep").arg("100").spawn().unwrap();
    let fd = pidfd::open(nix::unistd::Pid::from_raw(child.id() as i32)).unwrap();
    assert_eq!(pidfd::try_wait(&fd).unwrap(), None);
    pidfd::send_signal(&fd, libc::SIGTERM).unwrap();
    assert!(matches!(pidfd::wait(&fd).unwrap(), WaitStatus::Signaled(_, Signal::SIGTERM, _)));
}
