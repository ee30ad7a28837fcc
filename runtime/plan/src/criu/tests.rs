//! What CRIU is asked for, flag by flag and mount by mount.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};

use super::*;

fn spec(linux: Value, mounts: Value) -> Spec {
    let config = json!({"ociVersion": "1.3.0", "root": {"path": "r"}, "mounts": mounts, "linux": linux});
    crate::parse_spec(&config.to_string()).unwrap().0
}

fn version(major: i32, minor: i32) -> Version {
    Version::from_answer(&pintle_criu::Version { major, minor, git_id: None, sublevel: Some(1) })
}

fn dump_of(spec: &Spec) -> Dump<'_> {
    Dump {
        spec,
        rootfs: Path::new("/b/r"),
        pid: 7,
        freezer: Some(Path::new("/sys/fs/cgroup/c")),
        hierarchies: &[],
        masked_files: &[],
        inodes: [None, None],
        outside: &[],
        directories: (5, None),
        resolve: |_, path| path.to_owned(),
    }
}

fn restore_of(spec: &Spec) -> Restore<'_> {
    Restore {
        spec,
        bundle: Path::new("/b"),
        rootfs: Path::new("/b/r"),
        root: Path::new("/run/c/criu-root"),
        hierarchies: &[],
        cgroups: "0::/c\n",
        descriptors: &[],
        namespaces: [None, None],
        directories: (5, Some(6)),
        lsm_profile: None,
        lsm_mount_context: None,
        resolve: |_, path| path.to_owned(),
    }
}

fn external_mounts(mounts: &[pintle_criu::ExternalMount]) -> Vec<String> {
    mounts.iter().map(|mount| format!("{} {}", mount.key, mount.value)).collect()
}

type Change = fn(&mut Flags, &mut DumpFlags);

#[test]
fn every_flag_of_a_checkpoint_is_an_option() {
    let spec = spec(json!({}), json!([]));
    let plain = dump(&Flags::default(), &DumpFlags::default(), &dump_of(&spec), version(3, 17)).unwrap();
    let options = plain.options.clone().unwrap();
    assert_eq!(plain.kind, i32::from(Kind::Dump));
    assert_eq!((options.pid, options.images_dir_fd, options.work_dir_fd), (Some(7), 5, None));
    assert_eq!(options.freeze_cgroup.as_deref(), Some("/sys/fs/cgroup/c"));
    assert_eq!(options.config_file.as_deref(), Some("/etc/criu/runc.conf"));
    assert_eq!((options.manage_cgroups_mode, options.empty_ns), (Some(6), Some(CLONE_NEWNET)));
    let changes: [(&str, Change); 13] = [
        ("tcp_established", |flags, _| flags.tcp_established = true),
        ("ext_unix_sk", |flags, _| flags.ext_unix_sk = true),
        ("shell_job", |flags, _| flags.shell_job = true),
        ("file_locks", |flags, _| flags.file_locks = true),
        ("auto_dedup", |flags, _| flags.auto_dedup = true),
        ("lazy_pages", |flags, _| flags.lazy_pages = true),
        ("manage_cgroups_mode", |flags, _| flags.cgroups = Some(CgroupMode::Full)),
        ("leave_running", |_, more| more.leave_running = true),
        ("tcp_skip_in_flight", |_, more| more.tcp_skip_in_flight = true),
        ("link_remap", |_, more| more.link_remap = true),
        ("page_server", |_, more| more.page_server = Some(("h".to_owned(), 1))),
        ("parent_img", |_, more| more.parent = Some("../p".to_owned())),
        ("kind", |_, more| more.pre_dump = true),
    ];
    for (field, change) in changes {
        let (mut flags, mut more) = (Flags::default(), DumpFlags::default());
        change(&mut flags, &mut more);
        let changed = dump(&flags, &more, &dump_of(&spec), version(3, 17)).unwrap();
        let line = |request: &Request| {
            let text = format!("{request:?}");
            text.split_once(&format!("{field}: ")).map(|(_, rest)| rest.chars().take(12).collect::<String>())
        };
        assert!(line(&plain).is_some(), "{field}");
        assert_ne!(line(&plain), line(&changed), "{field}");
    }
}

#[test]
fn binds_masks_and_cgroups_are_named_at_the_dump_and_bound_at_the_restore() {
    let spec = spec(
        json!({"maskedPaths": ["/proc/kcore"], "namespaces": [{"type": "mount"}]}),
        json!([
            {"destination": "/proc", "type": "proc"}, {"destination": "/dev", "type": "tmpfs"},
            {"destination": "/data/./x", "source": "data", "options": ["rbind"]},
            {"destination": "/dev/log", "type": "bind", "source": "/dev/log"}, {"destination": "/data/x/sub", "type": "mqueue"},
            {"destination": "/sys/fs/cgroup", "type": "cgroup"}
        ]),
    );
    let hierarchies = [Hierarchy {
        mountpoint: PathBuf::from("/sys/fs/cgroup/pids"),
        controllers: vec!["pids".to_owned()],
        path: "/c".to_owned(),
    }];
    let masked = ["/proc/kcore".to_owned()];
    let what = Dump { hierarchies: &hierarchies, masked_files: &masked, ..dump_of(&spec) };
    let request = dump(&Flags::default(), &DumpFlags::default(), &what, version(3, 17)).unwrap();
    assert_eq!(
        external_mounts(&request.options.unwrap().ext_mnt),
        ["/data/x /data/x", "/dev/log /dev/log", "/sys/fs/cgroup/pids /sys/fs/cgroup/pids", "/proc/kcore /dev/null"]
    );
    let pre = DumpFlags { pre_dump: true, ..DumpFlags::default() };
    let request = dump(&Flags::default(), &pre, &what, version(3, 17)).unwrap();
    assert_eq!(external_mounts(&request.options.unwrap().ext_mnt), Vec::<String>::new(), "memory alone");
    let what = Restore { hierarchies: &hierarchies, ..restore_of(&spec) };
    let request = restore(&Flags::default(), &what, version(3, 17)).unwrap();
    assert_eq!(
        external_mounts(&request.options.unwrap().ext_mnt),
        ["/data/x /b/data", "/dev/log /dev/log", "/sys/fs/cgroup/pids /sys/fs/cgroup/pids/c", "/dev/null /dev/null"]
    );
    let places = mountpoints(&spec, Path::new("/b"), Path::new("/b/r"));
    let places: Vec<_> =
        places.iter().map(|place| (place.beneath.to_str().unwrap(), place.path.to_str().unwrap())).collect();
    assert_eq!(places, [("/b/r", "/proc"), ("/b/r", "/dev"), ("/b/r", "/data/x"), ("/b/data", "/sub")]);
}

#[test]
fn what_criu_would_lose_in_silence_is_refused() {
    let map = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
    let mounts = json!([{"destination": "/d", "source": "/d", "options": ["bind"], "uidMappings": map}]);
    let mapped = spec(json!({}), mounts);
    let refused = dump(&Flags::default(), &DumpFlags::default(), &dump_of(&mapped), version(3, 17)).unwrap_err();
    assert_eq!(refused, Refused::MappedIds { index: 0 });
    let cgroup = spec(json!({"namespaces": [{"type": "cgroup", "path": "/n"}]}), json!([]));
    assert_eq!(restore(&Flags::default(), &restore_of(&cgroup), version(3, 17)), Err(Refused::CgroupByPath));
}

#[test]
fn namespaces_by_path_stay_outside_and_are_there_again() {
    let linux = json!({"namespaces": [
        {"type": "network", "path": "/run/netns/a"}, {"type": "pid", "path": ""}, {"type": "ipc", "path": "/run/ipc"}
    ]});
    let spec = spec(linux, json!([]));
    assert_eq!(external(&spec), [Some(Path::new("/run/netns/a")), None]);
    let what = Dump { inodes: [Some(17), None], ..dump_of(&spec) };
    let options = dump(&Flags::default(), &DumpFlags::default(), &what, version(3, 17)).unwrap().options.unwrap();
    assert_eq!(options.external, ["net[17]:extRootNetNS"]);
    let refused = dump(&Flags::default(), &DumpFlags::default(), &what, version(3, 10)).unwrap_err();
    assert_eq!(refused.to_string(), "a network namespace given by path needs CRIU 3.11 or newer, this is 3.10.1");
    let descriptors = ["/dev/null".to_owned(), "pipe:[5]".to_owned(), "file[1f:6]".to_owned()];
    let what = Restore {
        namespaces: [Some(9), None],
        descriptors: &descriptors,
        cgroups: "3:cpu,cpuacct:/a\n0::/b:c\n",
        ..restore_of(&spec)
    };
    let options = restore(&Flags::default(), &what, version(3, 17)).unwrap().options.unwrap();
    let inherited: Vec<_> = options.inherit_fd.iter().map(|fd| (fd.key.as_str(), fd.fd)).collect();
    assert_eq!(inherited, [("extRootNetNS", 9), ("pipe:[5]", 1), ("file[1f:6]", 2)]);
    let joined: Vec<_> = options.join_ns.iter().map(|ns| (ns.kind.as_str(), ns.path.as_str())).collect();
    assert_eq!(joined, [("ipc", "/run/ipc")]);
    let roots: Vec<_> =
        options.cg_root.iter().map(|root| (root.controller.as_deref().unwrap(), root.path.as_str())).collect();
    assert_eq!(roots, [("cpu", "/a"), ("cpuacct", "/a"), ("", "/b:c")]);
}

#[test]
fn stdio_outside_the_container_is_external_and_remembered_by_criu_s_name_for_it() {
    let outside = [None, Some(OutsideFile { mount: 31, inode: 4096 }), None];
    let spec = Spec::default();
    let what = Dump { outside: &outside, ..dump_of(&spec) };
    let asked = dump(&Flags::default(), &DumpFlags::default(), &what, version(3, 17)).unwrap();
    assert_eq!(asked.options.unwrap().external, ["file[1f:1000]"]);
    let shown = ["/dev/null".to_owned(), "/run/fifo/out".to_owned(), "pipe:[6]".to_owned()];
    assert_eq!(descriptors(&shown, &outside), ["/dev/null", "file[1f:1000]", "pipe:[6]"]);
}

#[test]
fn words_of_flags_are_read_or_refused_in_runcs_words() {
    assert_eq!(cgroup_mode("strict"), Ok(Some(CgroupMode::Strict)));
    assert_eq!(cgroup_mode(""), Ok(None));
    assert_eq!(cgroup_mode("x").unwrap_err().to_string(), "Invalid manage-cgroups-mode value");
    for (text, expected) in [("h:80", Some(("h", 80))), ("[::1]:80", Some(("::1", 80))), ("h", None), (":80", None)] {
        assert_eq!(page_server(text).ok(), expected.map(|(host, port)| (host.to_owned(), port)), "{text}");
    }
    assert_eq!(page_server("h:x").unwrap_err().to_string(), "Invalid port number");
    assert_eq!(empty_ns(["network"].into_iter()), Ok(()));
    assert_eq!(empty_ns(["pid"].into_iter()).unwrap_err().to_string(), "namespace \"pid\" is not supported");
}

#[test]
fn versions_compare_and_print() {
    assert_eq!(version(3, 17).to_string(), "3.17.1");
    let between = pintle_criu::Version { major: 3, minor: 15, git_id: Some("v3.15-7".to_owned()), sublevel: None };
    assert!(Version::from_answer(&between).has(Needs::Lsm) && !version(3, 15).has(Needs::Lsm));
    let refused = version(2, 12).require(Needs::Anything).unwrap_err();
    assert_eq!(refused.to_string(), "checkpoint and restore needs CRIU 3.0 or newer, this is 2.12.1");
}

#[test]
fn the_first_and_the_last_errors_of_a_log_are_told() {
    let log = "(00.1) Error (criu/tun.c:85): tun: Unable to create tun: No such file or directory\n\
        (00.2) ========================================\n(00.2) Dumping processes (pid: 220)\n\
        (00.3) Error (criu/files-reg.c:1710): Can't lookup mount=43 for fd=0 path=/in\n(00.4) Warn  (x): y\n\
        (00.4) Error (criu/cr-dump.c:2053): Dumping FAILED.\n";
    assert_eq!(
        errors(log),
        [
            "Error (criu/files-reg.c:1710): Can't lookup mount=43 for fd=0 path=/in",
            "Error (criu/cr-dump.c:2053): Dumping FAILED."
        ]
    );
    assert_eq!(errors(&log[..90]).len(), 1, "those of the look around, if there are no others");
    let many: String = (0..9).map(|n| format!("(0.1) Error (a.c:{n}): e\n")).collect();
    assert_eq!(errors(&many).iter().map(|line| &line[11..12]).collect::<String>(), "05678");
}
