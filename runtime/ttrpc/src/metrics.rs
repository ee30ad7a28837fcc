//! A task's use of resources as containerd, its CRI plugin and `ctr task metrics` read it (github.com/containerd/
//! cgroups, cgroup1/stats and cgroup2/stats, metrics.proto). Fields that the kernel files behind them do not fill are
//! left out, which protobuf reads as 0.

use prost::Message;

/// The type of [`V1`].
pub const V1_TYPE: &str = "io.containerd.cgroups.v1.Metrics";
/// The type of [`V2`].
pub const V2_TYPE: &str = "io.containerd.cgroups.v2.Metrics";

/// cgroup v1.
#[derive(Clone, PartialEq, Message)]
pub struct V1 {
    /// By page size.
    #[prost(message, repeated, tag = "1")]
    pub hugetlb: Vec<V1Hugetlb>,
    /// Processes.
    #[prost(message, optional, tag = "2")]
    pub pids: Option<Pids>,
    /// CPU.
    #[prost(message, optional, tag = "3")]
    pub cpu: Option<V1Cpu>,
    /// Memory.
    #[prost(message, optional, tag = "4")]
    pub memory: Option<V1Memory>,
    /// Block devices.
    #[prost(message, optional, tag = "5")]
    pub blkio: Option<V1Blkio>,
    /// The memory killer.
    #[prost(message, optional, tag = "9")]
    pub memory_oom_control: Option<V1OomControl>,
}

/// Huge pages of one size.
#[derive(Clone, PartialEq, Message)]
pub struct V1Hugetlb {
    /// Bytes.
    #[prost(uint64, tag = "1")]
    pub usage: u64,
    /// The most so far, bytes.
    #[prost(uint64, tag = "2")]
    pub max: u64,
    /// Refusals.
    #[prost(uint64, tag = "3")]
    pub failcnt: u64,
    /// E.g. `2MB`.
    #[prost(string, tag = "4")]
    pub pagesize: String,
}

/// Processes.
#[derive(Clone, PartialEq, Message)]
pub struct Pids {
    /// Now.
    #[prost(uint64, tag = "1")]
    pub current: u64,
    /// 0: none.
    #[prost(uint64, tag = "2")]
    pub limit: u64,
}

/// CPU.
#[derive(Clone, PartialEq, Message)]
pub struct V1Cpu {
    /// Time used.
    #[prost(message, optional, tag = "1")]
    pub usage: Option<V1CpuUsage>,
    /// Time refused.
    #[prost(message, optional, tag = "2")]
    pub throttling: Option<V1Throttle>,
}

/// CPU time in nanoseconds.
#[derive(Clone, PartialEq, Message)]
pub struct V1CpuUsage {
    /// All.
    #[prost(uint64, tag = "1")]
    pub total: u64,
    /// In the kernel.
    #[prost(uint64, tag = "2")]
    pub kernel: u64,
    /// In programs.
    #[prost(uint64, tag = "3")]
    pub user: u64,
    /// By CPU.
    #[prost(uint64, repeated, tag = "4")]
    pub per_cpu: Vec<u64>,
}

/// Quota.
#[derive(Clone, PartialEq, Message)]
pub struct V1Throttle {
    /// That began.
    #[prost(uint64, tag = "1")]
    pub periods: u64,
    /// Cut short.
    #[prost(uint64, tag = "2")]
    pub throttled_periods: u64,
    /// Nanoseconds.
    #[prost(uint64, tag = "3")]
    pub throttled_time: u64,
}

/// memory.stat and the counters beside it, in bytes or events.
#[derive(Clone, PartialEq, Message)]
pub struct V1Memory {
    /// As the kernel says.
    #[prost(uint64, tag = "1")]
    pub cache: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "2")]
    pub rss: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "3")]
    pub rss_huge: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "4")]
    pub mapped_file: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "5")]
    pub dirty: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "6")]
    pub writeback: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "7")]
    pub pg_pg_in: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "8")]
    pub pg_pg_out: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "9")]
    pub pg_fault: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "10")]
    pub pg_maj_fault: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "11")]
    pub inactive_anon: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "12")]
    pub active_anon: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "13")]
    pub inactive_file: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "14")]
    pub active_file: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "15")]
    pub unevictable: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "16")]
    pub hierarchical_memory_limit: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "17")]
    pub hierarchical_swap_limit: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "18")]
    pub total_cache: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "19")]
    pub total_rss: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "20")]
    pub total_rss_huge: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "21")]
    pub total_mapped_file: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "22")]
    pub total_dirty: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "23")]
    pub total_writeback: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "24")]
    pub total_pg_pg_in: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "25")]
    pub total_pg_pg_out: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "26")]
    pub total_pg_fault: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "27")]
    pub total_pg_maj_fault: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "28")]
    pub total_inactive_anon: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "29")]
    pub total_active_anon: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "30")]
    pub total_inactive_file: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "31")]
    pub total_active_file: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "32")]
    pub total_unevictable: u64,
    /// Memory.
    #[prost(message, optional, tag = "33")]
    pub usage: Option<V1MemoryEntry>,
    /// Memory and swap.
    #[prost(message, optional, tag = "34")]
    pub swap: Option<V1MemoryEntry>,
    /// Kernel memory.
    #[prost(message, optional, tag = "35")]
    pub kernel: Option<V1MemoryEntry>,
}

/// Bytes; refusals.
#[derive(Clone, PartialEq, Message)]
pub struct V1MemoryEntry {
    /// Bytes.
    #[prost(uint64, tag = "1")]
    pub limit: u64,
    /// Bytes.
    #[prost(uint64, tag = "2")]
    pub usage: u64,
    /// The most so far, bytes.
    #[prost(uint64, tag = "3")]
    pub max: u64,
    /// Refusals.
    #[prost(uint64, tag = "4")]
    pub failcnt: u64,
}

/// memory.oom_control.
#[derive(Clone, PartialEq, Message)]
pub struct V1OomControl {
    /// Whether tasks wait instead.
    #[prost(uint64, tag = "1")]
    pub oom_kill_disable: u64,
    /// Whether they do now.
    #[prost(uint64, tag = "2")]
    pub under_oom: u64,
    /// Kills.
    #[prost(uint64, tag = "3")]
    pub oom_kill: u64,
}

/// Block devices.
#[derive(Clone, PartialEq, Message)]
pub struct V1Blkio {
    /// Bytes.
    #[prost(message, repeated, tag = "1")]
    pub io_service_bytes_recursive: Vec<V1BlkioEntry>,
    /// Operations.
    #[prost(message, repeated, tag = "2")]
    pub io_serviced_recursive: Vec<V1BlkioEntry>,
}

/// One device and operation.
#[derive(Clone, PartialEq, Message)]
pub struct V1BlkioEntry {
    /// E.g. `Read`.
    #[prost(string, tag = "1")]
    pub op: String,
    /// Path, if known.
    #[prost(string, tag = "2")]
    pub device: String,
    /// Device.
    #[prost(uint64, tag = "3")]
    pub major: u64,
    /// Device.
    #[prost(uint64, tag = "4")]
    pub minor: u64,
    /// How much.
    #[prost(uint64, tag = "5")]
    pub value: u64,
}

/// cgroup v2.
#[derive(Clone, PartialEq, Message)]
pub struct V2 {
    /// Processes.
    #[prost(message, optional, tag = "1")]
    pub pids: Option<Pids>,
    /// CPU.
    #[prost(message, optional, tag = "2")]
    pub cpu: Option<V2Cpu>,
    /// Memory.
    #[prost(message, optional, tag = "4")]
    pub memory: Option<V2Memory>,
    /// Block devices.
    #[prost(message, optional, tag = "6")]
    pub io: Option<V2Io>,
    /// Limits that were met.
    #[prost(message, optional, tag = "8")]
    pub memory_events: Option<V2MemoryEvents>,
}

/// cpu.stat.
#[derive(Clone, PartialEq, Message)]
pub struct V2Cpu {
    /// As the kernel says.
    #[prost(uint64, tag = "1")]
    pub usage_usec: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "2")]
    pub user_usec: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "3")]
    pub system_usec: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "4")]
    pub nr_periods: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "5")]
    pub nr_throttled: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "6")]
    pub throttled_usec: u64,
}

/// memory.stat and the counters beside it, in bytes or events.
#[derive(Clone, PartialEq, Message)]
pub struct V2Memory {
    /// As the kernel says.
    #[prost(uint64, tag = "1")]
    pub anon: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "2")]
    pub file: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "3")]
    pub kernel_stack: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "4")]
    pub slab: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "5")]
    pub sock: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "6")]
    pub shmem: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "7")]
    pub file_mapped: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "8")]
    pub file_dirty: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "9")]
    pub file_writeback: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "10")]
    pub anon_thp: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "11")]
    pub inactive_anon: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "12")]
    pub active_anon: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "13")]
    pub inactive_file: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "14")]
    pub active_file: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "15")]
    pub unevictable: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "16")]
    pub slab_reclaimable: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "17")]
    pub slab_unreclaimable: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "18")]
    pub pgfault: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "19")]
    pub pgmajfault: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "20")]
    pub workingset_refault: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "21")]
    pub workingset_activate: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "22")]
    pub workingset_nodereclaim: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "23")]
    pub pgrefill: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "24")]
    pub pgscan: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "25")]
    pub pgsteal: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "26")]
    pub pgactivate: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "27")]
    pub pgdeactivate: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "28")]
    pub pglazyfree: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "29")]
    pub pglazyfreed: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "30")]
    pub thp_fault_alloc: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "31")]
    pub thp_collapse_alloc: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "32")]
    pub usage: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "33")]
    pub usage_limit: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "34")]
    pub swap_usage: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "35")]
    pub swap_limit: u64,
}

/// memory.events.
#[derive(Clone, PartialEq, Message)]
pub struct V2MemoryEvents {
    /// As the kernel says.
    #[prost(uint64, tag = "1")]
    pub low: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "2")]
    pub high: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "3")]
    pub max: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "4")]
    pub oom: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "5")]
    pub oom_kill: u64,
}

/// io.stat.
#[derive(Clone, PartialEq, Message)]
pub struct V2Io {
    /// By device.
    #[prost(message, repeated, tag = "1")]
    pub usage: Vec<V2IoEntry>,
}

/// One device.
#[derive(Clone, PartialEq, Message)]
pub struct V2IoEntry {
    /// As the kernel says.
    #[prost(uint64, tag = "1")]
    pub major: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "2")]
    pub minor: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "3")]
    pub rbytes: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "4")]
    pub wbytes: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "5")]
    pub rios: u64,
    /// As the kernel says.
    #[prost(uint64, tag = "6")]
    pub wios: u64,
}
