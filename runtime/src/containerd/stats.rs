//! A task's use of resources, read off its cgroups.

use std::path::Path;

use pintle_ttrpc::Any;
use pintle_ttrpc::metrics::{
    Pids, V1, V1_TYPE, V1Blkio, V1BlkioEntry, V1Cpu, V1CpuUsage, V1Memory, V1MemoryEntry, V1OomControl, V1Throttle, V2,
    V2_TYPE, V2Cpu, V2Io, V2IoEntry, V2Memory, V2MemoryEvents,
};
use prost::Message as _;

use crate::cgroup::Cgroups;

/// As containerd wants it.
pub fn read(cgroups: &Cgroups) -> Any {
    match cgroups.unified() {
        Some(directory) => Any { type_url: V2_TYPE.to_owned(), value: v2(directory).encode_to_vec() },
        None => Any { type_url: V1_TYPE.to_owned(), value: v1(cgroups).encode_to_vec() },
    }
}

/// Whatever cannot be read (a controller that is off, a cgroup that is gone) has used nothing.
fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn number(path: &Path) -> u64 {
    limit(&text(path))
}

/// `max` is no limit, which containerd writes as the highest number.
fn limit(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        digits => digits.parse().unwrap_or(0),
    }
}

/// Lines of `key value`.
struct Table(String);

impl Table {
    fn read(path: &Path) -> Table {
        Table(text(path))
    }

    fn get(&self, key: &str) -> u64 {
        let value = |line: &str| line.split_once(' ').filter(|(name, _)| *name == key).map(|(_, value)| limit(value));
        self.0.lines().find_map(value).unwrap_or(0)
    }
}

fn pids(directory: &Path) -> Pids {
    let max = number(&directory.join("pids.max"));
    Pids { current: number(&directory.join("pids.current")), limit: if max == u64::MAX { 0 } else { max } }
}

fn v1(cgroups: &Cgroups) -> V1 {
    V1 {
        hugetlb: Vec::new(),
        pids: cgroups.of("pids").map(pids),
        cpu: Some(V1Cpu { usage: cgroups.of("cpuacct").map(v1_usage), throttling: cgroups.of("cpu").map(v1_throttle) }),
        memory: cgroups.of("memory").map(v1_memory),
        blkio: cgroups.of("blkio").map(v1_blkio),
        memory_oom_control: cgroups.of("memory").map(|directory| {
            let table = Table::read(&directory.join("memory.oom_control"));
            V1OomControl {
                oom_kill_disable: table.get("oom_kill_disable"),
                under_oom: table.get("under_oom"),
                oom_kill: table.get("oom_kill"),
            }
        }),
    }
}

/// cpuacct.stat counts in ticks of 10 ms (USER_HZ, which is 100 wherever Linux runs).
fn v1_usage(directory: &Path) -> V1CpuUsage {
    const TICK_NS: u64 = 10_000_000;
    let table = Table::read(&directory.join("cpuacct.stat"));
    let per_cpu = text(&directory.join("cpuacct.usage_percpu"));
    V1CpuUsage {
        total: number(&directory.join("cpuacct.usage")),
        kernel: table.get("system") * TICK_NS,
        user: table.get("user") * TICK_NS,
        per_cpu: per_cpu.split_ascii_whitespace().map(limit).collect(),
    }
}

fn v1_throttle(directory: &Path) -> V1Throttle {
    let table = Table::read(&directory.join("cpu.stat"));
    V1Throttle {
        periods: table.get("nr_periods"),
        throttled_periods: table.get("nr_throttled"),
        throttled_time: table.get("throttled_time"),
    }
}

fn v1_entry(directory: &Path, prefix: &str) -> V1MemoryEntry {
    let of = |name: &str| number(&directory.join(format!("{prefix}.{name}")));
    V1MemoryEntry {
        limit: of("limit_in_bytes"),
        usage: of("usage_in_bytes"),
        max: of("max_usage_in_bytes"),
        failcnt: of("failcnt"),
    }
}

fn v1_memory(directory: &Path) -> V1Memory {
    let table = Table::read(&directory.join("memory.stat"));
    let get = |key: &str| table.get(key);
    V1Memory {
        cache: get("cache"),
        rss: get("rss"),
        rss_huge: get("rss_huge"),
        mapped_file: get("mapped_file"),
        dirty: get("dirty"),
        writeback: get("writeback"),
        pg_pg_in: get("pgpgin"),
        pg_pg_out: get("pgpgout"),
        pg_fault: get("pgfault"),
        pg_maj_fault: get("pgmajfault"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        hierarchical_memory_limit: get("hierarchical_memory_limit"),
        hierarchical_swap_limit: get("hierarchical_memsw_limit"),
        total_cache: get("total_cache"),
        total_rss: get("total_rss"),
        total_rss_huge: get("total_rss_huge"),
        total_mapped_file: get("total_mapped_file"),
        total_dirty: get("total_dirty"),
        total_writeback: get("total_writeback"),
        total_pg_pg_in: get("total_pgpgin"),
        total_pg_pg_out: get("total_pgpgout"),
        total_pg_fault: get("total_pgfault"),
        total_pg_maj_fault: get("total_pgmajfault"),
        total_inactive_anon: get("total_inactive_anon"),
        total_active_anon: get("total_active_anon"),
        total_inactive_file: get("total_inactive_file"),
        total_active_file: get("total_active_file"),
        total_unevictable: get("total_unevictable"),
        usage: Some(v1_entry(directory, "memory")),
        swap: Some(v1_entry(directory, "memory.memsw")),
        kernel: Some(v1_entry(directory, "memory.kmem")),
    }
}

/// Lines of `major:minor Operation value` (blkio-controller.rst).
fn v1_blkio(directory: &Path) -> V1Blkio {
    let entries = |file: &str| {
        let parse = |line: &str| {
            let mut fields = line.split_ascii_whitespace();
            let (major, minor) = fields.next()?.split_once(':')?;
            let (op, value) = (fields.next()?, fields.next()?);
            let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
            Some(V1BlkioEntry { op: op.to_owned(), device: String::new(), major, minor, value: limit(value) })
        };
        text(&directory.join(file)).lines().filter_map(parse).collect()
    };
    V1Blkio {
        io_service_bytes_recursive: entries("blkio.throttle.io_service_bytes_recursive"),
        io_serviced_recursive: entries("blkio.throttle.io_serviced_recursive"),
    }
}

fn v2(directory: &Path) -> V2 {
    let cpu = Table::read(&directory.join("cpu.stat"));
    let events = Table::read(&directory.join("memory.events"));
    V2 {
        pids: Some(pids(directory)),
        cpu: Some(V2Cpu {
            usage_usec: cpu.get("usage_usec"),
            user_usec: cpu.get("user_usec"),
            system_usec: cpu.get("system_usec"),
            nr_periods: cpu.get("nr_periods"),
            nr_throttled: cpu.get("nr_throttled"),
            throttled_usec: cpu.get("throttled_usec"),
        }),
        memory: Some(v2_memory(directory)),
        io: Some(V2Io { usage: text(&directory.join("io.stat")).lines().filter_map(v2_io).collect() }),
        memory_events: Some(V2MemoryEvents {
            low: events.get("low"),
            high: events.get("high"),
            max: events.get("max"),
            oom: events.get("oom"),
            oom_kill: events.get("oom_kill"),
        }),
    }
}

fn v2_memory(directory: &Path) -> V2Memory {
    let table = Table::read(&directory.join("memory.stat"));
    let get = |key: &str| table.get(key);
    V2Memory {
        anon: get("anon"),
        file: get("file"),
        kernel_stack: get("kernel_stack"),
        slab: get("slab"),
        sock: get("sock"),
        shmem: get("shmem"),
        file_mapped: get("file_mapped"),
        file_dirty: get("file_dirty"),
        file_writeback: get("file_writeback"),
        anon_thp: get("anon_thp"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        slab_reclaimable: get("slab_reclaimable"),
        slab_unreclaimable: get("slab_unreclaimable"),
        pgfault: get("pgfault"),
        pgmajfault: get("pgmajfault"),
        workingset_refault: get("workingset_refault_anon") + get("workingset_refault_file"),
        workingset_activate: get("workingset_activate_anon") + get("workingset_activate_file"),
        workingset_nodereclaim: get("workingset_nodereclaim"),
        pgrefill: get("pgrefill"),
        pgscan: get("pgscan"),
        pgsteal: get("pgsteal"),
        pgactivate: get("pgactivate"),
        pgdeactivate: get("pgdeactivate"),
        pglazyfree: get("pglazyfree"),
        pglazyfreed: get("pglazyfreed"),
        thp_fault_alloc: get("thp_fault_alloc"),
        thp_collapse_alloc: get("thp_collapse_alloc"),
        usage: number(&directory.join("memory.current")),
        usage_limit: number(&directory.join("memory.max")),
        swap_usage: number(&directory.join("memory.swap.current")),
        swap_limit: number(&directory.join("memory.swap.max")),
    }
}

/// `major:minor rbytes=… wbytes=… rios=… wios=… …` (cgroup-v2.rst).
fn v2_io(line: &str) -> Option<V2IoEntry> {
    let (device, rest) = line.split_once(' ')?;
    let (major, minor) = device.split_once(':')?;
    let get = |key: &str| {
        let found = rest.split(' ').find_map(|field| field.split_once('=').filter(|(name, _)| *name == key));
        found.map_or(0, |(_, value)| limit(value))
    };
    Some(V2IoEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        rbytes: get("rbytes"),
        wbytes: get("wbytes"),
        rios: get("rios"),
        wios: get("wios"),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_v2_cgroup_is_read() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            ("cpu.stat", "usage_usec 500\nuser_usec 300\nsystem_usec 200\n"),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 1000\nfile 2000\nworkingset_refault_anon 1\nworkingset_refault_file 2\n"),
            ("memory.events", "low 0\noom_kill 4\n"),
            ("io.stat", "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
        ] {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let found = v2(dir.path());
        assert_eq!(found.pids, Some(Pids { current: 3, limit: 0 }));
        assert_eq!(found.cpu.unwrap().user_usec, 300);
        let memory = found.memory.unwrap();
        assert_eq!(
            (memory.anon, memory.usage, memory.usage_limit, memory.workingset_refault),
            (1000, 4096, u64::MAX, 3)
        );
        assert_eq!(found.memory_events.unwrap().oom_kill, 4);
        assert_eq!(
            found.io.unwrap().usage,
            [V2IoEntry { major: 8, minor: 16, rbytes: 1, wbytes: 2, rios: 3, wios: 4 }]
        );
    }
}
