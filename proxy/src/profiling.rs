//! `/debug/pprof`, where kube-proxy offers the profiles of Go's runtime. This process has no such runtime: what of it
//! means something here is answered, the rest says by what other tool the same is found out.

use http::StatusCode;

use crate::http_server::{Answer, text};

const ROOT: &str = "/debug/pprof";
/// Go's profiles.
const PROFILES: [&str; 9] =
    ["allocs", "block", "goroutine", "heap", "mutex", "profile", "symbol", "threadcreate", "trace"];

/// Whether profiling is offered (`enableProfiling`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profiling {
    /// The path is answered.
    Offered,
    /// It is not there.
    Absent,
}

/// The answer to a path below `/debug/pprof`; `None` for any other path.
pub fn respond(path: &str) -> Option<Answer> {
    let rest = path.strip_prefix(ROOT).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
    let pid = std::process::id();
    Some(match rest.trim_start_matches('/') {
        "" => text(
            StatusCode::OK,
            format!(
                "{ROOT}\n\ncmdline: the command line\n\nThis process is not a Go program and has no {}.\n\
                 Where it spends its time: perf record -g -p {pid}; its memory: /proc/{pid}/smaps.\n",
                PROFILES.join(", ")
            ),
        ),
        "cmdline" => text(StatusCode::OK, std::env::args().collect::<Vec<_>>().join("\0")),
        name if PROFILES.contains(&name) => text(
            StatusCode::NOT_IMPLEMENTED,
            format!(
                "profile {name} is of Go's runtime, which this process does not have; try: perf record -g -p {pid}\n"
            ),
        ),
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_of_go_are_refused_by_name_and_what_there_is_is_answered() {
        let status = |path: &str| respond(path).map(|answer| answer.status().as_u16());
        assert_eq!(status("/debug/pprof"), Some(200));
        assert_eq!(status("/debug/pprof/"), Some(200));
        assert_eq!(status("/debug/pprof/cmdline"), Some(200));
        assert_eq!(status("/debug/pprof/heap"), Some(501));
        assert_eq!(status("/debug/pprof/nonsense"), Some(404));
        assert_eq!(status("/debug/pprofs"), None);
        assert_eq!(status("/metrics"), None);
    }
}
