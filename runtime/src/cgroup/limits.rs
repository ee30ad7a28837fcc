//! Writing limits, and taking them back.
//!
//! Owns: which directory a planned write goes to, what a failure means, and undoing. Does not own: what is written
//! (`plan::cgroup`). Nothing that was asked for is left out in silence: an error names its place in config.json.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};
use pintle_runtime_plan::cgroup::device_list::Allowed;
use pintle_runtime_plan::cgroup::{self as plan, OnFailure, Plan, Version, Write, device_program, devices};
use pintle_sys::Errno;

use super::{Cgroups, Driver, Need, put};
use crate::error::{Doing as _, Error, Result};

/// What a change has overwritten: file and text that brings the old value back, oldest first.
#[derive(Debug, Default)]
pub struct Undo(Vec<(PathBuf, String)>);

impl Undo {
    /// Brings the old values back, the last change first. What cannot be brought back is logged.
    pub fn revert(self) {
        for (path, text) in self.0.into_iter().rev() {
            if let Err(errno) = put(&path, text.as_bytes()) {
                crate::log::warn(&format!("cannot set {} back to {text:?}: {errno}", path.display()));
            }
        }
    }
}

impl Cgroups {
    /// Sets limits of a cgroup that is being made.
    pub fn apply(&self, resources: &LinuxResources) -> Result<()> {
        if let (Version::V1, Driver::Systemd, Some(rules)) = (self.version(), self.driver, resources.devices()) {
            self.set(&self.plan_change(resources)?, None)?;
            return self.settle_devices(rules);
        }
        self.set(&self.plan(resources)?, None)?;
        match (self.unified(), resources.devices()) {
            (Some(directory), Some(rules)) => match replace_device_program(directory, &devices::rules(rules)?) {
                Err(Error::System { errno: Errno::EPERM | Errno::EACCES, .. }) if self.need == Need::WhatIsOpen => {
                    without_device_rules();
                    Ok(())
                }
                done => done,
            },
            _ => Ok(()),
        }
    }

    /// Refuses limits that cannot be, or that memory.checkBeforeUpdate forbids, before anything is changed.
    pub fn check(&self, resources: &LinuxResources) -> Result<()> {
        self.plan_change(resources)?.usage_max.map_or(Ok(()), |usage_max| self.check_usage(usage_max))
    }

    /// Changes limits of a cgroup in use: all or none. Device rules are not looked at.
    pub fn change(&self, resources: &LinuxResources) -> Result<Undo> {
        let plan = self.plan_change(resources)?;
        let mut undo = Undo::default();
        match self.set(&plan, Some(&mut undo)) {
            Ok(()) => Ok(undo),
            Err(error) => {
                undo.revert();
                Err(error)
            }
        }
    }

    fn plan_change(&self, resources: &LinuxResources) -> Result<Plan> {
        let mut resources = resources.clone();
        resources.set_devices(None);
        self.plan(&resources)
    }

    fn plan(&self, resources: &LinuxResources) -> Result<Plan> {
        Ok(match self.version() {
            Version::V1 => plan::plan_v1(resources)?,
            Version::V2 => plan::plan_v2(resources)?,
        })
    }

    /// Brings the device list of v1, which systemd has written as well as he can, to what these rules say. Nothing that is
    /// in force already is taken away for a moment.
    pub fn settle_devices(&self, rules: &[LinuxDeviceCgroup]) -> Result<()> {
        let Some(directory) = self.of("devices") else { return Ok(()) };
        let list = directory.join("devices.list");
        let text = crate::text::read(&list).doing(|| format!("read {}", list.display()))?;
        let now = Allowed::read(&text)
            .ok_or_else(|| Error::WrongState(format!("{} is no list of devices: {text:?}", list.display())))?;
        for (file, line) in now.settle(&Allowed::by(rules)?) {
            put(&directory.join(file), line.as_bytes())
                .doing(|| format!("write {line:?} to {}", directory.join(file).display()))?;
        }
        Ok(())
    }

    fn check_usage(&self, usage_max: u64) -> Result<()> {
        let Some(directory) = self.of("memory") else { return Ok(()) };
        match number(&directory.join("memory.current")) {
            Some(usage) if usage > usage_max => Err(Error::WrongState(format!(
                "linux.resources.memory.limit: {usage_max} is lower than the {usage} bytes in use (checkBeforeUpdate)"
            ))),
            _ => Ok(()),
        }
    }

    fn set(&self, plan: &Plan, mut undo: Option<&mut Undo>) -> Result<()> {
        let (mut again, mut open) = (Vec::new(), Open::default());
        for write in &plan.writes {
            match self.write(write, undo.as_deref_mut(), &mut open) {
                Err(Failed { errno: Errno::EINVAL, .. }) if write.on_failure == OnFailure::AgainLast => {
                    again.push(write);
                }
                Err(failed) if self.need == Need::WhatIsOpen && failed.is_closed_devices() => without_device_rules(),
                done => done.map_err(|failed| failed.into_error(self.need))?,
            }
        }
        again.into_iter().try_for_each(|write| {
            self.write(write, undo.as_deref_mut(), &mut open).map_err(|failed| failed.into_error(self.need))
        })
    }

    fn write<'a>(
        &self,
        write: &'a Write,
        undo: Option<&mut Undo>,
        open: &mut Open,
    ) -> std::result::Result<(), Failed<'a>> {
        let fail =
            |errno, path: Option<PathBuf>, value: &str| Err(Failed { write, errno, path, value: value.to_owned() });
        let Some(directory) = self.of(write.controller) else {
            return if write.on_failure == OnFailure::IgnoreMissing {
                Ok(())
            } else {
                fail(Errno::ENOENT, None, &write.value)
            };
        };
        let (mut file, mut value) = (&write.file, &write.value);
        if let Some((other, text)) = &write.or
            && !directory.join(file).exists()
        {
            (file, value) = (other, text);
        }
        let path = directory.join(file);
        let before = undo.as_ref().and_then(|_| std::fs::read_to_string(&path).ok());
        match open.put(&path, value.as_bytes()) {
            Ok(()) => {
                if let (Some(undo), Some(text)) = (undo, before.and_then(|text| plan::restore(file, value, &text))) {
                    undo.0.push((path, text));
                }
                Ok(())
            }
            Err(Errno::ENOENT | Errno::EOPNOTSUPP) if write.on_failure == OnFailure::IgnoreMissing => Ok(()),
            Err(errno) => fail(errno, Some(path), value),
        }
    }
}

/// The file written last: device rules are a dozen writes to one.
#[derive(Default)]
struct Open(Option<(PathBuf, std::os::fd::OwnedFd)>);

impl Open {
    fn put(&mut self, path: &Path, text: &[u8]) -> pintle_sys::Result<()> {
        let file = match self.0.take() {
            Some((last, file)) if last == path => file,
            _ => super::open(path)?,
        };
        let done = nix::sys::uio::pwrite(&file, text, 0).map(drop);
        self.0 = Some((path.to_owned(), file));
        done
    }
}

/// A write that the kernel refused, or that had nowhere to go.
struct Failed<'a> {
    write: &'a Write,
    errno: Errno,
    /// `None` if there is no hierarchy for it.
    path: Option<PathBuf>,
    value: String,
}

impl Failed<'_> {
    /// Whether it is a device rule that was not allowed.
    fn is_closed_devices(&self) -> bool {
        let closed = self.path.is_none() || matches!(self.errno, Errno::EPERM | Errno::EACCES | Errno::EROFS);
        self.write.controller == "devices" && closed
    }

    fn into_error(self, need: Need) -> Error {
        let (at, controller) = (self.write.at.clone(), self.write.controller);
        let why = match (&self.path, self.errno) {
            (None, _) | (_, Errno::EACCES | Errno::EPERM) if need == Need::WhatIsOpen => format!(
                "the {controller} cgroup controller is closed to this rootless container: delegate a cgroup with it to the \
                 user (systemd: Delegate=yes), or leave the limit out"
            ),
            (None, _) => format!("this host has no {controller} cgroup controller, or the container may not join it"),
            (Some(path), Errno::ENOENT) => missing(path, controller),
            (Some(path), Errno::EBUSY) if path.ends_with("memory.limit_in_bytes") => {
                let usage = number(&path.with_file_name("memory.usage_in_bytes")).unwrap_or(0);
                let peak = number(&path.with_file_name("memory.max_usage_in_bytes")).unwrap_or(0);
                format!("the limit is below what is in use (current usage: {usage}, peak usage: {peak})")
            }
            (Some(_), Errno::EROFS) => "the cgroup file system is mounted read-only".to_owned(),
            (Some(_), errno) => crate::error::text(errno),
        };
        let path = self.path.map_or_else(|| self.write.file.clone(), |path| path.display().to_string());
        Error::Limit { at, value: self.value, path, why, errno: self.errno }
    }
}

/// Why a file is not there. On v2 files come with their controller.
fn missing(path: &Path, controller: &str) -> String {
    let Some(directory) = path.parent().filter(|directory| directory.exists()) else {
        return "the cgroup is gone".to_owned();
    };
    match std::fs::read_to_string(directory.join("cgroup.controllers")) {
        Ok(enabled) if !enabled.split_whitespace().any(|one| one == controller) => {
            let first = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let name = if controller.is_empty() { first.split('.').next().unwrap_or_default() } else { controller };
            format!("the {name} controller is not available in this cgroup (it has: {})", enabled.trim())
        }
        _ => "this kernel has no such file".to_owned(),
    }
}

/// The number in a file, if it is one.
pub(super) fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The new program is attached before the old ones go, so that there is no moment without one.
fn replace_device_program(directory: &Path, rules: &[devices::Rule]) -> Result<()> {
    let what = || format!("install device rules in {}", directory.display());
    let program: Vec<pintle_sys::bpf::Insn> = device_program::assemble(rules)
        .iter()
        .map(|i| pintle_sys::bpf::Insn { code: i.code, regs: i.src << 4 | i.dst, off: i.off, imm: i.imm })
        .collect();
    let cgroup = std::fs::File::open(directory).doing(what)?;
    let old = pintle_sys::bpf::device_programs(&cgroup).doing(what)?;
    let new = pintle_sys::bpf::load_program(pintle_sys::bpf::Hook::Device, &program).doing(what)?;
    pintle_sys::bpf::attach_device_program(&cgroup, &new).doing(what)?;
    old.iter().try_for_each(|program| pintle_sys::bpf::detach_device_program(&cgroup, program)).doing(what)
}

/// Rootless: who may not make device nodes, and opens those of the host with the caller's own rights, needs no rules.
fn without_device_rules() {
    crate::log::warn_once("device rules are not applied: not permitted to a rootless caller");
}
