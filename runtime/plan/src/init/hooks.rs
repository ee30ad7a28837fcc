//! Hooks of config.json as steps.

use super::Draft;
use crate::slots::c;
use crate::step::{Hook, Point, Step};

pub(super) fn before_pivot(draft: &mut Draft<'_>) -> Vec<Hook> {
    let Some(hooks) = draft.spec.hooks() else { return Vec::new() };
    let mut runtime = convert_hooks("prestart", hooks.prestart().as_deref());
    runtime.extend(convert_hooks("createRuntime", hooks.create_runtime().as_deref()));
    if !runtime.is_empty() {
        draft.child.push(Step::Sync(Point::Hooks));
    }
    let container = convert_hooks("createContainer", hooks.create_container().as_deref());
    if !container.is_empty() {
        let state = draft.host.hook_states.0.clone();
        draft.child.push(Step::RunHooks { point: "createContainer", hooks: container, state });
    }
    runtime
}

/// Hooks of config.json, ready to run.
pub fn convert_hooks(point: &str, hooks: Option<&[oci_spec::runtime::Hook]>) -> Vec<Hook> {
    let convert = |(n, hook): (usize, &oci_spec::runtime::Hook)| Hook {
        at: format!("hooks.{point}[{n}]"),
        path: c(hook.path()),
        argv: match hook.args() {
            Some(args) if !args.is_empty() => args.iter().map(c).collect(),
            _ => vec![c(hook.path())],
        },
        envp: hook.env().as_ref().map(|env| env.iter().map(c).collect()),
        timeout_s: hook.timeout().and_then(|s| u64::try_from(s).ok()),
    };
    hooks.unwrap_or_default().iter().enumerate().map(convert).collect()
}
