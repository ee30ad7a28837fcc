//! Reading tar archives member by member, with a bound on everything that is kept in memory.
//!
//! Header blocks are understood by the crate `tar`; the walk from member to member is here because that crate splits
//! PAX records at newlines, which breaks binary extended attributes, and keeps extended headers of any size.
//! Which members are acceptable is decided by `pintle_rootfs_plan::entry`, not here.

use std::io::{self, Read};

use pintle_rootfs_plan::entry::{Header, Kind, Mtime};
use pintle_rootfs_plan::pax::{self, Records};
use tar::EntryType;

use crate::error::{Error, Result};

const BLOCK: u64 = 512;
/// Paths are at most 4 KiB and extended attributes of one file 64 KiB in sum; this is far above both.
const EXTENDED_BYTES_MAX: u64 = 1 << 20;

/// What an archive is read from.
pub(crate) trait TarSource: Read + Sized {
    /// Passes over `bytes` bytes.
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.by_ref().take(bytes), &mut io::sink())?;
        if skipped == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// One member, its data still to be read.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: Mtime,
    pub(crate) bytes: u64,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Member {
    /// The header in the plan's words.
    pub(crate) fn header(&self) -> Header<'_> {
        Header {
            path: &self.path,
            link: self.link.as_deref(),
            kind: self.kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
        }
    }
}

/// An archive being read.
#[derive(Debug)]
pub(crate) struct TarReader<R> {
    source: R,
    offset: u64,
    /// Data of the current member not read yet.
    left: u64,
    /// Zeros after it up to the next block.
    padding: u64,
}

/// What extended headers said about the next member.
#[derive(Default)]
struct Extended {
    pax: Option<Records>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: TarSource> TarReader<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, offset: 0, left: 0, padding: 0 }
    }

    /// Where the next unread byte is.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The source again, after the last member.
    pub(crate) fn into_source(self) -> R {
        self.source
    }

    /// The next member; what is unread of the current one is passed over. None at the end.
    pub(crate) fn next_member(&mut self) -> Result<Option<Member>> {
        let mut extended = Extended::default();
        loop {
            self.skip_rest()?;
            let Some(block) = self.header_block()? else {
                return Ok(None);
            };
            let header = tar::Header::from_byte_slice(&block);
            self.check_sum(header)?;
            let bytes = header.entry_size().map_err(|_| self.broken("a member's size is not a number"))?;
            match header.entry_type() {
                EntryType::XHeader => extended.pax = Some(pax::parse(&self.extended(bytes)?)?),
                EntryType::GNULongName => extended.path = Some(until_zero(self.extended(bytes)?)),
                EntryType::GNULongLink => extended.link = Some(until_zero(self.extended(bytes)?)),
                EntryType::XGlobalHeader => drop(self.extended(bytes)?),
                _ => return self.member(header, bytes, extended).map(Some),
            }
        }
    }

    /// Reads data of the current member; 0 at its end. Data that ends before the header says is an error.
    pub(crate) fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let want = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if want == 0 {
            return Ok(0);
        }
        let read = self.source.read(&mut buffer[..want]).map_err(|error| self.failed(&error))?;
        if read == 0 {
            return Err(self.broken("it ends in the middle of a file"));
        }
        self.left -= read as u64;
        self.offset += read as u64;
        Ok(read)
    }

    fn member(&mut self, header: &tar::Header, bytes: u64, extended: Extended) -> Result<Member> {
        let pax = extended.pax.unwrap_or_default();
        let path = pax.path.or(extended.path).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = pax.link.or(extended.link).or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let kind = if pax.sparse { Kind::Sparse } else { kind_of(header, &path) };
        // As Go's reader does: only files have data, whatever the header says.
        let has_data = matches!(kind, Kind::File | Kind::Sparse | Kind::Other(_));
        let bytes = if has_data { pax.bytes.unwrap_or(bytes) } else { 0 };
        self.left = bytes;
        self.padding = bytes.next_multiple_of(BLOCK).wrapping_sub(bytes);
        let raw = header.as_old();
        let mode = self.number(&raw.mode, header.mode().map(u64::from), "a member's mode is not a number")?;
        let uid = self.number(&raw.uid, header.uid(), "a member's owner is not a number");
        let gid = self.number(&raw.gid, header.gid(), "a member's group is not a number");
        let seconds = self.number(&raw.mtime, header.mtime(), "a member's time is not a number");
        Ok(Member {
            mode: u32::try_from(mode & 0o7777).unwrap_or(0),
            uid: pax.uid.map_or(uid, Ok)?,
            gid: pax.gid.map_or(gid, Ok)?,
            mtime: match pax.mtime {
                Some(mtime) => mtime,
                None => Mtime { seconds: i64::try_from(seconds?).unwrap_or(0), nanoseconds: 0 },
            },
            path,
            link,
            kind,
            bytes,
            xattrs: pax.xattrs,
        })
    }

    /// A blank field is zero, as Go's reader has it.
    fn number(&self, raw: &[u8], parsed: io::Result<u64>, what: &str) -> Result<u64> {
        if raw.iter().all(|b| matches!(b, 0 | b' ')) {
            return Ok(0);
        }
        parsed.map_err(|_| self.broken(what))
    }

    fn header_block(&mut self) -> Result<Option<[u8; BLOCK as usize]>> {
        let mut block = [0; BLOCK as usize];
        let mut filled = 0;
        while filled < block.len() {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(self.broken("it ends in the middle of a header")),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        self.offset += BLOCK;
        Ok(block.iter().any(|b| *b != 0).then_some(block))
    }

    fn check_sum(&self, header: &tar::Header) -> Result<()> {
        let bytes = header.as_bytes();
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|b| u32::from(*b)).sum::<u32>() + 8 * 32;
        if header.cksum().is_ok_and(|written| written == sum) {
            Ok(())
        } else {
            Err(self.broken("a header's checksum is wrong"))
        }
    }

    fn extended(&mut self, bytes: u64) -> Result<Vec<u8>> {
        if bytes > EXTENDED_BYTES_MAX {
            let what = "an extended header of the archive".to_owned();
            return Err(Error::Limit { what, limit: EXTENDED_BYTES_MAX, unit: "bytes" });
        }
        self.left = bytes;
        self.padding = bytes.next_multiple_of(BLOCK) - bytes;
        let mut data = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.read_data(&mut buffer)? {
                0 => return Ok(data),
                read => data.extend_from_slice(&buffer[..read]),
            }
        }
    }

    fn skip_rest(&mut self) -> Result<()> {
        let rest = self.left.checked_add(self.padding).ok_or_else(|| self.broken("a member's size is impossible"))?;
        if rest > 0 {
            self.source.skip(rest).map_err(|error| self.failed(&error))?;
            self.offset = self.offset.saturating_add(rest);
            (self.left, self.padding) = (0, 0);
        }
        Ok(())
    }

    fn broken(&self, why: &str) -> Error {
        Error::Tar { offset: self.offset, why: why.to_owned() }
    }

    fn failed(&self, error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.broken("it ends too early"),
            _ => self.broken(&format!("it cannot be read: {error}")),
        }
    }
}

fn kind_of(header: &tar::Header, path: &[u8]) -> Kind {
    match header.entry_type() {
        // Before 1988 a directory was a file whose name ended in a slash.
        EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::Link => Kind::HardLink,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Char | EntryType::Block => Kind::Device,
        EntryType::Directory => Kind::Directory,
        EntryType::Fifo => Kind::Fifo,
        EntryType::GNUSparse => Kind::Sparse,
        EntryType::XGlobalHeader | EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink => {
            Kind::Metadata
        }
        other => Kind::Other(other.as_byte()),
    }
}

fn until_zero(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    impl TarSource for &[u8] {}

    fn names(archive: &[u8]) -> Result<Vec<String>> {
        let mut reader = TarReader::new(archive);
        let mut names = Vec::new();
        while let Some(member) = reader.next_member()? {
            names.push(String::from_utf8_lossy(&member.path).into_owned());
        }
        Ok(names)
    }

    fn archive(paths: &[&str]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for path in paths {
            let mut header = tar::Header::new_gnu();
            header.set_size(3);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, b"abc".as_slice()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn long_names_of_both_dialects_are_read() {
        let long = "d/".repeat(90) + "file";
        assert_eq!(names(&archive(&["a", &long])).unwrap(), ["a", &long]);
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions([("path", b"from/pax".as_slice())]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        builder.append_data(&mut header, "from/header", b"".as_slice()).unwrap();
        assert_eq!(names(&builder.into_inner().unwrap()).unwrap(), ["from/pax"]);
    }

    #[test]
    fn a_truncated_archive_is_an_error() {
        let whole = archive(&["a", "b"]);
        for end in [100, 512 + 1, 1024 + 3, 1024 + 512 + 1] {
            assert!(matches!(names(&whole[..end]), Err(Error::Tar { .. })), "cut at {end}");
        }
    }

    #[test]
    fn a_changed_header_is_an_error() {
        let mut bytes = archive(&["a"]);
        bytes[0] = b'x';
        assert!(names(&bytes).unwrap_err().to_string().contains("checksum"));
    }

    #[test]
    fn an_extended_header_cannot_fill_the_memory() {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(1 << 40);
        header.set_cksum();
        assert!(matches!(names(header.as_bytes()), Err(Error::Limit { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = names(&bytes);
        }

        #[test]
        fn no_changed_header_makes_the_reader_panic(
            changes in proptest::collection::vec((0usize..512, any::<u8>()), 0..8),
        ) {
            let mut bytes = archive(&["some/file"]);
            for (at, value) in changes {
                bytes[at] = value;
            }
            let mut header = tar::Header::from_byte_slice(&bytes[..512]).clone();
            header.set_cksum();
            bytes[..512].copy_from_slice(header.as_bytes());
            let _ = names(&bytes);
        }
    }
}
