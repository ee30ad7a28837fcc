//! A host with nothing particular about it, for whoever plans.

use std::path::PathBuf;

use pintle_runtime_plan::{Caller, CgroupJoin, Host};

pub fn host() -> Host {
    Host {
        id: "c".to_owned(),
        bundle: PathBuf::from("/bundle"),
        rootfs: PathBuf::from("/bundle/rootfs"),
        fifo: Some(PathBuf::from("/run/c/exec.fifo")),
        join: CgroupJoin::None,
        cgroups_later: false,
        hierarchies: Vec::new(),
        unified: None,
        caller: Caller::root(),
        no_pivot: false,
        no_new_keyring: false,
        preserve_fds: 0,
        listen_fds: 0,
        stdio_passed: false,
        home: None,
        hook_states: (Vec::new(), Vec::new()),
    }
}
