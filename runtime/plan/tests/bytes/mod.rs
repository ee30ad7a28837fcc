//! What the runtime decides from bytes that it did not write. Shared by the fuzz target and the replay of its corpus.

use std::path::PathBuf;

use pintle_runtime_plan::{Caller, CgroupJoin, Host, cgroup, parse_process, parse_spec, plan_init, validate};

fn host() -> Host {
    Host {
        id: "c".to_owned(),
        bundle: PathBuf::from("/bundle"),
        rootfs: PathBuf::from("/bundle/rootfs"),
        fifo: Some(PathBuf::from("/run/c/exec.fifo")),
        join: CgroupJoin::None,
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

/// Everything up to the first system call, as create, exec and update do it.
pub fn decide(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok((spec, _)) = parse_spec(text)
        && validate(&spec).is_ok()
    {
        let _checked = pintle_runtime_plan::rootless::check(&spec, &host().caller);
        let plan = plan_init(&spec, &host());
        assert!(!plan.child.is_empty());
    }
    if let Ok((process, _)) = parse_process(text) {
        let _checked = pintle_runtime_plan::spec::validate_process(&process);
    }
    if let Ok(resources) = serde_json::from_str(text) {
        let _v1 = cgroup::plan_v1(&resources);
        let _v2 = cgroup::plan_v2(&resources);
    }
}
