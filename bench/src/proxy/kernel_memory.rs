//! What the kernel holds on behalf of this process and its children: rules, sets and their elements, but for the buckets
//! of hash tables, which are nobody's. A memory cgroup of one's own counts it, whatever others do.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Version 1's hierarchy, and its file.
const V1: (&str, &str) = ("/sys/fs/cgroup/memory", "memory.kmem.usage_in_bytes");
/// Version 2's, where a line of the file counts.
const V2: (&str, &str) = ("/sys/fs/cgroup", "memory.stat");

/// A memory cgroup that this process is in as long as this lives.
pub struct KernelMemory {
    group: PathBuf,
    before: PathBuf,
    file: &'static str,
}

impl KernelMemory {
    /// Makes it and goes there.
    pub fn own() -> Result<Self> {
        let (root, file) = if Path::new(V1.0).join(V1.1).exists() { V1 } else { V2 };
        let groups = std::fs::read_to_string("/proc/self/cgroup")?;
        let is_ours = |l: &&str| l.contains(":memory:") || (root == V2.0 && l.starts_with("0::"));
        let line = groups.lines().find(is_ours).context("a memory cgroup")?;
        let before = Path::new(root).join(line.splitn(3, ':').nth(2).unwrap_or_default().trim_start_matches('/'));
        let group = Path::new(root).join(format!("pintle-bench-{}", std::process::id()));
        std::fs::create_dir(&group).with_context(|| format!("make {}", group.display()))?;
        let own = Self { group, before, file };
        std::fs::write(own.group.join("cgroup.procs"), "0").context("enter the memory cgroup")?;
        Ok(own)
    }

    /// What is held now, in MB.
    pub fn mb(&self) -> Result<f64> {
        let text = std::fs::read_to_string(self.group.join(self.file))
            .context("count the kernel's memory; the memory controller must be there")?;
        let counted = text.lines().find_map(|l| l.strip_prefix("kernel ")).unwrap_or(&text);
        Ok(counted.trim().parse::<f64>()? / 1e6)
    }
}

impl Drop for KernelMemory {
    fn drop(&mut self) {
        // Nothing can be done about what fails here, and the reading is taken.
        drop(std::fs::write(self.before.join("cgroup.procs"), "0"));
        drop(std::fs::remove_dir(&self.group));
    }
}
