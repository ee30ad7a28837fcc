//! What `events` reports: runc's JSON (types/events.go), out of the texts of cgroup files.
//!
//! Owns: the shape, and reading the files' formats. Does not own: opening files; a reader comes in as a function that
//! gives a file's text by controller and name, or nothing where there is no such file.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Gives the text of a file: controller, name.
pub type Read<'a> = &'a dyn Fn(&str, &str) -> Option<String>;

/// Statistics of a v1 cgroup. `page_sizes` are those of hugetlb, such as `2MB`.
pub fn v1(read: Read<'_>, page_sizes: &[String]) -> Value {
    json!({
        "cpu": cpu_v1(read),
        "cpuset": cpuset(read, "cpuset.cpus", "cpuset.mems"),
        "memory": memory_v1(read),
        "pids": pids(read),
        "blkio": blkio_v1(read),
        "hugetlb": hugetlb(page_sizes, |size| json!({
            "usage": number(read, "hugetlb", &format!("hugetlb.{size}.usage_in_bytes")),
            "max": number(read, "hugetlb", &format!("hugetlb.{size}.max_usage_in_bytes")),
            "failcnt": number(read, "hugetlb", &format!("hugetlb.{size}.failcnt")),
        })),
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

/// Statistics of a v2 cgroup.
pub fn v2(read: Read<'_>, page_sizes: &[String]) -> Value {
    json!({
        "cpu": cpu_v2(read),
        "cpuset": cpuset(read, "cpuset.cpus.effective", "cpuset.mems.effective"),
        "memory": memory_v2(read),
        "pids": pids(read),
        "blkio": blkio_v2(read),
        "hugetlb": hugetlb(page_sizes, |size| json!({
            "usage": number(read, "hugetlb", &format!("hugetlb.{size}.current")),
            "failcnt": of(&keyed(read, "hugetlb", &format!("hugetlb.{size}.events")), "max"),
        })),
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

/// The page sizes that a cgroup directory's file names speak of.
pub fn page_sizes<'a>(files: impl Iterator<Item = &'a str>) -> Vec<String> {
    let size = |file: &'a str| {
        let (size, rest) = file.strip_prefix("hugetlb.")?.split_once('.')?;
        matches!(rest, "usage_in_bytes" | "current").then(|| size.to_owned())
    };
    let mut sizes: Vec<String> = files.filter_map(size).collect();
    sizes.sort();
    sizes
}

fn hugetlb(sizes: &[String], one: impl Fn(&str) -> Value) -> Value {
    Value::Object(sizes.iter().map(|size| (size.clone(), one(size))).collect())
}

/// `max` is the largest number, as Go's callers expect.
fn parse(text: &str) -> u64 {
    let text = text.trim();
    if text == "max" { u64::MAX } else { text.parse().unwrap_or(0) }
}

fn number(read: Read<'_>, controller: &str, file: &str) -> u64 {
    read(controller, file).map_or(0, |text| parse(&text))
}

fn keyed(read: Read<'_>, controller: &str, file: &str) -> BTreeMap<String, u64> {
    let text = read(controller, file).unwrap_or_default();
    let pair = |line: &str| line.split_once(' ').map(|(key, value)| (key.to_owned(), parse(value)));
    text.lines().filter_map(pair).collect()
}

fn of(map: &BTreeMap<String, u64>, key: &str) -> u64 {
    map.get(key).copied().unwrap_or(0)
}

fn numbers(text: Option<String>) -> Vec<u64> {
    text.unwrap_or_default().split_whitespace().map(parse).collect()
}

fn cpu_v1(read: Read<'_>) -> Value {
    let throttled = keyed(read, "cpu", "cpu.stat");
    // cpuacct.stat counts in ticks of 1/100 s; cpuacct.usage_all has both halves in nanoseconds.
    let ticks = keyed(read, "cpuacct", "cpuacct.stat");
    let ns = |key: &str| of(&ticks, key) * 10_000_000;
    let all = read("cpuacct", "cpuacct.usage_all").unwrap_or_default();
    let column = |at: usize| -> Vec<u64> {
        all.lines().skip(1).filter_map(|line| line.split_whitespace().nth(at)).map(parse).collect()
    };
    json!({
        "usage": {
            "total": number(read, "cpuacct", "cpuacct.usage"),
            "percpu": numbers(read("cpuacct", "cpuacct.usage_percpu")),
            "percpu_kernel": column(2),
            "percpu_user": column(1),
            "kernel": ns("system"),
            "user": ns("user"),
        },
        "throttling": {
            "periods": of(&throttled, "nr_periods"),
            "throttledPeriods": of(&throttled, "nr_throttled"),
            "throttledTime": of(&throttled, "throttled_time"),
        },
    })
}

fn cpu_v2(read: Read<'_>) -> Value {
    let stat = keyed(read, "cpu", "cpu.stat");
    let us = |key: &str| of(&stat, key) * 1000;
    let mut cpu = json!({
        "usage": {"total": us("usage_usec"), "kernel": us("system_usec"), "user": us("user_usec")},
        "throttling": {
            "periods": of(&stat, "nr_periods"),
            "throttledPeriods": of(&stat, "nr_throttled"),
            "throttledTime": us("throttled_usec"),
        },
    });
    add_pressure(&mut cpu, read, "cpu", "cpu.pressure");
    cpu
}

/// Lists such as `0-2,7` as numbers.
fn list(text: &str) -> Vec<u64> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        // The kernel's numbers are small; a limit keeps a strange text from filling memory.
        Some(from.trim().parse::<u64>().ok()?..=to.trim().parse::<u64>().ok()?.min(65_535))
    };
    text.split(',').filter_map(range).flatten().collect()
}

fn cpuset(read: Read<'_>, cpus: &str, mems: &str) -> Value {
    let of = |file: &str| list(&read("cpuset", file).unwrap_or_default());
    let flag = |name: &str| number(read, "cpuset", &format!("cpuset.{name}"));
    let level = read("cpuset", "cpuset.sched_relax_domain_level").and_then(|text| text.trim().parse::<i64>().ok());
    json!({
        "cpus": of(cpus),
        "cpu_exclusive": flag("cpu_exclusive"),
        "mems": of(mems),
        "mem_hardwall": flag("mem_hardwall"),
        "mem_exclusive": flag("mem_exclusive"),
        "memory_migrate": flag("memory_migrate"),
        "memory_spread_page": flag("memory_spread_page"),
        "memory_spread_slab": flag("memory_spread_slab"),
        "memory_pressure": flag("memory_pressure"),
        "sched_load_balance": flag("sched_load_balance"),
        "sched_relax_domain_level": level.unwrap_or(0),
    })
}

fn memory_v1(read: Read<'_>) -> Value {
    let entry = |name: &str| {
        let of = |file: &str| number(read, "memory", &format!("memory.{name}{file}"));
        json!({
            "limit": of("limit_in_bytes"), "usage": of("usage_in_bytes"), "max": of("max_usage_in_bytes"),
            "failcnt": of("failcnt"),
        })
    };
    let raw = keyed(read, "memory", "memory.stat");
    json!({
        "cache": of(&raw, "cache"), "usage": entry(""), "swap": entry("memsw."), "kernel": entry("kmem."),
        "kernelTCP": entry("kmem.tcp."), "raw": raw, "event_count": event_count(&BTreeMap::new()),
    })
}

fn event_count(events: &BTreeMap<String, u64>) -> Value {
    let of = |key: &str| of(events, key);
    json!({"low": of("low"), "high": of("high"), "max": of("max"), "oom": of("oom"), "oom_kill": of("oom_kill")})
}

fn memory_v2(read: Read<'_>) -> Value {
    let raw = keyed(read, "memory", "memory.stat");
    let events = keyed(read, "memory", "memory.events");
    let file = |file: &str| number(read, "memory", file);
    let (usage, limit) = (file("memory.current"), file("memory.max"));
    let failcnt = |file: &str| of(&keyed(read, "memory", file), "max");
    // v1's swap, which callers know, counts memory and swap together.
    let swap_limit = file("memory.swap.max");
    let mut memory = json!({
        "cache": of(&raw, "file"),
        "usage": {"limit": limit, "usage": usage, "max": file("memory.peak"), "failcnt": failcnt("memory.events")},
        "swap": {
            "limit": swap_limit.saturating_add(limit), "usage": file("memory.swap.current").saturating_add(usage),
            "max": file("memory.swap.peak"), "failcnt": failcnt("memory.swap.events"),
        },
        "kernel": {"limit": 0, "failcnt": 0}, "kernelTCP": {"limit": 0, "failcnt": 0},
        "raw": raw, "event_count": event_count(&events),
    });
    add_pressure(&mut memory, read, "memory", "memory.pressure");
    memory
}

fn pids(read: Read<'_>) -> Value {
    let limit = read("pids", "pids.max").map(|text| parse(&text)).filter(|limit| *limit != u64::MAX);
    json!({"current": number(read, "pids", "pids.current"), "limit": limit.unwrap_or(0)})
}

/// v1 files and the JSON fields they end in.
const BLKIO_V1: [(&str, &str); 8] = [
    ("ioServiceBytesRecursive", "io_service_bytes_recursive"),
    ("ioServicedRecursive", "io_serviced_recursive"),
    ("ioQueueRecursive", "io_queued_recursive"),
    ("ioServiceTimeRecursive", "io_service_time_recursive"),
    ("ioWaitTimeRecursive", "io_wait_time_recursive"),
    ("ioMergedRecursive", "io_merged_recursive"),
    ("ioTimeRecursive", "time_recursive"),
    ("sectorsRecursive", "sectors_recursive"),
];

/// The accounting of bfq, or of the throttle where there is no bfq (both have bytes and operations).
fn blkio_v1(read: Read<'_>) -> Value {
    let text = |file: &str| {
        ["blkio.bfq.", "blkio.", "blkio.throttle."].iter().find_map(|prefix| {
            read("blkio", &format!("{prefix}{file}")).filter(|text| entries_v1(text).next().is_some())
        })
    };
    let field = |(name, file): &(&str, &str)| {
        let entries: Vec<Value> = entries_v1(&text(file)?).collect();
        Some(((*name).to_owned(), Value::Array(entries)))
    };
    Value::Object(BLKIO_V1.iter().filter_map(field).collect())
}

/// Lines `8:0 Read 5` and `8:0 5`; the last line, a total, has no device.
fn entries_v1(text: &str) -> impl Iterator<Item = Value> + '_ {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let (first, second) = (words.next()?, words.next());
        let (op, value) = second.map_or(("", first), |value| (first, value));
        Some(entry(parse(major), parse(minor), op, parse(value)))
    })
}

fn entry(major: u64, minor: u64, op: &str, value: u64) -> Value {
    json!({"major": major, "minor": minor, "op": op, "value": value})
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn blkio_v2(read: Read<'_>) -> Value {
    let text = read("io", "io.stat").unwrap_or_default();
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "dbytes" => (&mut bytes, "Discard"),
                "rios" => (&mut operations, "Read"),
                "wios" => (&mut operations, "Write"),
                "dios" => (&mut operations, "Discard"),
                _ => continue,
            };
            list.push(entry(parse(major), parse(minor), op, parse(value)));
        }
    }
    let lists = [("ioServiceBytesRecursive", bytes), ("ioServicedRecursive", operations)];
    let filled = lists.into_iter().filter(|(_, list)| !list.is_empty());
    let mut blkio = Value::Object(filled.map(|(name, list)| (name.to_owned(), Value::Array(list))).collect());
    add_pressure(&mut blkio, read, "io", "io.pressure");
    blkio
}

/// psi.rst: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`. Kernels without it have no file, or one that fails.
fn add_pressure(to: &mut Value, read: Read<'_>, controller: &str, file: &str) {
    let Some(text) = read(controller, file) else { return };
    let mut kinds = Map::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(kind) = words.next() else { continue };
        let value = |(key, value): (&str, &str)| {
            let number = if key == "total" { json!(parse(value)) } else { json!(value.parse::<f64>().unwrap_or(0.0)) };
            (key.to_owned(), number)
        };
        kinds
            .insert(kind.to_owned(), Value::Object(words.filter_map(|word| word.split_once('=')).map(value).collect()));
    }
    if !kinds.is_empty() {
        to["psi"] = Value::Object(kinds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files<'a>(list: &'a [(&'a str, &'a str)]) -> impl Fn(&str, &str) -> Option<String> + 'a {
        |_controller, name| list.iter().find(|(file, _)| *file == name).map(|(_, text)| (*text).to_owned())
    }

    #[test]
    fn callers_find_v1s_numbers_where_they_look() {
        let list = [
            ("cpuacct.usage", "5000000\n"),
            ("cpuacct.usage_percpu", "3 2 \n"),
            ("cpuacct.usage_all", "cpu user system\n0 1 2\n1 0 2\n"),
            ("cpuacct.stat", "user 3\nsystem 4\n"),
            ("cpu.stat", "nr_periods 1\nnr_throttled 2\nthrottled_time 3\n"),
            ("cpuset.cpus", "0-1,4\n"),
            ("memory.usage_in_bytes", "4096\n"),
            ("memory.limit_in_bytes", "8192\n"),
            ("memory.stat", "cache 7\nrss 9\n"),
            ("pids.current", "2\n"),
            ("pids.max", "max\n"),
            ("blkio.throttle.io_service_bytes_recursive", "8:0 Read 5\n8:0 Write 6\nTotal 11\n"),
            ("hugetlb.2MB.failcnt", "1\n"),
        ];
        let stats = v1(&files(&list), &["2MB".to_owned()]);
        insta::assert_snapshot!(stats["cpu"], @r#"{"throttling":{"periods":1,"throttledPeriods":2,"throttledTime":3},"usage":{"kernel":40000000,"percpu":[3,2],"percpu_kernel":[2,2],"percpu_user":[1,0],"total":5000000,"user":30000000}}"#);
        insta::assert_snapshot!(stats["memory"], @r#"{"cache":7,"event_count":{"high":0,"low":0,"max":0,"oom":0,"oom_kill":0},"kernel":{"failcnt":0,"limit":0,"max":0,"usage":0},"kernelTCP":{"failcnt":0,"limit":0,"max":0,"usage":0},"raw":{"cache":7,"rss":9},"swap":{"failcnt":0,"limit":0,"max":0,"usage":0},"usage":{"failcnt":0,"limit":8192,"max":0,"usage":4096}}"#);
        insta::assert_snapshot!(stats["cpuset"]["cpus"], @r"[0,1,4]");
        insta::assert_snapshot!(stats["pids"], @r#"{"current":2,"limit":0}"#);
        insta::assert_snapshot!(stats["blkio"], @r#"{"ioServiceBytesRecursive":[{"major":8,"minor":0,"op":"Read","value":5},{"major":8,"minor":0,"op":"Write","value":6}]}"#);
        insta::assert_snapshot!(stats["hugetlb"], @r#"{"2MB":{"failcnt":1,"max":0,"usage":0}}"#);
    }

    #[test]
    fn v2s_numbers_are_told_in_v1s_terms() {
        let list = [
            ("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 1\nnr_throttled 1\nthrottled_usec 9\n"),
            ("cpu.pressure", "some avg10=0.50 avg60=0.00 avg300=0.00 total=12\n"),
            ("memory.current", "4096\n"),
            ("memory.max", "8192\n"),
            ("memory.swap.current", "10\n"),
            ("memory.swap.max", "max\n"),
            ("memory.stat", "file 7\nanon 9\n"),
            ("memory.events", "low 0\nhigh 0\nmax 4\noom 1\noom_kill 1\n"),
            ("pids.current", "2\n"),
            ("pids.max", "50\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n"),
        ];
        let stats = v2(&files(&list), &[]);
        insta::assert_snapshot!(stats["cpu"], @r#"{"psi":{"some":{"avg10":0.5,"avg300":0.0,"avg60":0.0,"total":12}},"throttling":{"periods":1,"throttledPeriods":1,"throttledTime":9000},"usage":{"kernel":2000,"total":5000,"user":3000}}"#);
        insta::assert_snapshot!(stats["memory"], @r#"{"cache":7,"event_count":{"high":0,"low":0,"max":4,"oom":1,"oom_kill":1},"kernel":{"failcnt":0,"limit":0},"kernelTCP":{"failcnt":0,"limit":0},"raw":{"anon":9,"file":7},"swap":{"failcnt":0,"limit":18446744073709551615,"max":0,"usage":4106},"usage":{"failcnt":4,"limit":8192,"max":0,"usage":4096}}"#);
        insta::assert_snapshot!(stats["pids"], @r#"{"current":2,"limit":50}"#);
        insta::assert_snapshot!(stats["blkio"], @r#"{"ioServiceBytesRecursive":[{"major":8,"minor":0,"op":"Read","value":1},{"major":8,"minor":0,"op":"Write","value":2},{"major":8,"minor":0,"op":"Discard","value":5}],"ioServicedRecursive":[{"major":8,"minor":0,"op":"Read","value":3},{"major":8,"minor":0,"op":"Write","value":4},{"major":8,"minor":0,"op":"Discard","value":6}]}"#);
    }

    #[test]
    fn page_sizes_are_read_off_file_names() {
        let names = ["hugetlb.2MB.current", "hugetlb.2MB.max", "hugetlb.1GB.current", "memory.max"];
        assert_eq!(page_sizes(names.into_iter()), ["1GB", "2MB"]);
    }
}
