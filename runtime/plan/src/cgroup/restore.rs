//! Taking a write back: what to write so that a file says again what it said before.

/// The text that undoes writing `value` to `file`, which read `before`. `None` if it changed nothing that can be
/// changed back (files that only take orders, such as devices.allow).
pub fn restore(file: &str, value: &str, before: &str) -> Option<String> {
    if let Some(unset) = unset(file) {
        let key = value.split_whitespace().next()?;
        let old = before.lines().find(|line| line.split_whitespace().next() == Some(key));
        return Some(old.map_or_else(|| format!("{key} {unset}"), |line| line.trim().to_owned()));
    }
    match file {
        "devices.allow" | "devices.deny" => None,
        // Reads as a table, takes the number of its first row.
        "memory.oom_control" => {
            before.lines().find_map(|line| line.strip_prefix("oom_kill_disable ")).map(|flag| flag.trim().to_owned())
        }
        // cpuset's inherit when empty: nothing to write would be no write at all.
        _ if before.trim().is_empty() => Some("\n".to_owned()),
        _ => Some(before.trim().to_owned()),
    }
}

/// For files with one line per device: what follows a device that has no limit.
fn unset(file: &str) -> Option<&'static str> {
    match file {
        "io.max" => Some("rbps=max wbps=max riops=max wiops=max"),
        "io.weight" | "io.bfq.weight" => Some("default"),
        "rdma.max" => Some("hca_handle=max hca_object=max"),
        _ if file.starts_with("blkio.throttle.") || file.ends_with("weight_device") || file == "net_prio.ifpriomap" => {
            Some("0")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_file_gets_back_what_it_said() {
        let table = [
            ("pids.max", "50", "max\n", Some("max")),
            ("cpu.max", "5000", "max 100000\n", Some("max 100000")),
            ("cpuset.cpus", "0", "\n", Some("\n")),
            ("io.max", "8:0 rbps=5", "", Some("8:0 rbps=max wbps=max riops=max wiops=max")),
            ("io.max", "8:0 rbps=5", "8:16 rbps=1\n8:0 rbps=7 wbps=max\n", Some("8:0 rbps=7 wbps=max")),
            ("io.weight", "default 5", "default 100\n", Some("default 100")),
            ("blkio.throttle.read_bps_device", "8:0 5", "", Some("8:0 0")),
            (
                "rdma.max",
                "mlx hca_handle=3",
                "mlx hca_handle=2 hca_object=max\n",
                Some("mlx hca_handle=2 hca_object=max"),
            ),
            ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\n", Some("0")),
            ("devices.allow", "a", "", None),
        ];
        for (file, value, before, expected) in table {
            assert_eq!(restore(file, value, before).as_deref(), expected, "{file}");
        }
    }
}
