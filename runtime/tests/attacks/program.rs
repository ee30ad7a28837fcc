//! The runtime's own program, which a container must not change: CVE-2019-5736.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::common::{Bundle, require_root, static_binary, texts};

const OWN: &str = env!("CARGO_BIN_EXE_pintle-runc");

/// The build under test, which executes itself from a read-only mount, and the small static one, which moves there in place.
fn programs() -> impl Iterator<Item = PathBuf> {
    [PathBuf::from(OWN)].into_iter().chain(static_binary())
}

#[test]
fn no_process_inside_has_a_writable_way_to_the_runtimes_program() {
    if !require_root("runs containers") {
        return;
    }
    for program in programs() {
        is_beyond_reach(&program);
    }
}

fn is_beyond_reach(own: &Path) {
    let before = std::fs::read(own).unwrap();
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.program = Some(own.to_owned());
    // As much as an attacker can have without the host being lost anyway: he may look into init.
    let caps = json!(["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    bundle.config["process"]["capabilities"] = json!({"bounding": caps, "effective": caps, "permitted": caps});
    assert_eq!(bundle.create(), 0, "{}", bundle.out());
    let write = "echo evil > /proc/1/exe; echo $?";
    let (out, err, _) = texts(&bundle.runc(&["exec", "c", "sh", "-c", write]));
    assert!(out != "0\n" && err.contains("Read-only file system"), "{out}{err}");
    let remount =
        "mount -o remount,rw,bind /proc/1/exe; mount -o remount,rw /proc/1/exe; echo evil > /proc/1/exe; echo $?";
    let (out, err, _) = texts(&bundle.runc(&["exec", "c", "sh", "-c", remount]));
    assert!(out != "0\n", "{out}{err}");
    assert!(std::fs::read(own).unwrap() == before);
}

/// Whatever way it took: nothing that init runs, or has mapped, is the file that others execute.
#[test]
fn init_has_nothing_mapped_of_the_runtimes_program_but_by_a_read_only_mount_without_a_place() {
    if !require_root("runs containers") {
        return;
    }
    for program in programs() {
        let mut bundle = Bundle::new("exec sleep 1000");
        bundle.program = Some(program.clone());
        assert_eq!(bundle.create(), 0, "{}", bundle.out());
        let pid = std::fs::read_to_string(bundle.path().join("pid")).unwrap();
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let name = program.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!maps.contains(&name), "{maps}");
        let exe = format!("/proc/{pid}/exe");
        assert_eq!(std::fs::read_link(&exe).unwrap(), Path::new("/"));
        let flags = nix::sys::statvfs::statvfs(exe.as_str()).unwrap().flags();
        assert!(flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY), "{flags:?}");
    }
}

#[test]
fn the_runtime_as_entrypoint_or_interpreter_cannot_be_kept_open_and_written_later() {
    if !require_root("runs containers") {
        return;
    }
    for program in programs() {
        cannot_be_kept_open(&program);
    }
}

fn cannot_be_kept_open(own: &Path) {
    let before = std::fs::read(own).unwrap();
    let mut bundle = Bundle::new("");
    bundle.program = Some(own.to_owned());
    // The classic: the loader of /proc/self/exe is the image's own, which here is a shell that keeps the file open.
    let interpreter = bundle.rootfs().join("keep");
    std::fs::write(&interpreter, "#!/proc/self/exe\n").unwrap();
    std::fs::set_permissions(&interpreter, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for args in [json!(["/proc/self/exe", "--version"]), json!(["/keep"]), json!(["/proc/1/exe"])] {
        bundle.config["process"]["args"] = args;
        bundle.run();
        assert!(std::fs::read(own).unwrap() == before);
    }
}

/// Where the program lies on a read-only mount, a container could keep it open until an upgrade mounts that writable:
/// the program that meets containers must be another than that one.
#[test]
fn a_program_on_a_read_only_mount_is_not_taken_for_a_protected_one() {
    if !require_root("mounts") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(OWN, dir.path().join("runtime")).unwrap();
    let bundle = Bundle::new("exec sleep 1000");
    bundle.write();
    let readonly = r#"
        set -e
        mount --make-rprivate /
        mount --bind "$1" "$1"
        mount -o remount,bind,ro "$1"
        "$1/runtime" --root "$2/state" create --bundle "$2" --pid-file "$2/pid" c > "$2/out" 2>&1
        readlink "/proc/$(cat "$2/pid")/exe"
    "#;
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", readonly, "sh"])
        .args([dir.path(), bundle.path()])
        .output()
        .unwrap();
    let (out, err, code) = texts(&output);
    assert_eq!(code, 0, "{out}{err}{}", bundle.out());
    let shown = PathBuf::from(out.trim());
    assert_ne!(shown, dir.path().join("runtime"), "init runs the very file on that mount");
    assert!(!Path::new(&shown).starts_with(dir.path()), "{}", shown.display());
}
