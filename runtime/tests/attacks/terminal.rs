//! The terminal's device nodes, which lie in the container's file system: CVE-2025-52565.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::os::unix::net::UnixListener;

use serde_json::json;

use crate::common::{Bundle, require_root};

/// Creates with a terminal; gives what arrived at the console socket, the exit code and what was said.
fn create(bundle: &Bundle) -> (Vec<OwnedFd>, i32, String) {
    bundle.write();
    let path = bundle.path().join("console");
    let _only_from_the_second_time_on = std::fs::remove_file(&path);
    let socket = UnixListener::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let out = std::fs::File::create(bundle.path().join("out")).unwrap();
    let mut command = bundle.command(&[
        "create",
        "--bundle",
        &bundle.path().to_string_lossy(),
        "--console-socket",
        &path.to_string_lossy(),
        "c",
    ]);
    let status = command.stdout(out.try_clone().unwrap()).stderr(out).status().unwrap();
    let mut fds = Vec::new();
    if let Ok((client, _)) = socket.accept() {
        client.set_nonblocking(false).unwrap();
        pintle_sys::scm::receive(&client, &mut [0; 64], &mut fds).unwrap();
    }
    (fds, status.code().unwrap(), bundle.out())
}

fn with_terminal() -> Bundle {
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.config["process"]["terminal"] = json!(true);
    bundle
}

#[test]
fn a_terminal_comes_from_the_containers_own_devpts() {
    if !require_root("makes a terminal") {
        return;
    }
    let bundle = with_terminal();
    let (fds, code, said) = create(&bundle);
    assert_eq!((fds.len(), code), (1, 0), "{said}");
    assert_eq!(pintle_sys::tty::number(&fds[0]).unwrap(), 0, "the first of a new instance");
}

/// What stands for /dev/pts/ptmx is opened by the runtime with its own rights and handed to whoever attaches.
#[test]
fn what_is_no_ptmx_is_not_opened_as_one() {
    if !require_root("makes a terminal") {
        return;
    }
    let device = |path: &std::path::Path, major, minor| {
        let (kind, mode) = (nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::all());
        nix::sys::stat::mknod(path, kind, mode, nix::sys::stat::makedev(major, minor)).unwrap();
    };
    let victim = tempfile::NamedTempFile::new().unwrap();
    for what in ["file", "fifo", "link", "null", "ptmx of nowhere", "nothing"] {
        let mut bundle = with_terminal();
        let dev = bundle.path().join("dev");
        std::fs::create_dir_all(dev.join("pts")).unwrap();
        device(&dev.join("null"), 1, 3);
        let ptmx = dev.join("pts/ptmx");
        match what {
            "file" => std::fs::write(&ptmx, "").unwrap(),
            "fifo" => nix::unistd::mkfifo(&ptmx, nix::sys::stat::Mode::all()).unwrap(),
            "link" => symlink(victim.path(), &ptmx).unwrap(),
            "null" => device(&ptmx, 1, 3),
            "ptmx of nowhere" => device(&ptmx, 5, 2),
            _ => {}
        }
        bundle.config["mounts"][1] =
            json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["rbind", "rw"]});
        bundle.config["mounts"].as_array_mut().unwrap().remove(2);
        let (fds, code, said) = create(&bundle);
        assert!(fds.is_empty() && code == 1 && said.contains("console"), "{what}: {said}");
    }
}

/// /dev/console as a link would put the terminal, or anything swapped for it, over a file that is masked or read-only.
#[test]
fn the_console_lands_inside_wherever_its_name_points() {
    if !require_root("makes a terminal") {
        return;
    }
    let victim = tempfile::NamedTempFile::new().unwrap();
    for to in [victim.path().to_string_lossy().into_owned(), "/proc/sysrq-trigger".to_owned(), "pts/0".to_owned()] {
        let mut bundle = with_terminal();
        let dev = bundle.path().join("dev");
        std::fs::create_dir(&dev).unwrap();
        let kind = nix::sys::stat::SFlag::S_IFCHR;
        nix::sys::stat::mknod(&dev.join("null"), kind, nix::sys::stat::Mode::all(), nix::sys::stat::makedev(1, 3))
            .unwrap();
        std::fs::create_dir(dev.join("pts")).unwrap();
        symlink(&to, dev.join("console")).unwrap();
        bundle.config["mounts"][1] =
            json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["rbind", "rw"]});
        let (_, code, said) = create(&bundle);
        assert!(code == 1 && said.contains("console"), "{to}: a console that is a link is refused: {said}");
        assert!(std::fs::metadata(victim.path()).unwrap().file_type().is_file());
        assert!(!std::fs::metadata(victim.path()).unwrap().file_type().is_char_device());
    }
}
