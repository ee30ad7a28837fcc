//! `pintle down`: everything that `up` made goes, but for the state directory.

use super::up::{Settings, Thing};
use crate::failure::{Code, Failure};
use crate::flags::{Dirs, Node};
use crate::lock::{self, Attempt};
use crate::out;
use crate::process::{self, Identity, Stopped};
use anyhow::{Context as _, Result};
use clap::{Args, Parser as _};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// The monitor stops two children, each of which may take 20 s.
const MONITOR_PATIENCE: Duration = Duration::from_secs(45);
/// For a child whose monitor is gone.
const PART_PATIENCE: Duration = Duration::from_secs(20);

/// Stop the cluster and remove everything it made outside its state directory
///
/// Ends pods, and removes network namespaces, links, routes, nftables tables, cgroups, mounts, runtime files and logs. Works
/// also after a crash, a kill -9 or a reboot, and changes nothing when there is nothing to stop.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    dirs: Dirs,
    #[command(flatten)]
    node: Node,
    /// Clean the machine's own network: what `server` and `agent` made on a real node. Known by itself after `up`
    #[arg(long)]
    host_network: bool,
    /// Remove the state directory too: keys, all objects, images, volumes
    #[arg(long)]
    purge: bool,
}

impl Arguments {
    /// Runs it.
    pub fn run(self) -> Result<Code> {
        let state = &self.dirs.state_dir;
        if !state.exists() && !self.dirs.run_dir.exists() {
            out::note(format!("nothing to stop: there is no {}", state.display()));
            return Ok(Code::Done);
        }
        if !nix::unistd::geteuid().is_root() {
            let failure = Failure::new("pintle down needs root", "sudo pintle down").code(Code::Unfit);
            return Err(failure.into());
        }
        let settings = self.settings()?;
        let lock = undo(&settings)?;
        remove_dir(&super::up::log_dir(&settings.args.dirs.state_dir))?;
        if self.purge {
            remove_dir(&settings.args.dirs.state_dir)?;
        }
        drop(lock);
        out::note("stopped");
        Ok(Code::Done)
    }

    /// The settings of the `up` that is undone; without one, those given to `down`.
    fn settings(&self) -> Result<Settings> {
        let saved = Settings::load(&self.dirs.state_dir).unwrap_or_else(|error| {
            tracing::warn!(%error, "taking the defaults");
            None
        });
        let args = match saved {
            Some(args) => args,
            None => {
                let mut words = vec!["pintle".to_owned(), "up".to_owned()];
                words.extend(self.dirs.to_args());
                words.extend(self.node.to_args());
                words.extend(self.host_network.then(|| "--host-network".to_owned()));
                match crate::cli::Cli::try_parse_from(words)?.command {
                    crate::cli::Command::Up(args) => args,
                    _ => anyhow::bail!("the words of `pintle up` were read as something else"),
                }
            }
        };
        Settings::new(args, crate::flags::own_address)
    }
}

/// Undoes an `up`, but for its logs: after a failed start they say why. The lock is given back held, so that no `up` starts meanwhile.
pub fn undo(settings: &Settings) -> Result<Option<lock::Lock>> {
    let lock = stop_monitor(settings)?;
    // Our monitor is stopped: whoever has one of these now is another cluster, whose pods are not ours to end.
    let things = Thing::directories(settings);
    let _claims = things.iter().map(Thing::take).collect::<Result<Vec<_>>>().context("cannot clean up")?;
    for name in ["agent", "server"] {
        stop_part(settings, name)?;
    }
    remove_made(settings)?;
    remove_cgroup_root(&settings.args.node.cgroup_root)?;
    remove_dir(&settings.args.dirs.run_dir)?;
    remove_if_empty(&settings.args.node.pod_logs_dir)?;
    Ok(lock)
}

/// Ends the monitor and holds its lock, so that no `up` starts meanwhile.
fn stop_monitor(settings: &Settings) -> Result<Option<lock::Lock>> {
    let state = &settings.args.dirs.state_dir;
    if !state.exists() {
        return Ok(None);
    }
    let path = super::up::lock_path(state);
    for _ in 0..3 {
        match lock::try_take(&path)? {
            Attempt::Held(lock) => return Ok(Some(lock)),
            Attempt::Busy(Some(who)) => {
                out::note(format!("stopping the monitor (process {})", who.pid));
                if process::stop(&who, MONITOR_PATIENCE)? == Stopped::Killed {
                    tracing::warn!("the monitor did not end in time and was killed");
                }
            }
            // Taken an instant ago and not signed yet.
            Attempt::Busy(None) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
    let what = format!("{} stays locked by a process that cannot be found", path.display());
    Err(Failure::new(what, format!("`fuser -v {}` names it", path.display())).into())
}

fn stop_part(settings: &Settings, name: &str) -> Result<()> {
    let file = settings.run_file(&format!("{name}.pid"));
    if let Some(identity) = Identity::read(&file)? {
        let stopped = process::stop(&identity, PART_PATIENCE).with_context(|| format!("cannot stop the {name}"))?;
        if stopped != Stopped::WasGone {
            out::note(format!("stopped the {name}, which had lost its monitor"));
        }
    }
    Ok(())
}

fn remove_made(settings: &Settings) -> Result<()> {
    out::note("removing pods and network");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        super::kubelet::cleanup(&settings.args.dirs, &settings.args.node).await?;
        match &settings.link {
            // A namespace takes its table, routes and links with it.
            Some(link) => {
                let claim = Thing::link(settings).map(|thing| thing.try_take()).transpose()?;
                let Some(Some(_ours)) = claim else { return Ok(()) };
                pintle_net::link::remove(link).await.context("cannot remove the node's link and namespace")
            }
            None => super::proxy::cleanup().await,
        }
    })
}

/// Removes the cgroup that holds kubepods, in every hierarchy, if it is ours alone; the root is nobody's to remove.
fn remove_cgroup_root(name: &str) -> Result<()> {
    let name = name.trim_matches('/');
    if name.is_empty() {
        return Ok(());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    for line in mounts.lines().filter(|l| l.contains(" - cgroup")) {
        let Some(hierarchy) = line.split(' ').nth(4) else { continue };
        let path = Path::new(hierarchy).join(name);
        match fs::remove_dir(&path) {
            Ok(()) => {}
            // Somebody else's cgroups are in it.
            Err(e)
                if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ResourceBusy | ErrorKind::DirectoryNotEmpty) => {
            }
            Err(e) => return Err(e).with_context(|| format!("cannot remove the cgroup {}", path.display())),
        }
    }
    Ok(())
}

/// Removes a directory that others may use too, if nothing of theirs is in it.
fn remove_if_empty(path: &Path) -> Result<()> {
    match fs::remove_dir(path) {
        Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy) => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a directory tree; one that is not there is no error. Refuses to cross into a mount: what is mounted there
/// belongs to a pod, and removing a mount's contents is not what was asked.
fn remove_dir(path: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    let below = mounts
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .find(|p| Path::new(p).starts_with(path) && Path::new(p) != path);
    if let Some(mount) = below {
        let failure = Failure::new(format!("{mount} is still mounted"), format!("umount {mount}, then run this again"));
        return Err(anyhow::Error::new(failure).context(format!("cannot remove {}", path.display())));
    }
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        // A file system of its own is emptied; its mount point stays.
        Err(e) if e.kind() == ErrorKind::ResourceBusy => Ok(()),
        Err(e) => Err(e).with_context(|| format!("cannot remove {}", path.display())),
    }
}
