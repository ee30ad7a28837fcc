//! A container's log in the CRI format: `RFC3339Nano stream F|P text`, one write per chunk read, rotated by size.

use std::fs::File;
use std::io::Write as _;
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
}

impl LogFile {
    /// Opens or continues the log at `path`.
    pub fn open(path: &Path, limits: Limits) -> std::io::Result<LogFile> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let file = open(path)?;
        let len = file.metadata()?.len();
        Ok(LogFile { path: path.to_owned(), file, len, limits, pending: [Vec::new(), Vec::new()] })
    }

    /// Takes a chunk of output: whole lines are written, the rest waits for its end.
    pub fn write(&mut self, stream: Stream, chunk: &[u8]) -> std::io::Result<()> {
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
                None if rest.len() >= room => {
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
    pub fn end(&mut self, stream: Stream) -> std::io::Result<()> {
        let pending = std::mem::take(&mut self.pending[stream as usize]);
        if pending.is_empty() {
            return Ok(());
        }
        let mut entries = Vec::new();
        entry(&mut entries, &clock::rfc3339_nano(clock::now_ns()), stream, 'P', &pending, &[]);
        self.append(&entries)
    }

    /// Entries are whole lines, and rotation happens between appends: no line is ever split or lost.
    fn append(&mut self, entries: &[u8]) -> std::io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        self.file.write_all(entries)?;
        self.len += entries.len() as u64;
        if self.limits.bytes_max > 0 && self.len >= self.limits.bytes_max { self.rotate() } else { Ok(()) }
    }

    /// The old file keeps its time in its name; the oldest beyond the limit go.
    fn rotate(&mut self) -> std::io::Result<()> {
        let stamp: String = clock::rfc3339_nano(clock::now_ns()).chars().filter(|c| c.is_ascii_digit()).collect();
        let mut old = self.path.clone().into_os_string();
        old.push(format!(".{}-{}", &stamp[..8], &stamp[8..]));
        std::fs::rename(&self.path, &old)?;
        self.file = open(&self.path)?;
        self.len = 0;
        self.remove_oldest()
    }

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
        log.write(Stream::Stdout, b"one\ntw").unwrap();
        log.write(Stream::Stderr, b"err\n").unwrap();
        log.write(Stream::Stdout, b"o\n\nrest").unwrap();
        log.end(Stream::Stdout).unwrap();
        assert_eq!(texts(&path), ["stdout F one", "stderr F err", "stdout F two", "stdout F ", "stdout P rest"]);
    }

    #[test]
    fn long_lines_come_in_pieces_that_join_to_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = LogFile::open(&path, Limits { bytes_max: 0, files_max: 1 }).unwrap();
        let line = "x".repeat(LINE_LEN_MAX * 2 + 5);
        for chunk in format!("{line}\n").as_bytes().chunks(1000) {
            log.write(Stream::Stdout, chunk).unwrap();
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
            log.write(Stream::Stdout, format!("line {n}\n").as_bytes()).unwrap();
        }
        let mut files: Vec<PathBuf> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        files.rotate_left(1);
        let all: Vec<String> = files.iter().flat_map(|file| texts(file)).collect();
        let expected: Vec<String> = (0..100).map(|n| format!("stdout F line {n}")).collect();
        assert_eq!(all, expected);
        let mut log = LogFile::open(&path, Limits { bytes_max: 1, files_max: 3 }).unwrap();
        log.write(Stream::Stdout, b"last\n").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
