//! `intel_rdt` of `events`: runc's JSON (types/events.go, IntelRdt), out of the texts of resctrl's files.

use serde_json::{Map, Value, json};

use super::Offers;

/// Gives the text of a file below the mounted resctrl, or nothing where there is none.
pub type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Statistics of a container in `group` (relative; empty for the default one). `counting` is where its counters are:
/// its monitoring group, or the group itself; `nodes` are the directories in that one's `mon_data`.
pub fn stats(read: Read<'_>, offers: &Offers, group: &str, counting: &str, nodes: &[String]) -> Value {
    let mut all = Map::new();
    let schemata = |of: &str| read(&below(of, "schemata")).unwrap_or_default();
    let (root, own) = (schemata(""), schemata(group));
    if offers.l3 {
        let dir = if read("info/L3/cbm_mask").is_some() { "info/L3" } else { "info/L3CODE" };
        let mut info = numbers(read, dir, &["min_cbm_bits", "num_closids"]);
        info.insert("cbm_mask".to_owned(), json!(trimmed(read, &format!("{dir}/cbm_mask"))));
        all.insert("l3_cache_info".to_owned(), Value::Object(info));
        all.insert("l3_cache_schema_root".to_owned(), json!(lines(&root, "L3")));
        all.insert("l3_cache_schema".to_owned(), json!(lines(&own, "L3")));
    }
    if offers.mb {
        let info = numbers(read, "info/MB", &["bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids"]);
        all.insert("mem_bw_info".to_owned(), Value::Object(info));
        all.insert("mem_bw_schema_root".to_owned(), json!(lines(&root, "MB")));
        all.insert("mem_bw_schema".to_owned(), json!(lines(&own, "MB")));
    }
    let counted = |names: &[&str]| -> Option<Value> {
        let offered: Vec<&str> =
            names.iter().copied().filter(|name| offers.monitoring.iter().flatten().any(|one| one == name)).collect();
        let node = |node: &String| numbers(read, &below(counting, &format!("mon_data/{node}")), &offered);
        (!offered.is_empty()).then(|| nodes.iter().map(node).map(Value::Object).collect())
    };
    for (field, files) in
        [("mbm_stats", ["mbm_total_bytes", "mbm_local_bytes"].as_slice()), ("cmt_stats", &["llc_occupancy"])]
    {
        all.extend(counted(files).map(|value| (field.to_owned(), value)));
    }
    Value::Object(all)
}

fn below(group: &str, file: &str) -> String {
    if group.is_empty() { file.to_owned() } else { format!("{group}/{file}") }
}

fn trimmed(read: Read<'_>, file: &str) -> String {
    read(file).unwrap_or_default().trim().to_owned()
}

/// A counter that the hardware cannot give just now reads `Unavailable` or `Error`: it is left out, not called zero.
fn numbers(read: Read<'_>, dir: &str, files: &[&str]) -> Map<String, Value> {
    let number = |file: &&str| read(&format!("{dir}/{file}"))?.trim().parse::<u64>().ok();
    files.iter().filter_map(|file| Some(((*file).to_owned(), json!(number(file)?)))).collect()
}

/// With `cdp` a cache has two lines, L3CODE and L3DATA.
fn lines(schemata: &str, prefix: &str) -> String {
    let of = |line: &&str| line.split(':').next().is_some_and(|name| name.starts_with(prefix));
    schemata.lines().map(str::trim).filter(of).collect::<Vec<_>>().join("\n")
}
