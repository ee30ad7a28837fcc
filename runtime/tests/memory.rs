//! What waits in memory for every container: its pod's supervisor, and init between create and start. Measured on
//! the small static binary, which is what runs on nodes; memory is not time, so these figures are the same anywhere.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::pod::Pod;
use common::{require_root, static_binary};
use pintle_shim::{Call, Reply};

/// Resident and proportional kibibytes of a process.
fn memory_kib(pid: i32) -> (u64, u64) {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let of = |name: &str| {
        let line = rollup.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (of("Rss:"), of("Pss:"))
}

/// Its memory once it has come to rest: it gives back what it used half a second after the last event.
fn at_rest_kib(who: &str, pid: i32, limit_kib: u64) -> u64 {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let (resident, proportional) = memory_kib(pid);
        if resident < limit_kib {
            println!("{who}: {resident} KiB resident, {proportional} KiB proportional");
            return resident;
        }
        assert!(std::time::Instant::now() < deadline, "{who} stays at {resident} KiB, over {limit_kib}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_waiting_supervisor_and_a_waiting_init_take_less_than_a_mebibyte_each() {
    if !require_root("supervises a pod") {
        return;
    }
    let Some(program) = static_binary() else { return };
    let mut pod = Pod::new("exec sleep 1000");
    pod.bundle.program = Some(program);
    let mut client = pod.up();
    client.call(Call::Subscribe);
    let Reply::Hello { pid, .. } = client.call(Call::Hello) else { panic!("hello") };
    let Reply::Created { pid: init } = client.call(pod.create()) else { panic!("created") };
    at_rest_kib("init between create and start", init, 1000);
    client.done(Call::Start { container: "c".to_owned() });
    at_rest_kib("the supervisor of one container", pid, 1024);
    for _ in 0..20 {
        assert_eq!(client.exec("exit 3", Some(10_000)).1.code, 3);
    }
    at_rest_kib("the supervisor after twenty execs", pid, 1024);
    pod.down(&mut client);
}
