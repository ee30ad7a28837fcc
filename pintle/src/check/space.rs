//! Room for state, and the program that runs containers.

use super::{Context, Finding};
use std::path::Path;

const MIB: u64 = 1 << 20;
/// Below this the store itself may not be able to grow.
const FREE_MIN: u64 = 64 * MIB;
/// Below this the kubelet evicts pods and collects images.
const FREE_WANTED: u64 = 1024 * MIB;

pub(super) fn disk(context: &Context) -> Finding {
    // The directory may not exist yet: its nearest ancestor is on the same file system.
    let dir = context.dirs.state_dir.ancestors().find(|d| d.exists()).unwrap_or(Path::new("/"));
    let stat = match nix::sys::statvfs::statvfs(dir) {
        Ok(stat) => stat,
        Err(e) => {
            let what = format!("statvfs({}): {e}", dir.display());
            return Finding::Missing { what, hint: "choose another --state-dir" };
        }
    };
    let free = stat.blocks_available() * stat.fragment_size();
    let what = format!("{} MiB free in {}", free / MIB, dir.display());
    match free {
        0..FREE_MIN => Finding::Missing { what, hint: "free some space, or choose another --state-dir" },
        FREE_MIN..FREE_WANTED => Finding::Costs {
            what,
            cost: "there is little room for images and volumes",
            hint: "free some space, or choose another --state-dir",
        },
        FREE_WANTED.. => Finding::Good(what),
    }
}

pub(super) fn runtime(_: &Context) -> Finding {
    match find_runtime() {
        Some(path) => Finding::Good(path.display().to_string()),
        None => Finding::Missing {
            what: "neither next to pintle nor in PATH".into(),
            hint: "install it (`make install`), or name it with --runtime",
        },
    }
}

/// `pintle-runc` next to our own program, else in PATH.
pub fn find_runtime() -> Option<std::path::PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|p| p.parent().map(|d| d.join("pintle-runc")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside.into_iter().chain(std::env::split_paths(&path).map(|d| d.join("pintle-runc"))).find(|p| p.is_file())
}
