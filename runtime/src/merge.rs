//! Laying new resource limits over old ones: what the new ones do not mention stays.

use oci_spec::runtime::LinuxResources;
use serde_json::Value;

/// `new` over `old`, field by field. Both are plain JSON objects, so the merge is one of JSON.
pub fn resources(old: LinuxResources, new: &LinuxResources) -> LinuxResources {
    let (Ok(mut merged), Ok(over)) = (serde_json::to_value(&old), serde_json::to_value(new)) else { return old };
    lay_over(&mut merged, over);
    serde_json::from_value(merged).unwrap_or(old)
}

fn lay_over(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                lay_over(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (under, over) => *under = over,
    }
}
