//! Pods as kubectl sees them from the kubelet's side: logs, exec, failures.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use pintle_testkit::BUSYBOX_IMAGE;

use super::driver::{Kubectl, has};

fn pod(name: &str, more: &str, script: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{run: {name}}}}}\nspec:\n  terminationGracePeriodSeconds: 1\n{more}  containers:\n  - name: main\n    image: {BUSYBOX_IMAGE}\n    command: [sh, -c, {script:?}]\n"
    )
}

pub fn logs(k: &Kubectl<'_>) {
    let two = format!(
        "{}  - name: side\n    image: {BUSYBOX_IMAGE}\n    command: [sh, -c, 'echo from side; sleep 1000']\n",
        pod("talker", "", "for i in 1 2 3 4 5; do echo line $i; done; echo oops >&2; sleep 1000")
    );
    k.apply(&two);
    k.ok(&["wait", "pod/talker", "--for=condition=Ready", "--timeout=60s"]);
    k.until(&["logs", "talker", "-c", "main"], |text| text.contains("oops"));
    assert_eq!(k.ok(&["logs", "talker", "-c", "main"]), "line 1\nline 2\nline 3\nline 4\nline 5\noops\n");
    assert_eq!(k.ok(&["logs", "talker", "-c", "main", "--tail=2"]), "line 5\noops\n");
    assert_eq!(k.ok(&["logs", "talker", "-c", "side"]), "from side\n");
    has(&k.ok(&["logs", "talker", "-c", "main", "--since=1h"]), &["line 1"]);
    let stamped = k.ok(&["logs", "talker", "-c", "main", "--timestamps", "--tail=1"]);
    assert!(stamped.starts_with("20") && stamped.contains("Z oops"), "{stamped}");
    has(&k.ok(&["logs", "-l", "run=talker", "-c", "side"]), &["from side"]);
    has(&k.ok(&["logs", "talker", "--all-containers", "--prefix"]), &["[pod/talker/side] from side"]);
    has(&k.fails(1, &["logs", "talker", "-c", "nobody"], ""), &["container nobody is not valid for pod talker"]);
    k.ok(&["delete", "pod", "talker", "--now"]);

    k.apply(&pod("ticker", "", "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.2; done"));
    k.ok(&["wait", "pod/ticker", "--for=condition=Ready", "--timeout=60s"]);
    let mut follower = k.spawn(&["logs", "-f", "ticker"]);
    let lines: Vec<String> =
        BufReader::new(follower.stdout.take().unwrap()).lines().take(8).map(Result::unwrap).collect();
    assert_eq!(lines[0], "tick 1");
    assert_eq!(lines[7], "tick 8", "a follower sees lines written after it came");
    follower.kill().unwrap();
    follower.wait().unwrap();
    k.ok(&["delete", "pod", "ticker", "--now"]);
}

pub fn exec(k: &Kubectl<'_>) {
    k.apply(&pod("shell", "", "sleep 1000"));
    k.ok(&["wait", "pod/shell", "--for=condition=Ready", "--timeout=60s"]);
    assert_eq!(k.ok(&["exec", "shell", "--", "echo", "hello"]), "hello\n");
    assert_eq!(k.ok(&["exec", "shell", "--", "hostname"]), "shell\n");
    assert_eq!(k.ok_with(&["exec", "-i", "shell", "--", "cat"], "through stdin\n"), "through stdin\n");
    has(&k.fails(7, &["exec", "shell", "--", "sh", "-c", "exit 7"], ""), &["command terminated with exit code 7"]);
    let (out, err) = k.succeeds(&["exec", "shell", "--", "sh", "-c", "echo out; echo err >&2"], "");
    assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
    let missing = k.fails(1, &["exec", "shell", "--", "/no/such/program"], "");
    has(&missing, &["/no/such/program"]);
    terminal(k);
    let big = k.ok(&["exec", "shell", "--", "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"]);
    assert_eq!(big.len(), 3_000_000, "nothing of a long output is lost");
    unhurried(k);
    has(
        &k.ok(&["exec", "shell", "--", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/namespace"]),
        &["default"],
    );
    k.ok(&["delete", "pod", "shell", "--now"]);
}

/// A client that takes its time: every buffer on the way is full when the process ends.
fn unhurried(k: &Kubectl<'_>) {
    const LEN: usize = 30_000_000;
    let mut child = k.spawn(&["exec", "shell", "--", "sh", "-c", &format!("head -c {LEN} /dev/zero; exit 9")]);
    let mut stdout = child.stdout.take().unwrap();
    let (mut chunk, mut taken) = (vec![0; 64 << 10], 0);
    loop {
        match stdout.read(&mut chunk).unwrap() {
            0 => break,
            n => taken += n,
        }
        // Not a wait for anything: this is what slow means.
        std::thread::sleep(std::time::Duration::from_millis(15));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((taken, output.status.code()), (LEN, Some(9)), "{said}");
}

/// `exec -it` under a terminal made by script(1) of util-linux, as a person would have it.
fn terminal(k: &Kubectl<'_>) {
    let kubectl = k.command(&["exec", "-it", "shell", "--", "sh"]);
    let words = std::iter::once(kubectl.get_program()).chain(kubectl.get_args());
    let line: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &line.join(" "), "/dev/null"]);
    command.envs(kubectl.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"tty; echo sum $((40+2)); exit 3\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    has(&text, &["/dev/pts/", "sum 42"]);
    assert_eq!(output.status.code(), Some(3), "{text}");
}

pub fn failing(k: &Kubectl<'_>) {
    k.apply(&pod("failing", "", "echo attempt; exit 3"));
    k.until(&["get", "pod", "failing", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"], |n| {
        n.parse::<u32>().is_ok_and(|n| n >= 1)
    });
    k.until(&["get", "pod", "failing"], |table| table.contains("CrashLoopBackOff"));
    assert_eq!(k.field("pod/failing", "{.status.containerStatuses[0].lastState.terminated.exitCode}"), "3");
    assert_eq!(k.ok(&["logs", "failing", "--previous"]), "attempt\n");
    has(&k.ok(&["describe", "pod", "failing"]), &["Back-off restarting failed container", "Exit Code:    3"]);
    k.ok(&["delete", "pod", "failing", "--now"]);

    k.apply(&pod("absent", "", "true").replace(BUSYBOX_IMAGE, "example.invalid/absent:1"));
    k.until(&["get", "pod", "absent"], |table| table.contains("ErrImagePull") || table.contains("ImagePullBackOff"));
    has(&k.ok(&["describe", "pod", "absent"]), &["example.invalid/absent:1", "pintle image import"]);
    k.ok(&["delete", "pod", "absent", "--now"]);

    k.apply(&pod("once", "  restartPolicy: Never\n", "echo done"));
    k.until(&["get", "pod", "once", "--no-headers"], |table| table.contains("Completed"));
    assert_eq!(k.field("pod/once", "{.status.phase}"), "Succeeded");
    k.ok(&["delete", "pod", "once", "--now"]);
}
