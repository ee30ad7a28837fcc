//! What the runtime decides from bytes that it did not write. Shared by the fuzz target and the replay of its corpus.

#[path = "../host/mod.rs"]
mod host;

use pintle_runtime_plan::{cgroup, parse_process, parse_spec, plan_init, validate};

use host::host;

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
