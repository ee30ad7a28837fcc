//! What the iptables backend asks of this machine, and the real one: the tools of the package iptables. Tests have
//! another, in memory. Owns finding the tools, running them, and reading what they complain of; decides nothing.
//!
//! They are the only programs this proxy ever calls: the kernel's own interface to xtables is the layout of its memory,
//! which the tools know and nobody else should.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pintle_net::nfnetlink::NftError;
use pintle_net::nfnetlink::conntrack::Conntrack;
use pintle_nft::{Family, Flow};
use pintle_proxy_plan::iptables::{Script, Table};

use crate::backend::Fault;

/// How long a tool waits for the lock that all of them take.
const LOCK_WAIT_S: u32 = 5;
/// Where the tools are when `PATH` does not say.
const SBIN: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];
/// RESOURCE_PROBLEM of the tools: the lock, or memory.
const STATUS_RESOURCE: i32 = 4;

/// Why a tool did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum XtablesError {
    /// There is none.
    #[error("there is no {program} on this machine")]
    Missing {
        /// The last that was looked for.
        program: String,
    },
    /// It could not be run.
    #[error("cannot run {program}")]
    Run {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It gave up.
    #[error("{program} failed{}", line.map_or_else(String::new, |n| format!(" at line {n}")))]
    Refused {
        /// Which.
        program: String,
        /// The line it named, from 1. A line `COMMIT` is the kernel's refusal of the whole table.
        line: Option<usize>,
        /// Whether the same may go well a moment later.
        is_transient: bool,
        /// What it said.
        source: Complaint,
    },
    /// More Services were refused than can be at fault.
    #[error("the rules of {services} Services were refused, one after the other")]
    Hopeless {
        /// How many.
        services: usize,
    },
    /// Connection tracking could not be asked.
    #[error(transparent)]
    Flows(#[from] NftError),
}

/// What a tool said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Complaint(pub String);

impl Fault for XtablesError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Run { .. } | Self::Hopeless { .. } => false,
            Self::Refused { is_transient, .. } => *is_transient,
            Self::Flows(error) => error.is_transient(),
        }
    }

    fn is_denied(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Hopeless { .. } => false,
            Self::Run { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Self::Refused { source, .. } => is_denial(&source.0),
            Self::Flows(error) => error.is_denied(),
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } => Some("install the package iptables"),
            Self::Refused { source, .. } if is_denial(&source.0) => Some("this needs CAP_NET_ADMIN and CAP_NET_RAW"),
            Self::Refused { is_transient: true, .. } => Some("another program holds /run/xtables.lock"),
            Self::Refused { .. } => Some("a kernel module may be missing: iptable_nat, xt_comment, xt_statistic, …"),
            Self::Run { .. } | Self::Hopeless { .. } => None,
            Self::Flows(error) => error.hint(),
        }
    }
}

fn is_denial(said: &str) -> bool {
    said.contains("Permission denied") || said.contains("Operation not permitted")
}

/// See the module's description. All of it happens in the network namespace of the calling thread.
pub trait Xtables: Send {
    /// Carries out a script: each of its tables whole or not at all.
    fn restore(&mut self, family: Family, script: &Script) -> Result<(), XtablesError>;

    /// A table as `iptables-save` prints it.
    fn save(&mut self, family: Family, table: Table) -> Result<String, XtablesError>;

    /// Whether a table has, for each of these texts, a line that begins so, as `iptables-save` prints it. Reads no further
    /// than it must.
    fn has(&mut self, family: Family, table: Table, lines: &[String]) -> Result<bool, XtablesError>;

    /// The flows of a family that are wanted.
    fn flows(&mut self, family: Family, wanted: &dyn Fn(&Flow) -> bool) -> Result<Vec<Flow>, XtablesError>;

    /// Lets the next packet of a flow be translated anew.
    fn forget(&mut self, flow: &Flow) -> Result<(), XtablesError>;
}

/// Which of the kernel's packet filters the tools speak to: they come in two kinds, and under one name for either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The one that was there before nf_tables.
    Legacy,
    /// nf_tables, dressed up as the other.
    Nft,
    /// Whichever the machine prefers; on machines with old tools, which come in one kind, the first.
    Unnamed,
}

impl Variant {
    /// The order in which they are tried.
    pub const ALL: [Self; 3] = [Self::Legacy, Self::Nft, Self::Unnamed];

    fn program(self, family: Family, what: &str) -> String {
        let name = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        match self {
            Self::Legacy => format!("{name}-legacy{what}"),
            Self::Nft => format!("{name}-nft{what}"),
            Self::Unnamed => format!("{name}{what}"),
        }
    }
}

/// The tools of one kind.
pub struct Tools {
    variant: Variant,
    conntrack: Option<Conntrack>,
}

impl Tools {
    /// Those of a kind, if they are there.
    ///
    /// # Errors
    /// When they are not.
    pub fn find(variant: Variant) -> Result<Self, XtablesError> {
        look_for(&variant.program(Family::V4, "-restore"))?;
        Ok(Self { variant, conntrack: None })
    }

    /// Which kind.
    #[must_use]
    pub fn variant(&self) -> Variant {
        self.variant
    }

    fn run(
        &self,
        family: Family,
        what: &str,
        arguments: &[&str],
        input: &str,
    ) -> Result<(String, Output), XtablesError> {
        let program = self.variant.program(family, what);
        let path = look_for(&program)?;
        let output =
            run(&path, arguments, input).map_err(|source| XtablesError::Run { program: program.clone(), source })?;
        Ok((program, output))
    }

    fn conntrack(&mut self) -> Result<&mut Conntrack, XtablesError> {
        match &mut self.conntrack {
            Some(open) => Ok(open),
            none => Ok(none.insert(Conntrack::open()?)),
        }
    }
}

impl Xtables for Tools {
    fn restore(&mut self, family: Family, script: &Script) -> Result<(), XtablesError> {
        let wait = LOCK_WAIT_S.to_string();
        let (program, output) = self.run(family, "-restore", &["--noflush", "-w", &wait], script.text())?;
        if output.status.success() { Ok(()) } else { Err(complaint(program, &output)) }
    }

    fn save(&mut self, family: Family, table: Table) -> Result<String, XtablesError> {
        let (program, output) = self.run(family, "-save", &["-t", table.name()], "")?;
        if !output.status.success() {
            return Err(complaint(program, &output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn has(&mut self, family: Family, table: Table, lines: &[String]) -> Result<bool, XtablesError> {
        let program = self.variant.program(family, "-save");
        let path = look_for(&program)?;
        let found = look_through(&path, &["-t", table.name()], lines);
        match found.map_err(|source| XtablesError::Run { program: program.clone(), source })? {
            Looked::Found => Ok(true),
            Looked::Ended(output) if output.status.success() => Ok(false),
            Looked::Ended(output) => Err(complaint(program, &output)),
        }
    }

    fn flows(&mut self, family: Family, wanted: &dyn Fn(&Flow) -> bool) -> Result<Vec<Flow>, XtablesError> {
        Ok(self.conntrack()?.flows(family, wanted)?)
    }

    fn forget(&mut self, flow: &Flow) -> Result<(), XtablesError> {
        Ok(self.conntrack()?.delete(flow)?)
    }
}

fn look_for(program: &str) -> Result<PathBuf, XtablesError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(SBIN.map(PathBuf::from));
    let found = dirs.map(|dir| dir.join(program)).find(|path| path.is_file());
    found.ok_or_else(|| XtablesError::Missing { program: program.to_owned() })
}

fn run(program: &Path, arguments: &[&str], input: &str) -> io::Result<Output> {
    let mut command = Command::new(program);
    // What it says is read by us: no other language.
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let stdin = child.stdin.take();
    std::thread::scope(|scope| {
        // It may speak before it has read all: somebody must listen meanwhile.
        let writer = scope.spawn(move || stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output()?;
        match writer.join() {
            // One that gives up reads no further, and says why by itself.
            Ok(Err(error)) if output.status.success() => Err(error),
            _ => Ok(output),
        }
    })
}

/// What came of looking for lines.
enum Looked {
    /// All were there; the program was not heard to its end.
    Found,
    /// It said all it had to say, and they were not all there.
    Ended(Output),
}

/// Reads what a program prints until all these beginnings of lines were seen.
fn look_through(program: &Path, arguments: &[&str], beginnings: &[String]) -> io::Result<Looked> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut missing: Vec<&String> = beginnings.iter().collect();
    let lines = child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).split(b'\n'));
    for line in lines {
        let line = line?;
        missing.retain(|beginning| !line.starts_with(beginning.as_bytes()));
        if missing.is_empty() {
            // It has nothing more to say to us; that it is gone already is as good.
            let _ = child.kill();
            child.wait()?;
            return Ok(Looked::Found);
        }
    }
    child.wait_with_output().map(Looked::Ended)
}

fn complaint(program: String, output: &Output) -> XtablesError {
    let said = String::from_utf8_lossy(&output.stderr);
    let line = line_named(&said);
    // Of nf_tables' errors the tools say the same, but with a line.
    let is_transient = output.status.code() == Some(STATUS_RESOURCE) && line.is_none() && !is_denial(&said);
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Try `"));
    let text = match lines.collect::<Vec<_>>().join("; ") {
        nothing if nothing.is_empty() => output.status.to_string(),
        text => text,
    };
    XtablesError::Refused { program, line, is_transient, source: Complaint(text) }
}

/// The line of the script that a complaint names: `line 7 failed`, `Error occurred at line: 7`.
fn line_named(said: &str) -> Option<usize> {
    said.rsplit("line").find_map(|after| {
        let digits = after.trim_start_matches([':', ' ']);
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_a_tool_complains_of_is_found() {
        for (said, line) in [
            ("iptables-restore: line 7 failed\n", Some(7)),
            (
                "iptables-restore v1.8.9 (legacy): host/network `x' not found\nError occurred at line: 12\nTry `iptables-restore -h'",
                Some(12),
            ),
            (
                "iptables-nft-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (Invalid argument): rule in chain X",
                Some(3),
            ),
            ("Another app is currently holding the xtables lock; still 4s 0us time ahead", None),
            ("", None),
        ] {
            assert_eq!(line_named(said), line, "{said}");
        }
    }
}
