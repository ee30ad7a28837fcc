//! One pass over a layer: read, hash and keep the blob; decompress and hash the archive; unpack it. Each of the three
//! stages is a thread, so that hashing costs no time of its own.
//!
//! A stage that fails closes its channels and the others end. The reading stage goes on hashing even then: of all
//! reasons for a failure, "the blob is not what its digest says" is the one worth telling.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use pintle_rootfs_plan::digest::Digest;
use pintle_rootfs_plan::docker::Compression;
use sha2::{Digest as _, Sha256};

use crate::contents::Section;
use crate::decompress;
use crate::error::{At, Error, Result};
use crate::store::Limits;
use crate::tarball::{TarReader, TarSource};
use crate::unpack::{Unpacked, unpack};

const CHUNK: usize = 256 << 10;
/// Chunks in flight between two stages: 2 MiB.
const DEPTH: usize = 8;

/// What is known of a layer before it is read.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    /// The blob's digest; unknown in Docker's own archives.
    pub(crate) blob: Option<Digest>,
    /// The blob's size by its descriptor.
    pub(crate) blob_bytes: Option<u64>,
    /// The uncompressed archive's digest, from the configuration.
    pub(crate) diff: Digest,
}

/// Where the parts of a layer go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Targets<'a> {
    /// A file to make, unless the blob is in the store.
    pub(crate) blob: Option<&'a Path>,
    /// A directory to fill, unless the layer is in the store.
    pub(crate) unpack: Option<&'a Path>,
}

/// A layer that is what its digests say.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) blob: Digest,
    pub(crate) blob_bytes: u64,
    pub(crate) compression: Compression,
    pub(crate) tar_bytes: u64,
    pub(crate) unpacked: Option<Unpacked>,
}

/// Reads, verifies, keeps and unpacks a layer. `cancel` makes it end early with an error.
pub(crate) fn stream(
    source: Section,
    expected: &Expected,
    targets: Targets<'_>,
    limits: &Limits,
    cancel: &AtomicBool,
) -> Result<Verified> {
    let what = expected.blob.map_or_else(|| format!("layer {}", expected.diff), |blob| format!("layer blob {blob}"));
    if let Some(bytes) = expected.blob_bytes.filter(|bytes| *bytes != source.left()) {
        return Err(Error::Size { what, expected: bytes, found: source.left() });
    }
    let (blob_out, blob_in) = sync_channel(DEPTH);
    let (tar_out, tar_in) = sync_channel(DEPTH);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_stage(source, targets.blob, blob_out, cancel));
        let decoding = scope.spawn(|| decode_stage(blob_in, tar_out, &what, limits));
        let unpacked = unpack_stage(tar_in, targets.unpack, limits);
        let (blob, blob_bytes) = reading.join().map_err(|_| Error::Worker("reading a layer"))??;
        if let Some(wanted) = expected.blob.filter(|wanted| *wanted != blob) {
            return Err(Error::Mismatch { what: "layer blob".to_owned(), expected: wanted, found: blob });
        }
        let decoded = decoding.join().map_err(|_| Error::Worker("decompressing a layer"))??;
        let unpacked = unpacked?;
        let diff = decoded.diff.unwrap_or(blob);
        if diff != expected.diff {
            return Err(Error::Mismatch {
                what: "uncompressed layer".to_owned(),
                expected: expected.diff,
                found: diff,
            });
        }
        Ok(Verified { blob, blob_bytes, compression: decoded.compression, tar_bytes: decoded.bytes, unpacked })
    })
}

fn read_stage(
    mut source: Section,
    keep: Option<&Path>,
    out: SyncSender<Vec<u8>>,
    cancel: &AtomicBool,
) -> Result<(Digest, u64)> {
    let mut kept = match keep {
        Some(path) => Some((path, File::create_new(path).at("create", path)?)),
        None => None,
    };
    let (mut sum, mut bytes, mut out) = (Sha256::new(), 0, Some(out));
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::Interrupted)).at("finish reading", "a layer");
        }
        let chunk = read_chunk(&mut source).at("read", "a layer")?;
        if chunk.is_empty() {
            return Ok((Digest::from_sum(sum.finalize().into()), bytes));
        }
        sum.update(&chunk);
        bytes += chunk.len() as u64;
        if let (Some((path, file)), true) = (&mut kept, out.is_some()) {
            file.write_all(&chunk).at("write", path)?;
        }
        // A closed channel means that a later stage failed; what follows is only for the digest.
        out = out.filter(|out| out.send(chunk).is_ok());
    }
}

struct Decoded {
    /// None when the layer is not compressed: its digest is the blob's.
    diff: Option<Digest>,
    bytes: u64,
    compression: Compression,
}

fn decode_stage(input: Receiver<Vec<u8>>, out: SyncSender<Vec<u8>>, what: &str, limits: &Limits) -> Result<Decoded> {
    let failed = |source| Error::Decompress { what: what.to_owned(), source };
    let (mut plain, compression) = decompress::plain(ChannelReader::new(input)).map_err(failed)?;
    let (mut sum, mut bytes) = (Sha256::new(), 0);
    loop {
        let chunk = read_chunk(&mut plain).map_err(failed)?;
        if chunk.is_empty() {
            break;
        }
        bytes += chunk.len() as u64;
        if bytes > limits.layer_bytes_max {
            return Err(Error::Limit { what: what.to_owned(), limit: limits.layer_bytes_max, unit: "bytes unpacked" });
        }
        if compression != Compression::None {
            sum.update(&chunk);
        }
        if out.send(chunk).is_err() {
            // Unpacking failed and says so itself.
            break;
        }
    }
    let diff = (compression != Compression::None).then(|| Digest::from_sum(sum.finalize().into()));
    Ok(Decoded { diff, bytes, compression })
}

/// Unpacks, and then reads on to the end: zeros after the archive belong to its digest.
fn unpack_stage(input: Receiver<Vec<u8>>, to: Option<&Path>, limits: &Limits) -> Result<Option<Unpacked>> {
    let mut input = ChannelReader::new(input);
    let mut unpacked = None;
    if let Some(path) = to {
        let mut tar = TarReader::new(input);
        unpacked = Some(unpack(&mut tar, path, limits)?);
        input = tar.into_source();
    }
    while input.next_chunk() {}
    Ok(unpacked)
}

/// Reads until a chunk is full or the input ends.
fn read_chunk(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; CHUNK];
    let mut filled = 0;
    while filled < CHUNK {
        match source.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    chunk.truncate(filled);
    Ok(chunk)
}

/// Chunks from another thread as one stream. The sender going away is the end.
struct ChannelReader {
    input: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    used: usize,
}

impl ChannelReader {
    fn new(input: Receiver<Vec<u8>>) -> Self {
        Self { input, chunk: Vec::new(), used: 0 }
    }

    fn next_chunk(&mut self) -> bool {
        self.chunk = self.input.recv().unwrap_or_default();
        self.used = 0;
        !self.chunk.is_empty()
    }
}

impl BufRead for ChannelReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.chunk.len() {
            self.next_chunk();
        }
        Ok(&self.chunk[self.used..])
    }

    fn consume(&mut self, bytes: usize) {
        self.used += bytes;
    }
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let bytes = ready.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&ready[..bytes]);
        self.consume(bytes);
        Ok(bytes)
    }
}

impl TarSource for ChannelReader {}
