//! What of CRIU's log explains a failure.

/// So many of its errors are told: the first names the cause, the last what came of it.
const TOLD_MOST: usize = 5;

/// Messages of lines such as `(00.012) Error (criu/cr-dump.c:1635): Dump files (pid: 220) failed with -1`. Errors before the
/// work began are of CRIU's look at the kernel and say only which features it has not.
pub fn errors(log: &str) -> Vec<String> {
    let is_error = |line: &&str| line.contains("Error (");
    let working = log.find("========").or_else(|| log.find("Dumping processes")).unwrap_or(0);
    let mut found: Vec<&str> = log[working..].lines().filter(is_error).collect();
    if found.is_empty() {
        found = log.lines().filter(is_error).collect();
    }
    if found.len() > TOLD_MOST {
        found.drain(1..=found.len() - TOLD_MOST);
    }
    found.into_iter().map(|line| line.split_once(") ").map_or(line, |(_, rest)| rest).trim().to_owned()).collect()
}
