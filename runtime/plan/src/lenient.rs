//! What config.json may say and the schema crate refuses.
//!
//! Owns: rewriting such a document into what the crate reads. Only walked when the plain reading failed: it costs a
//! second parse.
//!
//! - A capability of a newer kernel is left out with a warning, as runc does, where the crate's list of names would
//!   refuse the whole document.
//! - Two scheduler flags are spelled otherwise by the crate than by the specification.

use serde_json::Value;

use crate::caps;

/// The specification's spelling, and the crate's.
const SCHED_FLAGS: [(&str, &str); 2] =
    [("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"), ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN")];

const CAPABILITY_SETS: [&str; 5] = ["bounding", "effective", "inheritable", "permitted", "ambient"];

/// Rewrites a process (of config.json or alone); gives a warning for each capability left out.
pub(crate) fn repair_process(process: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    for set in CAPABILITY_SETS {
        if let Some(Value::Array(names)) = process.pointer_mut(&format!("/capabilities/{set}")) {
            names.retain_mut(|name| keep(name, &mut unknown));
        }
    }
    if let Some(Value::Array(flags)) = process.pointer_mut("/scheduler/flags") {
        for flag in flags {
            if let Some((_, theirs)) = SCHED_FLAGS.iter().find(|(ours, _)| flag.as_str() == Some(*ours)) {
                *flag = Value::String((*theirs).to_owned());
            }
        }
    }
    unknown.sort();
    unknown.dedup();
    unknown.iter().map(|name| format!("process.capabilities: unknown capability {name:?} is left out")).collect()
}

/// Names are understood in any case, known ones are kept by their proper one; what is no text is kept for the error.
fn keep(name: &mut Value, unknown: &mut Vec<String>) -> bool {
    let Some(text) = name.as_str() else { return true };
    match caps::number(text) {
        Some(number) => {
            *name = Value::String(caps::NAMES[number as usize].to_owned());
            true
        }
        None => {
            unknown.push(text.to_owned());
            false
        }
    }
}
