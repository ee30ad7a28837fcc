//! What an import reads from: an OCI layout directory or an archive, as named files that can be opened again and again.
//!
//! An archive is not unpacked: its members are found once and read in place. A stream, or a compressed archive, is
//! first spooled into the store's temporary directory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use pintle_rootfs_plan::docker::Compression;
use pintle_rootfs_plan::entry::{Kind, LayerPath};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::beneath;
use crate::decompress;
use crate::error::{At, Error, Result};
use crate::store::Limits;
use crate::tarball::{TarReader, TarSource};

/// Where an image comes from.
pub enum Source<'a> {
    /// An OCI layout directory, or an archive file.
    Path(&'a Path),
    /// An archive, e.g. standard input.
    Stream(Box<dyn Read + Send + 'a>),
}

/// Part of a file, readable on its own from any thread.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Section {
    pub(crate) fn whole(file: File) -> io::Result<Self> {
        let left = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), at: 0, left })
    }

    /// Bytes not read yet.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.file.read_at(&mut buffer[..want], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

impl TarSource for Section {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > self.left {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += bytes;
        self.left -= bytes;
        Ok(())
    }
}

#[derive(Debug)]
enum Place {
    Layout(OwnedFd),
    Archive(HashMap<Vec<u8>, Found>),
}

#[derive(Debug)]
enum Found {
    File(Section),
    /// Another member's name.
    Link(Vec<u8>),
}

/// A layout or archive, opened.
#[derive(Debug)]
pub(crate) struct Contents {
    name: String,
    place: Place,
}

impl Contents {
    pub(crate) fn open(source: Source<'_>, temp: &Path) -> Result<Self> {
        match source {
            Source::Path(path) => Self::open_path(path, temp),
            Source::Stream(stream) => Self::scan("the stream".to_owned(), spool(stream, temp)?),
        }
    }

    fn open_path(path: &Path, temp: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).at("open", path)?;
        let metadata = file.metadata().at("stat", path)?;
        if metadata.is_dir() {
            let root = beneath::open_root(path).at("open", path)?;
            return Ok(Self { name, place: Place::Layout(root) });
        }
        if !metadata.is_file() {
            return Self::scan(name, spool(file, temp)?);
        }
        let mut head = [0; 4];
        let read = file.read_at(&mut head, 0).at("read", path)?;
        let section = match Compression::of(&head[..read]) {
            Compression::None => Section::whole(file).at("stat", path)?,
            Compression::Gzip | Compression::Zstd => spool(file, temp)?,
        };
        Self::scan(name, section)
    }

    fn scan(name: String, section: Section) -> Result<Self> {
        let mut tar = TarReader::new(section.clone());
        let mut members = HashMap::new();
        while let Some(member) = tar.next_member().map_err(|error| match error {
            Error::Tar { offset: ..=512, .. } => Error::NotAnImage(name.clone()),
            other => other,
        })? {
            let Ok(Some(path)) = LayerPath::parse(&member.path) else { continue };
            let link = member.link.as_deref().unwrap_or_default();
            let found = match member.kind {
                Kind::File => {
                    let at = section.at + tar.offset();
                    Found::File(Section { file: Arc::clone(&section.file), at, left: member.bytes })
                }
                Kind::HardLink => Found::Link(normal(link)),
                Kind::Symlink => Found::Link(normal(&[path.parent_bytes(), b"/", link].concat())),
                _ => continue,
            };
            members.insert(path.as_bytes().to_vec(), found);
        }
        Ok(Self { name, place: Place::Archive(members) })
    }

    /// What messages call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Opens a file of it; None when there is none.
    pub(crate) fn file(&self, path: &str) -> Result<Option<Section>> {
        match &self.place {
            Place::Layout(root) => match beneath::open(root, path.as_bytes(), OFlags::RDONLY | OFlags::NONBLOCK) {
                Ok(fd) => Section::whole(File::from(fd)).map(Some).at("stat", Path::new(&self.name).join(path)),
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
                Err(error) => Err(error).at("open", Path::new(&self.name).join(path)),
            },
            Place::Archive(members) => Ok(follow(members, normal(path.as_bytes()))),
        }
    }

    /// Opens a file that must be there.
    pub(crate) fn required(&self, path: &str) -> Result<Section> {
        let missing = || Error::Missing { archive: self.name.clone(), what: path.to_owned() };
        self.file(path)?.ok_or_else(missing)
    }

    /// Reads a small file whole.
    pub(crate) fn document(&self, path: &str, limits: &Limits) -> Result<Option<Vec<u8>>> {
        let Some(mut section) = self.file(path)? else { return Ok(None) };
        if section.left() > limits.document_bytes_max {
            let what = format!("{path} of {}", self.name);
            return Err(Error::Limit { what, limit: limits.document_bytes_max, unit: "bytes" });
        }
        let (mut bytes, want) = (Vec::new(), section.left());
        section.read_to_end(&mut bytes).at("read", Path::new(&self.name).join(path))?;
        if bytes.len() as u64 == want {
            Ok(Some(bytes))
        } else {
            Err(Error::Size { what: path.to_owned(), expected: want, found: bytes.len() as u64 })
        }
    }
}

/// Older `docker save` writes a layer shared by two images once, and links to it.
fn follow(members: &HashMap<Vec<u8>, Found>, mut path: Vec<u8>) -> Option<Section> {
    for _ in 0..8 {
        match members.get(&path)? {
            Found::File(section) => return Some(section.clone()),
            Found::Link(target) => path.clone_from(target),
        }
    }
    None
}

/// Removes `.` and `..` from a member's name: an archive has no symlinked directories that would give them a meaning.
fn normal(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// Copies a stream into the temporary directory, decompressing it on the way.
fn spool(stream: impl Read, temp: &Path) -> Result<Section> {
    let path = temp.join("spool.tar");
    let damaged = |source| Error::Decompress { what: "the archive".to_owned(), source };
    let (mut plain, compression) = decompress::plain(stream).map_err(damaged)?;
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).at("create", &path)?;
    match io::copy(&mut plain, &mut file) {
        Err(error) if compression != Compression::None && error.kind() != io::ErrorKind::StorageFull => {
            return Err(damaged(error));
        }
        copied => copied.at("spool the archive into", &path)?,
    };
    Section::whole(file).at("stat", path)
}
