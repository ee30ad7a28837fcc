//! Reading a cgroup's statistics; what they mean is `plan::cgroup::stats`'s business.

use pintle_runtime_plan::cgroup::stats;
use serde_json::Value;

use super::Cgroups;

impl Cgroups {
    /// runc's statistics. A file that is missing or cannot be read counts as zero, as in runc: kernels differ.
    pub fn stats(&self) -> Value {
        let read = |controller: &str, file: &str| std::fs::read_to_string(self.of(controller)?.join(file)).ok();
        let entries = self.of("hugetlb").and_then(|directory| std::fs::read_dir(directory).ok());
        let names: Vec<String> =
            entries.into_iter().flatten().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        let sizes = stats::page_sizes(names.iter().map(String::as_str));
        if self.unified().is_some() { stats::v2(&read, &sizes) } else { stats::v1(&read, &sizes) }
    }
}
