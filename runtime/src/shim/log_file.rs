//! A container's log in the CRI format: `RFC3339Nano stream F|P text`, one write per chunk read, rotated by size.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::clock;

/// The longest piece of a line in one entry, in bytes (as containerd and CRI-O cut them).
const LINE_LEN_MAX: usize = 16 << 10;

/// Which of the two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, and a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// The limits of a log.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rotate beyond this many bytes; 0 never does.
    pub bytes_max: u64,
    /// Keep at most this many files, the current one included.
    pub files_max: u32,
}

/// An open log.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    len: u64,
    limits: Limits,
    pending: [Vec<u8>; 2],
    /// Bytes of entries that could not be written since writing last worked.
    lost: u64,
}

impl LogFile {
    /// Opens or continues the log at `path`.
    pub fn open(path: &Path, limits: Limits) -> std::io::Result<LogFile> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let file = open(path)?;
        let len = file.metadata()?.len();
        Ok(LogFile { path: path.to_owned(), file, len, limits, pending: [Vec::new(), Vec::new()], lost: 0 })
    }

    /// Opens the path anew: somebody has renamed the file. No entry is split by this.
    pub fn reopen(&mut self) -> std::io::Result<()> {
        self.file = open(&self.path)?;
        self.len = self.file.metadata()?.len();
        Ok(())
    }

    /// Takes a chunk of output: whole lines are written, the rest waits for its end. A log that cannot be written
    /// does not stop the container: what is given back is to be said, once when it begins and once when it is over.
    pub fn write(&mut self, stream: Stream, chunk: &[u8]) -> Option<String> {
        let mut entries = Vec::with_capacity(chunk.len() + 64);
        let now = clock::rfc3339_nano(clock::now_ns());
        let pending = &mut self.pending[stream as usize];
        let mut rest = chunk;
        while !rest.is_empty() {
            let room = LINE_LEN_MAX - pending.len();
            let newline = rest.iter().take(room + 1).position(|byte| *byte == b'\n');
            match newline {
                Some(end) => {
                    entry(&mut entries, &now, stream, 'F', pending, &rest[..end]);
                    rest = &rest[end + 1..];
                    pending.clear();
                }
                None if rest.len() > room => {
                    entry(&mut entries, &now, stream, 'P', pending, &rest[..room]);
                    rest = &rest[room..];
                    pending.clear();
                }
                None => {
                    pending.extend_from_slice(rest);
                    rest = &[];
                }
            }
        }
        self.append(&entries)
    }

    /// The stream's end: what was not ended by a newline is written as it is.
    pub fn end(&mut self, stream: Stream) -> Option<String> {
        let pending = std::mem::take(&mut self.pending[stream as usize]);
        if pending.is_empty() {
            return None;
        }
        let mut entries = Vec::new();
        entry(&mut entries, &clock::rfc3339_nano(clock::now_ns()), stream, 'P', &pending, &[]);
        self.append(&entries)
    }

    /// Entries are whole lines, and rotation happens between appends: no line is ever split or lost.
    fn append(&mut self, entries: &[u8]) -> Option<String> {
        if entries.is_empty() {
            return None;
        }
        let (written, failure) = write_all(&mut self.file, entries);
        let kept = if failure.is_some() { self.drop_torn_line(&entries[..written]) } else { written };
        self.len += kept as u64;
        let began = self.lost;
        self.lost += (entries.len() - kept) as u64;
        match failure {
            Some(error) if began == 0 => Some(format!(
                "cannot write {}: {error}; it goes on, and its output is lost until this works again",
                self.path.display()
            )),
            Some(_) => None,
            None => {
                self.lost = 0;
                let over =
                    (began > 0).then(|| format!("{} is written again; {began} bytes are lost", self.path.display()));
                over.or(self.rotate_if_full())
            }
        }
    }

    /// A write that was cut short leaves the head of a line, which nobody could tell from a whole one.
    fn drop_torn_line(&self, written: &[u8]) -> usize {
        let whole = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let torn = (written.len() - whole) as u64;
        if torn > 0 {
            let _stays_torn = self.file.metadata().and_then(|meta| self.file.set_len(meta.len().saturating_sub(torn)));
        }
        whole
    }

    fn rotate_if_full(&mut self) -> Option<String> {
        if self.limits.bytes_max == 0 || self.len < self.limits.bytes_max {
            return None;
        }
        let done = self.rotate().and_then(|()| self.remove_oldest());
        // Tried again after as much output: the log is too long meanwhile, but whole.
        self.len = 0;
        done.err().map(|error| format!("cannot rotate {}: {error}", self.path.display()))
    }

    /// The old file keeps its time in its name.
    fn rotate(&mut self) -> std::io::Result<()> {
        let stamp: String = clock::rfc3339_nano(clock::now_ns()).chars().filter(|c| c.is_ascii_digit()).collect();
        let mut old = self.path.clone().into_os_string();
        old.push(format!(".{}-{}", &stamp[..8], &stamp[8..]));
        match std::fs::rename(&self.path, &old) {
            // Somebody was quicker.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other?,
        }
        match open(&self.path) {
            Ok(file) => self.file = file,
            Err(error) => {
                let _readers_look_there = std::fs::rename(&old, &self.path);
                return Err(error);
            }
        }
        Ok(())
    }

    /// The oldest beyond the limit go.
    fn remove_oldest(&self) -> std::io::Result<()> {
        let (Some(dir), Some(name)) = (self.path.parent(), self.path.file_name()) else { return Ok(()) };
        let prefix = format!("{}.", name.to_string_lossy());
        let mut old: Vec<PathBuf> = std::fs::read_dir(dir)?
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .map(|entry| entry.path())
            .collect();
        old.sort();
        let keep = (self.limits.files_max.max(1) - 1) as usize;
        let gone = old.len().saturating_sub(keep);
        old.iter().take(gone).try_for_each(std::fs::remove_file)
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options().create(true).append(true).mode(0o640).open(path)
}

/// How much was written, and why not all.
fn write_all(file: &mut impl std::io::Write, bytes: &[u8]) -> (usize, Option<std::io::Error>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Some(std::io::ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

fn entry(out: &mut Vec<u8>, now: &str, stream: Stream, tag: char, head: &[u8], tail: &[u8]) {
    out.extend_from_slice(format!("{now} {} {tag} ", stream.name()).as_bytes());
    out.extend_from_slice(head);
    out.extend_from_slice(tail);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn texts(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn lines_are_whole_and_streams_do_not_mix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/0.log");
        let mut log = LogFile::open(&path, Limits { bytes_max: 0, files_max: 1 }).unwrap();
        assert_eq!(log.write(Stream::Stdout, b"one\ntw"), None);
        assert_eq!(log.write(Stream::Stderr, b"err\n"), None);
        assert_eq!(log.write(Stream::Stdout, b"o\n\nrest"), None);
        assert_eq!(log.end(Stream::Stdout), None);
        assert_eq!(texts(&path), ["stdout F one", "stderr F err", "stdout F two", "stdout F ", "stdout P rest"]);
    }

    #[test]
    fn long_lines_come_in_pieces_that_join_to_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = LogFile::open(&path, Limits { bytes_max: 0, files_max: 1 }).unwrap();
        let line = "x".repeat(LINE_LEN_MAX * 2 + 5);
        for chunk in format!("{line}\n").as_bytes().chunks(1000) {
            assert_eq!(log.write(Stream::Stdout, chunk), None);
        }
        let pieces = texts(&path);
        let tags: Vec<&str> = pieces.iter().map(|piece| &piece[7..8]).collect();
        assert_eq!(tags, ["P", "P", "F"]);
        assert_eq!(pieces.iter().map(|piece| &piece[9..]).collect::<String>(), line);
    }

    #[test]
    fn rotation_keeps_the_newest_files_and_loses_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = LogFile::open(&path, Limits { bytes_max: 400, files_max: 100 }).unwrap();
        for n in 0..100 {
            assert_eq!(log.write(Stream::Stdout, format!("line {n}\n").as_bytes()), None);
        }
        let mut files: Vec<PathBuf> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        files.rotate_left(1);
        let all: Vec<String> = files.iter().flat_map(|file| texts(file)).collect();
        let expected: Vec<String> = (0..100).map(|n| format!("stdout F line {n}")).collect();
        assert_eq!(all, expected);
        let mut log = LogFile::open(&path, Limits { bytes_max: 1, files_max: 3 }).unwrap();
        assert_eq!(log.write(Stream::Stdout, b"last\n"), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    /// A file system of one page takes the first lines only.
    #[test]
    fn a_full_disk_is_said_once_and_leaves_whole_lines() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: mounts a tmpfs");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_FS).unwrap();
        let none = None::<&str>;
        nix::mount::mount(none, "/", none, nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE, none)
            .unwrap();
        nix::mount::mount(Some("tmpfs"), dir.path(), Some("tmpfs"), nix::mount::MsFlags::empty(), Some("size=16384"))
            .unwrap();
        let path = dir.path().join("0.log");
        let mut log = LogFile::open(&path, Limits { bytes_max: 0, files_max: 1 }).unwrap();
        let said: Vec<String> =
            (0..400).filter_map(|n| log.write(Stream::Stdout, format!("{n:0100}\n").as_bytes())).collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("No space left"), "{said:?}");
        let written = texts(&path);
        assert!(written.len() > 80, "{}", written.len());
        for (n, line) in written.iter().enumerate() {
            assert_eq!(*line, format!("stdout F {n:0100}"));
        }
        std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        let over = log.write(Stream::Stdout, b"again\n").unwrap();
        assert!(over.contains("is written again"), "{over}");
        assert_eq!(texts(&path), ["stdout F again"]);
        drop(log);
        nix::mount::umount(dir.path()).unwrap();
    }

    #[test]
    fn a_log_renamed_by_somebody_else_is_opened_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = LogFile::open(&path, Limits { bytes_max: 0, files_max: 1 }).unwrap();
        assert_eq!(log.write(Stream::Stdout, b"one\nbeg"), None);
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        assert_eq!(log.write(Stream::Stdout, b"un\n"), None);
        log.reopen().unwrap();
        assert_eq!(log.write(Stream::Stdout, b"three\n"), None);
        assert_eq!(texts(&dir.path().join("old")), ["stdout F one", "stdout F begun"]);
        assert_eq!(texts(&path), ["stdout F three"]);
    }
}
