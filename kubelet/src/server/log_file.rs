//! A container's log files as readers meet them: the last lines, the next file after a rotation.
//!
//! The supervisor rotates by renaming `0.log` to `0.log.<date>-<time>` and making a new `0.log`: names sort by age.
//! Owns: reading. Does not own: what lines mean (`kubelet/plan/src/logs.rs`), writing and rotating (the supervisor).

use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::disk;
use crate::error::{At as _, FileError};

const CHUNK: usize = 64 << 10;

/// An open log and what has been read of its last line.
pub(super) struct Reader {
    pub(super) file: std::fs::File,
    pub(super) rest: Vec<u8>,
}

/// What comes after a file.
pub(super) enum Successor {
    /// Nothing: it is still written to.
    None,
    /// A file; this one is complete.
    File(std::fs::File),
    /// It is being rotated at this moment.
    Midway,
}

/// Opens a log, from its beginning or for its last lines.
pub(super) fn open(path: &Path, tail: Option<u64>) -> Result<Reader, FileError> {
    let mut file = std::fs::File::open(path).at("open", path)?;
    if let Some(lines) = tail {
        let start = tail_start(&mut file, lines).at("read", path)?;
        file.seek(SeekFrom::Start(start)).at("read", path)?;
    }
    Ok(Reader { file, rest: Vec::new() })
}

/// The next bytes; empty at the end.
pub(super) fn read_some(mut reader: Reader) -> (Reader, std::io::Result<Vec<u8>>) {
    let read = read_chunk(&mut reader.file);
    (reader, read)
}

pub(super) fn read_chunk(file: &mut std::fs::File) -> std::io::Result<Vec<u8>> {
    let mut chunk = vec![0; CHUNK];
    let count = file.read(&mut chunk)?;
    chunk.truncate(count);
    Ok(chunk)
}

/// Looks for the file after the reader's: the next younger one, even if several rotations passed.
pub(super) fn successor(reader: Reader, path: &Path) -> (Reader, Result<Successor, FileError>) {
    let next = find_successor(&reader.file, path);
    (reader, next)
}

fn find_successor(file: &std::fs::File, path: &Path) -> Result<Successor, FileError> {
    let own = file.metadata().at("look at", path)?.ino();
    match std::fs::metadata(path) {
        Ok(current) if current.ino() == own => return Ok(Successor::None),
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Successor::Midway),
        Err(e) => return Err(e).at("look at", path),
    }
    let (dir, name) = (path.parent().unwrap_or(path), path.file_name().unwrap_or_default().to_string_lossy());
    let prefix = format!("{name}.");
    let older = disk::names(dir)?.into_iter().filter(|n| n.starts_with(&prefix)).map(|n| dir.join(n));
    let all: Vec<_> = older.chain([path.to_owned()]).collect();
    let inode = |p: &std::path::PathBuf| std::fs::metadata(p).ok().map(|m| m.ino());
    // One that was removed meanwhile was older than all that are left.
    let next = all.iter().position(|p| inode(p) == Some(own)).map_or(0, |at| at + 1);
    match all.get(next).map(std::fs::File::open) {
        Some(Ok(file)) => Ok(Successor::File(file)),
        // Rotated or removed between two looks: look again.
        Some(Err(_)) | None => Ok(Successor::Midway),
    }
}

/// Where the last `lines` lines begin.
fn tail_start(file: &mut std::fs::File, lines: u64) -> std::io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let size = end;
    let mut newlines = 0;
    let mut chunk = vec![0; CHUNK];
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        file.seek(SeekFrom::Start(start))?;
        let part = &mut chunk[..usize::try_from(end - start).unwrap_or(CHUNK)];
        file.read_exact(part)?;
        for (at, _) in part.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            let position = start + at as u64;
            // The newline at the very end closes the last line, it does not begin another.
            if position + 1 != size {
                newlines += 1;
            }
            if newlines >= lines && (position + 1 != size || lines == 0) {
                return Ok(position + 1);
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        for (text, lines, rest) in [
            ("a\nb\nc\n", 1, "c\n"),
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc\n", 9, "a\nb\nc\n"),
            ("a\nb\nc", 1, "c"),
            ("a\nb\n", 0, ""),
            ("", 3, ""),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let start = usize::try_from(tail_start(&mut file, lines).unwrap()).unwrap();
            assert_eq!(&text[start..], rest, "{text:?} {lines}");
        }
    }

    #[test]
    fn a_reader_left_behind_by_rotations_finds_every_file_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for (name, text) in [("0.log.20260101-1", "a"), ("0.log.20260101-2", "b"), ("0.log", "c")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let mut reader = open(&dir.path().join("0.log.20260101-1"), None).unwrap();
        let mut seen = String::new();
        loop {
            seen.push_str(&String::from_utf8(read_chunk(&mut reader.file).unwrap()).unwrap());
            match find_successor(&reader.file, &path).unwrap() {
                Successor::File(file) => reader.file = file,
                Successor::None => break,
                Successor::Midway => panic!("nothing is rotated"),
            }
        }
        assert_eq!(seen, "abc");
        std::fs::rename(&path, dir.path().join("0.log.20260101-3")).unwrap();
        assert!(matches!(find_successor(&reader.file, &path), Ok(Successor::Midway)));
    }
}
