//! `pintle-runc`: an OCI runtime with runc's command line, and the supervisor of Kubernetes pods;
//! under the name `containerd-shim-pintle-v1` containerd's shim.
//!
//! Owns: processes in namespaces and cgroups. Does not own: images, networks, Kubernetes. One thread, always: a
//! forked child may then use everything its parent had.

#![cfg_attr(not(test), no_main)]
#![warn(clippy::print_stdout, clippy::print_stderr)] // They panic when nobody reads; `sys::out` does not.

mod beneath;
mod caller;
mod cgroup;
mod clock;
mod commands;
mod container;
mod containerd;
mod copy;
mod criu;
mod error;
mod exec;
mod hooks;
mod idmap;
mod launch;
mod log;
mod merge;
mod mountinfo;
mod netdev;
mod notify;
mod passwd;
mod protect;
mod rdt;
mod ready;
mod shim;
mod state;
mod sync;
mod systemd;
mod text;
mod walk;
mod worker;

#[cfg(all(not(test), target_env = "musl"))]
#[global_allocator]
static HEAP: pintle_sys::heap::Heap = pintle_sys::heap::Heap;

#[cfg(not(test))]
pintle_sys::main!(run);

/// Gives the exit code.
#[cfg_attr(test, expect(dead_code, reason = "the harness has a main of its own"))]
fn run(args: &[std::ffi::OsString]) -> i32 {
    let name = args.first().and_then(|path| std::path::Path::new(path).file_name());
    let code =
        if name.is_some_and(|name| name == containerd::NAME) { containerd::run(args) } else { commands::run(args) };
    u8::try_from(code).map_or(1, i32::from)
}
