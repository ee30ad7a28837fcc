//! Steps on mounts, and which step goes to whom.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::mount::{MntFlags, MsFlags};
use pintle_runtime_plan::step::{NewMount, Slot, Step};
use pintle_sys::mount::{self, MountAttr, Reach};
use pintle_sys::{Errno, Result, open};

use super::Walker;

/// The longest value fsconfig(2) takes.
const FSCONFIG_MOST: usize = 255;

/// What may be covered beneath /proc.
const IN_PROC: [&[u8]; 10] = [
    b"cpuinfo",
    b"diskstats",
    b"meminfo",
    b"stat",
    b"swaps",
    b"uptime",
    b"loadavg",
    b"slabinfo",
    b"sys/kernel/ns_last_pid",
    b"sys/crypto/fips_enabled",
];

impl Walker<'_> {
    /// `None` if the step is of another kind.
    pub(super) fn mount_step(&mut self, step: &Step) -> Option<Result<()>> {
        Some(match step {
            Step::CloneTree { path, recursive, into } => {
                mount::clone_tree(nix::fcntl::AT_FDCWD, path, reach(*recursive)).map(|tree| self.slots.put(*into, tree))
            }
            Step::SetAttr { mount, attr, recursive } => self.set_attr(*mount, *attr, *recursive),
            Step::IdMap { mount, userns, recursive, .. } => self.id_map(*mount, *userns, *recursive),
            Step::MakeUserNs { uids, gids, into } => {
                crate::idmap::user_namespace(self.proof, uids, gids).map(|ns| self.slots.put(*into, ns))
            }
            Step::Propagate { flags } => change_propagation(c"/", *flags),
            Step::AttachRoot => self.attach_root(),
            Step::NewMount(new) => self.new_mount(new),
            Step::OpenTarget { target, make, into } => self.open_target(target, *make, *into),
            Step::OpenRealDir { target, into } => self.open_real_dir(target, *into),
            Step::OpenInOwn { own, target, into } => self.open_in_own(*own, target, *into),
            Step::CheckOwn { own, path } => self.check_own(*own, path),
            Step::Attach { mount, on, .. } => self.attach(*mount, *on),
            Step::CheckProcTarget { mount, on, path } => self.check_proc_target(*mount, *on, path),
            Step::CopyUp { from, to } => self.copy_up(*from, *to),
            Step::MakeNode(node) => self.make_node(node),
            Step::RequireDevice { tree, kind, number, .. } => self.require_device(*tree, *kind, *number),
            Step::Symlink { target, points_to, own } => self.symlink(target, points_to, *own),
            Step::Pivot => self.pivot(),
            Step::MoveRoot => self.move_root(),
            Step::Chroot => self.chroot(),
            Step::ReadonlyPath(path) => self.readonly_path(path),
            Step::MaskPath(path) => self.mask_path(path),
            _ => return None,
        })
    }

    fn id_map(&self, slot: Slot, userns: Slot, recursive: bool) -> Result<()> {
        let userns_fd = self.slots.get(userns)?.as_raw_fd() as u64;
        let raw = MountAttr { set: mount::ATTR_IDMAP, userns_fd, ..MountAttr::default() };
        mount::set_attr(self.slots.get(slot)?, &raw, reach(recursive))
    }

    /// The root's tree covers `/` until the pivot: any place of our own would do, and this one always exists and can
    /// always be reached, whoever we are.
    fn attach_root(&mut self) -> Result<()> {
        let slash = open::at(nix::fcntl::AT_FDCWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
        mount::attach(self.slots.get(Slot::ROOT)?, &slash)?;
        self.slots.put(Slot::OLD_ROOT, slash);
        self.attached(Slot::ROOT)
    }

    fn new_mount(&mut self, new: &NewMount) -> Result<()> {
        if new.options.iter().any(|(_, value)| value.as_ref().is_some_and(|v| v.as_bytes().len() > FSCONFIG_MOST)) {
            return self.mount_at_once(new);
        }
        let fs = mount::fsopen(&new.fstype)?;
        for (key, value) in &new.options {
            mount::fsconfig_set(&fs, key, value.as_deref())?;
        }
        if let Some(covered) = new.inherit_mode_of {
            let mode = nix::sys::stat::fstat(self.slots.get(covered)?)?.st_mode & 0o7777;
            let text = std::ffi::CString::new(format!("{mode:o}")).map_err(|_nul| Errno::EINVAL)?;
            mount::fsconfig_set(&fs, c"mode", Some(&text))?;
        }
        mount::fsconfig_create(&fs)?;
        self.slots.put(new.into, mount::fsmount(&fs, new.attrs)?);
        Ok(())
    }

    /// fsconfig(2) takes values of 255 bytes, mount(2) a page of them, and mounts there and then. What is found at the
    /// target afterwards must be another file system than what was there.
    fn mount_at_once(&mut self, new: &NewMount) -> Result<()> {
        let covered = self.slots.get(new.on)?;
        let text = |(key, value): &(CString, Option<CString>)| match value {
            Some(value) => [key.as_bytes(), b"=", value.as_bytes()].concat(),
            None => key.as_bytes().to_vec(),
        };
        let source = new.options.iter().find(|(key, _)| key.as_c_str() == c"source").and_then(|(_, v)| v.as_deref());
        let data: Vec<Vec<u8>> = new.options.iter().filter(|(key, _)| key.as_c_str() != c"source").map(text).collect();
        let flags = super::attributes::to_mount_flags(new.attrs);
        self.at_descriptor(covered.as_raw_fd(), |path| {
            nix::mount::mount(source, path, Some(new.fstype.as_c_str()), flags, Some(data.join(&b","[..]).as_slice()))
        })?;
        let mounted = open::in_root(self.slots.get(Slot::ROOT)?, &new.path, libc::O_PATH)?;
        if nix::sys::stat::fstat(&mounted)?.st_dev == nix::sys::stat::fstat(covered)?.st_dev {
            return Err(Errno::EXDEV);
        }
        self.slots.put(new.into, mounted);
        self.attached(new.into)
    }

    fn attach(&mut self, tree: Slot, on: Slot) -> Result<()> {
        if self.slots.is_attached(tree) {
            return Ok(());
        }
        mount::attach(self.slots.get(tree)?, self.slots.get(on)?)?;
        self.attached(tree)
    }

    /// Mounts below /proc could show a process other contents than the kernel's, and ours too when it looks there:
    /// /proc itself takes only a procfs, and beneath it only files that lxcfs and the like provide (runc's list).
    fn check_proc_target(&self, tree: Slot, on: Slot, path: &CStr) -> Result<()> {
        let found;
        let place = if self.slots.is_exact(on) {
            path.to_bytes()
        } else {
            let link = super::FdPath::new(self.slots.get(on)?.as_raw_fd());
            found = nix::fcntl::readlinkat(self.slots.get(Slot::PROC)?, link.as_cstr())?;
            found.as_encoded_bytes()
        };
        if place == b"/proc" {
            return if is_procfs(self.slots.get(tree)?)? { Ok(()) } else { Err(Errno::EPERM) };
        }
        match place.strip_prefix(b"/proc/") {
            Some(below) if !IN_PROC.contains(&below) => Err(Errno::EPERM),
            _ => Ok(()),
        }
    }

    fn copy_up(&self, from: Slot, to: Slot) -> Result<()> {
        let from = open::at(self.slots.get(from)?, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
        let to = open::at(self.slots.get(to)?, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
        crate::copy::tree(from, &to)
    }

    fn pivot(&mut self) -> Result<()> {
        nix::unistd::fchdir(self.slots.get(Slot::ROOT)?)?;
        nix::unistd::pivot_root(c".", c".")?;
        nix::unistd::fchdir(self.slots.get(Slot::OLD_ROOT)?)?;
        // What we unmount here must not vanish on the host.
        change_propagation(c".", (MsFlags::MS_SLAVE | MsFlags::MS_REC).bits())?;
        nix::mount::umount2(c".", MntFlags::MNT_DETACH)?;
        self.slots.close(Slot::OLD_ROOT);
        nix::unistd::chdir(c"/")
    }

    fn move_root(&mut self) -> Result<()> {
        // The root's tree already lies over `/`; entering it is all there is to do without pivot_root.
        self.chroot()?;
        self.slots.close(Slot::OLD_ROOT);
        Ok(())
    }

    fn chroot(&self) -> Result<()> {
        nix::unistd::fchdir(self.slots.get(Slot::ROOT)?)?;
        nix::unistd::chroot(c".")?;
        nix::unistd::chdir(c"/")
    }
}

/// The host's /proc may hide or forbid to write what we must write (a container in a container): a fresh one does not.
/// Where none can be made (no CAP_SYS_ADMIN, or a user namespace whose /proc hides something) the host's has to do.
pub(super) fn open_proc(own: bool) -> Result<OwnedFd> {
    let fresh = || {
        let fs = mount::fsopen(c"proc")?;
        mount::fsconfig_create(&fs)?;
        mount::fsmount(&fs, 0)
    };
    match own.then(fresh) {
        Some(Ok(made)) => Ok(made),
        Some(Err(_)) | None => open::at(nix::fcntl::AT_FDCWD, c"/proc", libc::O_PATH | libc::O_DIRECTORY, 0),
    }
}

pub(super) fn is_procfs(fd: impl AsFd) -> Result<bool> {
    Ok(nix::sys::statfs::fstatfs(fd)?.filesystem_type() == nix::sys::statfs::PROC_SUPER_MAGIC)
}

pub(super) fn is_dir(fd: impl AsFd) -> Result<bool> {
    Ok(nix::sys::stat::fstat(fd)?.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

pub(super) fn reach(recursive: bool) -> Reach {
    if recursive { Reach::Recursive } else { Reach::One }
}

fn change_propagation(path: &CStr, flags: impl TryInto<u64>) -> Result<()> {
    let flags = flags.try_into().map_err(|_too_big| Errno::EINVAL)?;
    nix::mount::mount(None::<&CStr>, path, None::<&CStr>, MsFlags::from_bits_retain(flags), None::<&CStr>)
}
