//! The frames of SPDY/3.1 that kubectl's port-forward uses: many byte streams in one.
//!
//! Owns: bytes to frames and back, the compression of headers, which goes on from frame to frame. Does not own: what
//! streams are for (`forward`). Flow control is not part of it: neither kubectl nor Kubernetes heeds WINDOW_UPDATE.
//!
//! Control frames: `1 version:15 | type:16 | flags:8 length:24 | …`; data frames: `0 stream:31 | flags:8 length:24 | …`
//! (SPDY Protocol, Draft 3.1, section 2.2).

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

const VERSION: u16 = 3;
const FIN: u8 = 1;
const HEAD_LEN: usize = 8;
/// Headers are three short words; a block that grows beyond this is no port-forward.
const HEADERS_LEN_MAX: usize = 64 << 10;
/// kubectl writes pieces of 32 KiB.
const FRAME_LEN_MAX: usize = 1 << 20;

/// A type of control frame.
mod kind {
    pub(super) const SYN_STREAM: u16 = 1;
    pub(super) const SYN_REPLY: u16 = 2;
    pub(super) const RST_STREAM: u16 = 3;
    pub(super) const PING: u16 = 6;
    pub(super) const GOAWAY: u16 = 7;
}

/// The words both ends' compressors know beforehand, each preceded by its length (section 2.6.10.1).
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
    content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";
/// The rest of them, run together.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
    Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
    Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov \
    Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
    application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=\
    iso-8859-1,utf-,*,enq=0.";

fn dictionary() -> Vec<u8> {
    let mut out = Vec::new();
    for word in WORDS.split(' ') {
        let word = word.replace('_', " ");
        out.put_u32(u32::try_from(word.len()).unwrap_or(0));
        out.put_slice(word.as_bytes());
    }
    out.put_slice(TAIL.as_bytes());
    out
}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum SpdyError {
    #[error("malformed SPDY frame: {0}")]
    Malformed(&'static str),
    #[error("SPDY frame of {len} bytes")]
    TooLong { len: usize },
}

/// Something one end tells the other.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A new stream.
    Open { stream: u32, fin: bool, headers: Vec<(String, String)> },
    /// The new stream is welcome.
    Reply { stream: u32 },
    /// Bytes of a stream; `fin`: the last.
    Data { stream: u32, fin: bool, bytes: Bytes },
    /// A stream is over, whatever was still to come.
    Reset { stream: u32 },
    /// To be sent back as it is.
    Ping { id: u32 },
    /// The other end leaves.
    GoAway,
    /// Settings, windows, more headers: nothing to do.
    Other,
}

/// One end of a connection.
pub(super) struct Codec {
    received: BytesMut,
    inflate: Decompress,
    deflate: Compress,
    /// The compressor gets the dictionary with its first block, the decompressor when it asks for it.
    fresh: bool,
}

impl Codec {
    pub(super) fn new() -> Codec {
        let (inflate, deflate) = (Decompress::new(true), Compress::new(Compression::fast(), true));
        Codec { received: BytesMut::new(), inflate, deflate, fresh: true }
    }

    /// Takes bytes from the other end.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next whole frame of what was received.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        let Some(head) = self.received.first_chunk::<HEAD_LEN>() else { return Ok(None) };
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (first, flags, len) = (word(0), head[4], (word(4) & 0x00ff_ffff) as usize);
        if len > FRAME_LEN_MAX {
            return Err(SpdyError::TooLong { len });
        }
        if self.received.len() < HEAD_LEN + len {
            return Ok(None);
        }
        self.received.advance(HEAD_LEN);
        let body = self.received.split_to(len).freeze();
        let fin = flags & FIN != 0;
        if first >> 31 == 0 {
            return Ok(Some(Frame::Data { stream: first, fin, bytes: body }));
        }
        self.control((first & 0xffff) as u16, fin, body).map(Some)
    }

    fn control(&mut self, kind: u16, fin: bool, mut body: Bytes) -> Result<Frame, SpdyError> {
        let mut number = || body.try_get_u32().map_err(|_| SpdyError::Malformed("a control frame ends early"));
        Ok(match kind {
            kind::SYN_STREAM => {
                let stream = number()? & 0x7fff_ffff;
                let _associated = number()?;
                // Priority and slot.
                body.try_get_u16().map_err(|_| SpdyError::Malformed("SYN_STREAM ends early"))?;
                Frame::Open { stream, fin, headers: self.headers(&body)? }
            }
            kind::SYN_REPLY => Frame::Reply { stream: number()? & 0x7fff_ffff },
            kind::RST_STREAM => Frame::Reset { stream: number()? & 0x7fff_ffff },
            kind::PING => Frame::Ping { id: number()? },
            kind::GOAWAY => Frame::GoAway,
            _ => Frame::Other,
        })
    }

    fn headers(&mut self, block: &[u8]) -> Result<Vec<(String, String)>, SpdyError> {
        let plain = self.inflated(block)?;
        let mut rest = plain.as_slice();
        let short = |_| SpdyError::Malformed("a header block ends early");
        let mut out = Vec::new();
        for _ in 0..rest.try_get_u32().map_err(short)? {
            let mut word = || -> Result<String, SpdyError> {
                let len = rest.try_get_u32().map_err(short)? as usize;
                let bytes = rest.get(..len).ok_or(SpdyError::Malformed("a header block ends early"))?;
                let word = String::from_utf8_lossy(bytes).into_owned();
                rest.advance(len);
                Ok(word)
            };
            out.push((word()?, word()?));
        }
        Ok(out)
    }

    fn inflated(&mut self, block: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut out = Vec::with_capacity(4096);
        let before = self.inflate.total_in();
        loop {
            let taken = (self.inflate.total_in() - before) as usize;
            match self.inflate.decompress_vec(&block[taken..], &mut out, FlushDecompress::Sync) {
                Ok(Status::Ok | Status::BufError | Status::StreamEnd) => {}
                Err(e) if e.needs_dictionary().is_some() => {
                    let set = self.inflate.set_dictionary(&dictionary());
                    set.map_err(|_| SpdyError::Malformed("headers of another dictionary"))?;
                    continue;
                }
                Err(_) => return Err(SpdyError::Malformed("headers that are no zlib stream")),
            }
            if out.len() < out.capacity() {
                return Ok(out);
            }
            if out.len() > HEADERS_LEN_MAX {
                return Err(SpdyError::Malformed("headers without end"));
            }
            out.reserve(4096);
        }
    }

    /// A frame as bytes for the other end.
    pub(super) fn send(&mut self, frame: &Frame) -> Bytes {
        match frame {
            Frame::Open { stream, fin, headers } => {
                let mut body = Vec::new();
                body.put_u32(*stream);
                body.put_u32(0);
                body.put_u16(0);
                body.put_slice(&self.deflated(headers));
                control(kind::SYN_STREAM, *fin, &body)
            }
            Frame::Reply { stream } => {
                let mut body = stream.to_be_bytes().to_vec();
                body.put_slice(&self.deflated(&[]));
                control(kind::SYN_REPLY, false, &body)
            }
            Frame::Data { stream, fin, bytes } => {
                let mut out = BytesMut::with_capacity(HEAD_LEN + bytes.len());
                out.put_u32(*stream);
                out.put_u32(head(*fin, bytes.len()));
                out.put_slice(bytes);
                out.freeze()
            }
            Frame::Reset { stream } => {
                // 5 is CANCEL.
                control(kind::RST_STREAM, false, &[stream.to_be_bytes(), 5u32.to_be_bytes()].concat())
            }
            Frame::Ping { id } => control(kind::PING, false, &id.to_be_bytes()),
            Frame::GoAway => control(kind::GOAWAY, false, &[0; 8]),
            Frame::Other => Bytes::new(),
        }
    }

    fn deflated(&mut self, headers: &[(String, String)]) -> Vec<u8> {
        if std::mem::take(&mut self.fresh) {
            // It can only fail in the middle of a stream.
            let _ = self.deflate.set_dictionary(&dictionary());
        }
        let mut plain = Vec::new();
        plain.put_u32(u32::try_from(headers.len()).unwrap_or(0));
        for word in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(u32::try_from(word.len()).unwrap_or(0));
            plain.put_slice(word.as_bytes());
        }
        // Room for the worst case, so that one call takes it all.
        let mut out = Vec::with_capacity(plain.len() + 256);
        let _ = self.deflate.compress_vec(&plain, &mut out, FlushCompress::Sync);
        out
    }
}

fn head(fin: bool, len: usize) -> u32 {
    u32::from(if fin { FIN } else { 0 }) << 24 | u32::try_from(len).unwrap_or(0) & 0x00ff_ffff
}

fn control(kind: u16, fin: bool, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_LEN + body.len());
    out.put_u16(VERSION | 1 << 15);
    out.put_u16(kind);
    out.put_u32(head(fin, body.len()));
    out.put_slice(body);
    out.freeze()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn open(stream: u32, request: &str) -> Frame {
        let pairs = [("streamtype", "data"), ("port", "8080"), ("requestid", request)];
        Frame::Open { stream, fin: false, headers: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec() }
    }

    #[test]
    fn the_dictionary_is_the_one_of_the_protocol() {
        // Its Adler-32, which every SPDY/3 header block names.
        let first = Codec::new().deflated(&[]);
        assert_eq!(first[2..6], 0xe3c6_a7c2_u32.to_be_bytes());
        assert_eq!(dictionary().len(), 1423);
    }

    #[test]
    fn frames_survive_the_way_in_pieces_of_any_size() {
        let data = Bytes::from_static(b"hello");
        let frames = || {
            [
                open(1, "0"),
                open(3, "1"),
                Frame::Reply { stream: 3 },
                Frame::Data { stream: 3, fin: true, bytes: data.clone() },
                Frame::Ping { id: 7 },
                Frame::Reset { stream: 1 },
                Frame::GoAway,
            ]
        };
        let mut sender = Codec::new();
        let bytes: Vec<u8> = frames().iter().flat_map(|frame| sender.send(frame).to_vec()).collect();
        for size in [1, 7, bytes.len()] {
            let mut codec = Codec::new();
            let mut seen = Vec::new();
            for piece in bytes.chunks(size) {
                codec.receive(piece);
                while let Some(frame) = codec.next().unwrap() {
                    seen.push(frame);
                }
            }
            assert_eq!(seen, frames(), "pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_frame_is_an_error_and_never_a_panic() {
        let table: [(&[u8], SpdyError); 3] = [
            (&[0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0], SpdyError::Malformed("a control frame ends early")),
            (&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff], SpdyError::TooLong { len: 0x00ff_ffff }),
            (
                &[0x80, 3, 0, 1, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2],
                SpdyError::Malformed("headers that are no zlib stream"),
            ),
        ];
        for (bytes, wanted) in table {
            let mut codec = Codec::new();
            codec.receive(bytes);
            assert_eq!(codec.next().unwrap_err(), wanted);
        }
    }
}
