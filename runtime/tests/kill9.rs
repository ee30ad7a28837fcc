//! kill -9 between any two steps. A tracer stops the runtime, or the process it makes of it, before every system call
//! that changes something, and kills it there: then the state is readable, `delete --force` succeeds, and nothing is
//! left.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_arch = "x86_64")]

mod common;

use std::collections::HashSet;
use std::process::{Command, Stdio};

use common::{Bundle, require_root, texts, until};
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// The command itself; what it has started lives on.
    Command,
    /// The process it starts, on its way to becoming the program.
    Started,
}

/// Calls that leave something behind or tell somebody something. Before every other call the world is as it was before
/// the one of these that precedes it.
const CHANGING: &[libc::c_long] = &[
    libc::SYS_write,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rename,
    libc::SYS_renameat2,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_fchownat,
    libc::SYS_symlinkat,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_setsid,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_read,
    libc::SYS_pidfd_send_signal,
    libc::SYS_waitid,
    libc::SYS_exit_group,
];

fn changes_something(pid: Pid) -> bool {
    let Ok(registers) = ptrace::getregs(pid) else { return false };
    let call = registers.orig_rax as libc::c_long;
    let opens_for_writing = call == libc::SYS_openat && registers.rdx & (libc::O_WRONLY | libc::O_RDWR) as u64 != 0;
    // A read changes something where it takes a message from the other side; files are read by the buffer.
    let waits = call != libc::SYS_read || registers.rdx <= 16;
    opens_for_writing || CHANGING.contains(&call) && waits
}

/// Runs a command of the runtime and kills `victim` before its `at`th change. False if it made fewer.
fn killed_at(command: &Command, victim: Victim, at: usize) -> bool {
    // A tracer's death lets its tracees go on, and it must be one thread throughout.
    std::thread::scope(|scope| scope.spawn(|| trace(command, victim, at)).join().unwrap())
}

#[expect(clippy::zombie_processes, reason = "waitpid reports tracees and buries them")]
fn trace(command: &Command, victim: Victim, at: usize) -> bool {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    let child = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let runtime = Pid::from_raw(i32::try_from(child.id()).unwrap());
    assert!(matches!(waitpid(runtime, Some(WaitPidFlag::WUNTRACED)).unwrap(), WaitStatus::Stopped(..)));
    let follow = if victim == Victim::Started { Options::PTRACE_O_TRACEFORK } else { Options::empty() };
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC | follow;
    ptrace::seize(runtime, options).unwrap();
    kill(runtime, Signal::SIGCONT).unwrap();
    let mut trace = Trace { victim, at, runtime, executed: false, inside: HashSet::new(), seen: 0, killed: false };
    loop {
        let any = Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD);
        match waitpid(None, any) {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) if pid == runtime => return trace.killed,
            Ok(status) => trace.go_on(status),
            Err(errno) => panic!("wait: {errno}"),
        }
    }
}

struct Trace {
    victim: Victim,
    at: usize,
    runtime: Pid,
    executed: bool,
    inside: HashSet<Pid>,
    seen: usize,
    killed: bool,
}

impl Trace {
    fn go_on(&mut self, status: WaitStatus) {
        let (pid, signal) = match status {
            WaitStatus::PtraceSyscall(pid) => {
                let entering = self.inside.insert(pid) || !self.inside.remove(&pid);
                if entering && self.is_due(pid) {
                    self.killed = true;
                    kill(pid, Signal::SIGKILL).unwrap();
                    return;
                }
                (pid, None)
            }
            WaitStatus::PtraceEvent(pid, _, event) => {
                self.executed |= event == libc::PTRACE_EVENT_EXEC;
                (pid, None)
            }
            WaitStatus::Stopped(pid, signal) => (pid, Some(signal)),
            _ => return,
        };
        // It may have been killed meanwhile.
        let _gone = ptrace::syscall(pid, signal);
    }

    fn is_due(&mut self, pid: Pid) -> bool {
        let counts = match self.victim {
            Victim::Command => pid == self.runtime && self.executed,
            Victim::Started => pid != self.runtime,
        };
        if self.killed || !counts || !changes_something(pid) {
            return false;
        }
        self.seen += 1;
        self.seen > self.at
    }
}

/// Runs to the end and buries orphans meanwhile: a pid namespace ends when all its dead are buried, and not every
/// machine's first process is quick at that.
fn reaping(mut command: Command) -> std::process::Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let own = i32::try_from(child.id()).unwrap();
    while child.try_wait().unwrap().is_none() {
        for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid != own) {
                let _lives = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.wait_with_output().unwrap()
}

/// What must hold wherever it was killed.
fn survives(bundle: &Bundle, what: &str) {
    let (out, err, code) = texts(&bundle.runc(&["state", "c"]));
    let readable = serde_json::from_str::<serde_json::Value>(&out).is_ok();
    assert!(code == 0 && readable || err.contains("container does not exist"), "{what}: {out}{err}");
    let (_, err, code) = texts(&bundle.runc(&["list"]));
    assert!(code == 0 || !bundle.root().exists(), "{what}: {err}");
    let (_, err, code) = texts(&reaping(bundle.command(&["delete", "--force", "c"])));
    assert_eq!(code, 0, "{what}: {err}");
    assert!(!bundle.root().join("c").exists(), "{what}");
    assert!(bundle.cgroup_dirs().iter().all(|dir| !dir.join("c").exists()), "{what}: {:?}", bundle.cgroup_dirs());
}

fn nothing_is_left(bundle: &Bundle) {
    let path = bundle.path().to_string_lossy().into_owned();
    until("no process is left", || !anyone_in(&path));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&path), "{mounts}");
    let left: Vec<_> = std::fs::read_dir(bundle.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Whether some process still works in the bundle or has its root there.
fn anyone_in(path: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let link = |name: &str| {
            std::fs::read_link(entry.path().join(name)).is_ok_and(|to| to.to_string_lossy().starts_with(path))
        };
        link("cwd") || link("root")
    })
}

/// Prepares, runs the command and kills it, at one change further every time until it gets through.
fn walk(args: &[&str], victim: Victim, prepare: &[&[&str]], at_least: usize) {
    pintle_sys::process::become_subreaper().unwrap();
    let mut bundle = Bundle::new("exec sleep 1000");
    // What counts is here; devices and mounts by the dozen are more of the same.
    bundle.config["linux"]["resources"] = serde_json::json!({"pids": {"limit": 50}, "memory": {"limit": 67_108_864}});
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    let mut at = 0;
    loop {
        for words in prepare {
            if words[0] == "create" {
                assert_eq!(bundle.create(), 0, "{}", bundle.out());
            } else {
                assert!(bundle.runc(words).status.success(), "{words:?}");
            }
        }
        let words: Vec<&str> = args.iter().map(|word| if *word == "BUNDLE" { path.as_str() } else { word }).collect();
        let killed = killed_at(&bundle.command(&words), victim, at);
        survives(&bundle, &format!("{args:?}: {victim:?} killed before change {at}"));
        if !killed {
            break;
        }
        at += 1;
    }
    assert!(at >= at_least, "{args:?}: only {at} changes were seen");
    nothing_is_left(&bundle);
}

const CREATE: &[&str] = &["create", "--bundle", "BUNDLE", "c"];
const CREATED: &[&[&str]] = &[&["create"]];
const RUNNING: &[&[&str]] = &[&["create"], &["start", "c"]];

#[test]
fn create_can_be_killed_at_any_step() {
    if require_root("kills the runtime") {
        walk(CREATE, Victim::Command, &[], 30);
    }
}

#[test]
fn the_first_process_can_be_killed_at_any_step() {
    if require_root("kills the runtime") {
        walk(CREATE, Victim::Started, &[], 40);
    }
}

#[test]
fn run_can_be_killed_at_any_step() {
    if require_root("kills the runtime") {
        walk(&["run", "--detach", "--bundle", "BUNDLE", "c"], Victim::Command, &[], 30);
    }
}

#[test]
fn start_and_exec_can_be_killed_at_any_step() {
    if require_root("kills the runtime") {
        walk(&["start", "c"], Victim::Command, CREATED, 2);
        walk(&["exec", "--detach", "c", "sleep", "1000"], Victim::Command, RUNNING, 5);
        walk(&["exec", "--detach", "c", "sleep", "1000"], Victim::Started, RUNNING, 5);
    }
}

#[test]
fn changes_to_a_running_container_can_be_killed_at_any_step() {
    if require_root("kills the runtime") {
        walk(&["pause", "c"], Victim::Command, RUNNING, 1);
        walk(&["resume", "c"], Victim::Command, &[&["create"], &["start", "c"], &["pause", "c"]], 1);
        walk(&["update", "--pids-limit", "60", "--memory", "128m", "c"], Victim::Command, RUNNING, 4);
    }
}

#[test]
fn kill_and_delete_can_be_killed_at_any_step() {
    if require_root("kills the runtime") {
        walk(&["kill", "c", "KILL"], Victim::Command, RUNNING, 1);
        walk(&["delete", "--force", "c"], Victim::Command, RUNNING, 8);
    }
}
