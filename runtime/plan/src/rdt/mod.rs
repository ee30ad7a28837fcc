//! Intel RDT: the resctrl group of a container, and what is written there (config-linux.md, "IntelRdt"; the kernel's
//! resctrl.rst).
//!
//! Owns: which directories, which texts, which refusals. Does not own: the mounted file system. All paths are relative
//! to it; the empty one is the default group.

mod schemata;
mod stats;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxIntelRdt;

use crate::spec::Problems;
pub use schemata::Mismatch;
pub use stats::{Read, stats};

/// Directories and files that resctrl itself has at its top: no group can have such a name.
const RESERVED: [&str; 13] = [
    "info",
    "mon_groups",
    "mon_data",
    "tasks",
    "cpus",
    "cpus_list",
    "schemata",
    "mode",
    "size",
    "mba_MBps_event",
    "ctrl_hw_id",
    "mon_hw_id",
    "pseudo_lock",
];

/// What the mounted file system offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offers {
    /// Cache allocation (CAT): `info/L3`, or `info/L3CODE` if it is mounted with `cdp`.
    pub l3: bool,
    /// Bandwidth allocation (MBA): `info/MB`.
    pub mb: bool,
    /// Lines of `info/L3_MON/mon_features`; `None` without monitoring.
    pub monitoring: Option<Vec<String>>,
}

/// Why a container cannot have what its `linux.intelRdt` asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A part that is switched off, or that this processor does not have.
    #[error("linux.intelRdt.{field}: is specified in config, but Intel RDT/{part} is not enabled")]
    NotOffered { field: &'static str, part: &'static str },
    /// Without schemata a class has to be there already.
    #[error(
        "linux.intelRdt.closID: there is no class {clos:?}, which must exist when l3CacheSchema, memBwSchema and schemata are empty"
    )]
    NoSuchClass { clos: String },
    /// A class that is there has other values.
    #[error("linux.intelRdt.closID: class {clos:?} exists with other schemata: {mismatch}")]
    OtherSchemata { clos: String, mismatch: Mismatch },
    /// The container's id would be the group's name.
    #[error("linux.intelRdt: the container's id {id:?} is a name that resctrl itself uses; set closID")]
    ReservedId { id: String },
}

/// What to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The group whose `schemata` are written and reported.
    pub group: PathBuf,
    /// A group of its own below, which only counts.
    pub monitor: Option<PathBuf>,
    /// Directories to make, which are the container's: they go when it goes.
    pub make: Vec<PathBuf>,
    /// Texts for the group's `schemata`, one write each.
    pub schemata: Vec<String>,
}

/// The schema crate (oci-spec 0.10) spells two fields otherwise than the specification and would overlook them.
const SPELLINGS: [(&str, &str); 2] = [("enableCMT", "enableCmt"), ("enableMBM", "enableMbm")];

/// config.json with those fields as the schema crate reads them. A text that is no JSON stays for its own error.
pub(crate) fn respell(text: &str) -> Cow<'_, str> {
    if !SPELLINGS.iter().any(|(name, _)| text.contains(name)) {
        return Cow::Borrowed(text);
    }
    let Ok(mut document) = serde_json::from_str::<serde_json::Value>(text) else { return Cow::Borrowed(text) };
    let section = document.pointer_mut("/linux/intelRdt").and_then(serde_json::Value::as_object_mut);
    let Some(section) = section else { return Cow::Borrowed(text) };
    for (name, read) in SPELLINGS {
        if let Some(value) = section.remove(name) {
            section.insert(read.to_owned(), value);
        }
    }
    Cow::Owned(document.to_string())
}

/// The checks that need no machine.
pub(crate) fn check(rdt: &LinuxIntelRdt, problems: &mut Problems) {
    if let Some(clos) = rdt.clos_id().as_deref().filter(|clos| *clos != "/") {
        let file_name = !clos.contains(['/', '\n', '\0']) && clos != "." && clos != "..";
        if !file_name || RESERVED.contains(&clos) {
            problems
                .add("linux.intelRdt.closID", format!("{clos:?} is neither \"/\" nor a name for a group of resctrl"));
        }
    }
    if let Some(l3) = rdt.l3_cache_schema() {
        problems.no_nul("linux.intelRdt.l3CacheSchema", l3);
    }
    let mb = rdt.mem_bw_schema().as_deref().unwrap_or_default();
    if !mb.is_empty() && (!mb.starts_with("MB:") || mb.contains(['\n', '\0'])) {
        problems.add("linux.intelRdt.memBwSchema", "must be one line that starts with MB:");
    }
    for (n, line) in rdt.schemata().iter().flatten().enumerate() {
        if line.contains(['\n', '\0']) {
            problems.add(format!("linux.intelRdt.schemata[{n}]"), "must be one line");
        }
    }
}

/// The class a container is in.
pub fn group(rdt: &LinuxIntelRdt, id: &str) -> PathBuf {
    match named(rdt) {
        Some("/") => PathBuf::new(),
        Some(clos) => PathBuf::from(clos),
        None => PathBuf::from(id),
    }
}

fn named(rdt: &LinuxIntelRdt) -> Option<&str> {
    rdt.clos_id().as_deref().filter(|clos| !clos.is_empty())
}

/// Plans a container's groups. `existing` is the text of the group's `schemata`, if that group is there.
///
/// # Errors
/// If the class or the machine does not fit.
pub fn plan(rdt: &LinuxIntelRdt, id: &str, offers: &Offers, existing: Option<&str>) -> Result<Plan, Refused> {
    require(rdt, offers)?;
    let group = group(rdt, id);
    let mut writes = texts(rdt);
    match (named(rdt), existing) {
        (None, _) if RESERVED.contains(&id) => return Err(Refused::ReservedId { id: id.to_owned() }),
        (Some(clos), None) if writes.is_empty() => return Err(Refused::NoSuchClass { clos: clos.to_owned() }),
        // A class that others use already: its values are compared, never changed.
        (Some(clos), Some(existing)) => {
            for asked in writes.drain(..) {
                schemata::compare(&asked, existing)
                    .map_err(|mismatch| Refused::OtherSchemata { clos: clos.to_owned(), mismatch })?;
            }
        }
        _ => {}
    }
    let monitor = rdt.enable_monitoring().unwrap_or(false).then(|| group.join("mon_groups").join(id));
    let own = existing.is_none() || named(rdt).is_none();
    let make = own.then(|| group.clone()).into_iter().chain(monitor.clone()).collect();
    Ok(Plan { group, monitor, make, schemata: writes })
}

/// enableCMT and enableMBM, deprecated since 1.3, never asked for more than that the machine can count.
fn require(rdt: &LinuxIntelRdt, offers: &Offers) -> Result<(), Refused> {
    let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let counts = |names: &[&str]| offers.monitoring.iter().flatten().any(|one| names.contains(&one.as_str()));
    let on = |flag: &Option<bool>| flag.unwrap_or(false);
    let wanted = [
        (given(rdt.l3_cache_schema()), offers.l3, "l3CacheSchema", "CAT"),
        (given(rdt.mem_bw_schema()), offers.mb, "memBwSchema", "MBA"),
        (on(rdt.enable_monitoring()), offers.monitoring.is_some(), "enableMonitoring", "monitoring"),
        (on(rdt.enable_cmt()), counts(&["llc_occupancy"]), "enableCMT", "CMT"),
        (on(rdt.enable_mbm()), counts(&["mbm_total_bytes", "mbm_local_bytes"]), "enableMBM", "MBM"),
    ];
    match wanted.iter().find(|(asked, offered, ..)| *asked && !offered) {
        Some((_, _, field, part)) => Err(Refused::NotOffered { field, part }),
        None => Ok(()),
    }
}

/// The older fields together, then `schemata`: last, so that it has the last word, and apart, because the kernel refuses
/// a value that comes twice in one write.
fn texts(rdt: &LinuxIntelRdt) -> Vec<String> {
    let l3 = rdt.l3_cache_schema().as_deref().unwrap_or_default();
    let mb = rdt.mem_bw_schema().as_deref().unwrap_or_default();
    let older = l3.lines().filter(|line| !line.starts_with("MB:")).chain(mb.lines());
    let lines = |lines: &mut dyn Iterator<Item = &str>| -> String {
        lines.filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
    };
    let newer = rdt.schemata().iter().flatten().map(String::as_str);
    let mut texts = vec![lines(&mut { older }), lines(&mut { newer })];
    texts.retain(|text| !text.is_empty());
    texts
}

/// What `update` changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change<'a> {
    /// `--l3-cache-schema`.
    pub l3: Option<&'a str>,
    /// `--mem-bw-schema`.
    pub mb: Option<&'a str>,
}

impl Change<'_> {
    /// The container's `linux.intelRdt` afterwards: the other fields stay as they are.
    ///
    /// # Errors
    /// If the machine does not offer it, or a value has no form.
    pub fn over(&self, old: Option<&LinuxIntelRdt>, offers: &Offers) -> Result<LinuxIntelRdt, Refused> {
        let mut new = old.cloned().unwrap_or_default();
        if let Some(l3) = self.l3 {
            new.set_l3_cache_schema(Some(l3.to_owned()));
        }
        if let Some(mb) = self.mb {
            new.set_mem_bw_schema(Some(mb.to_owned()));
        }
        require(&new, offers)?;
        Ok(new)
    }

    /// The text to write: what was asked for now, not what is so already.
    pub fn text(&self) -> String {
        self.l3.iter().chain(&self.mb).flat_map(|text| text.lines()).map(|line| format!("{line}\n")).collect()
    }
}

/// Whether a group may be removed, by the texts of its `tasks` and the names in its `mon_groups`: other containers may
/// have joined a class that this one made, and would be thrown into the default one.
pub fn is_unused(tasks: &str, monitors: &[String]) -> bool {
    tasks.trim().is_empty() && monitors.is_empty()
}

/// The file that moves a task into a group. A task is taken by a monitoring group only from the class above it.
pub fn tasks(group: &Path) -> PathBuf {
    group.join("tasks")
}

#[cfg(test)]
mod tests;
