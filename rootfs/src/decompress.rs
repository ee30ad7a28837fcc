//! Reading through whatever compression the first bytes show.

use std::io::{self, BufReader, Cursor, Read};

use pintle_rootfs_plan::docker::Compression;

/// What `source` holds, decompressed, and how it was compressed.
pub(crate) fn plain<'a>(mut source: impl Read + 'a) -> io::Result<(Box<dyn Read + 'a>, Compression)> {
    let mut head = Vec::new();
    Read::by_ref(&mut source).take(4).read_to_end(&mut head)?;
    let compression = Compression::of(&head);
    let whole = BufReader::with_capacity(256 << 10, Cursor::new(head).chain(source));
    let plain: Box<dyn Read + 'a> = match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
    };
    Ok((plain, compression))
}
