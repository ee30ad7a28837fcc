//! The runtime's own program, which a container must not change: CVE-2019-5736.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::common::{Bundle, require_root, texts};

const OWN: &str = env!("CARGO_BIN_EXE_pintle-runc");

#[test]
fn no_process_inside_has_a_writable_way_to_the_runtimes_program() {
    if !require_root("runs containers") {
        return;
    }
    let before = std::fs::read(OWN).unwrap();
    let mut bundle = Bundle::new("exec sleep 1000");
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
    assert!(std::fs::read(OWN).unwrap() == before);
}

#[test]
fn the_runtime_as_entrypoint_or_interpreter_cannot_be_kept_open_and_written_later() {
    if !require_root("runs containers") {
        return;
    }
    let before = std::fs::read(OWN).unwrap();
    let mut bundle = Bundle::new("");
    // The classic: the loader of /proc/self/exe is the image's own, which here is a shell that keeps the file open.
    let interpreter = bundle.rootfs().join("keep");
    std::fs::write(&interpreter, "#!/proc/self/exe\n").unwrap();
    std::fs::set_permissions(&interpreter, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for args in [json!(["/proc/self/exe", "--version"]), json!(["/keep"]), json!(["/proc/1/exe"])] {
        bundle.config["process"]["args"] = args;
        bundle.run();
        assert!(std::fs::read(OWN).unwrap() == before);
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
