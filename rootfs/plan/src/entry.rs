//! What becomes of each entry of a layer's tar archive: created, turned into an overlay whiteout, skipped, or refused.
//!
//! This is the policy; `pintle-rootfs` carries it out beneath the layer's root (openat2, RESOLVE_IN_ROOT), so that even
//! a symlink inside the layer cannot lead a later entry out. Source for whiteouts: OCI image specification, layer.md.

use crate::path::{NAME_LENGTH_MAX, PATH_LENGTH_MAX};

pub use crate::path::LayerPath;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Names that aufs kept for itself and some old images still carry.
const AUFS: &[u8] = b".wh..wh.";

/// What the archive says an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular (or "contiguous") file.
    File,
    /// A second name of a file of the same layer.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A character or block device.
    Device,
    /// A sparse file in GNU's or the PAX dialects, which no image tool writes.
    Sparse,
    /// A header that only describes other entries.
    Metadata,
    /// Anything else, by its type byte.
    Other(u8),
}

/// A moment as archives write it: seconds since 1970, which may be negative, and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mtime {
    /// Seconds.
    pub seconds: i64,
    /// 0..1_000_000_000.
    pub nanoseconds: u32,
}

impl Mtime {
    /// Reads a PAX decimal such as `1700000000.25` or `-1.5`. None when it is no number.
    pub fn from_pax(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let seconds: i64 = whole.parse().ok()?;
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let nanoseconds: u32 = format!("{fraction:0<9.9}").parse().ok()?;
        if whole.starts_with('-') && nanoseconds > 0 {
            return Some(Self { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds });
        }
        Some(Self { seconds, nanoseconds })
    }
}

/// An archive entry's header, as raw as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Path bytes.
    pub path: &'a [u8],
    /// Link target bytes.
    pub link: Option<&'a [u8]>,
    /// Type.
    pub kind: Kind,
    /// Permission bits; anything above 0o7777 is ignored.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Modification time.
    pub mtime: Mtime,
}

/// Permissions, ownership and time to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// 0..=0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Mtime,
}

/// What to do with one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Give the layer's root these attributes.
    Root(Attributes),
    /// Make a directory, or give an existing one these attributes.
    Directory(LayerPath, Attributes),
    /// Write a file from the entry's data.
    File(LayerPath, Attributes),
    /// Make a symlink; its target is not looked at, because it is only ever followed beneath a root.
    Symlink(LayerPath, Vec<u8>, Attributes),
    /// Give an existing file of this layer a second name.
    HardLink {
        /// The new name.
        path: LayerPath,
        /// The existing name.
        existing: LayerPath,
    },
    /// Make a named pipe.
    Fifo(LayerPath, Attributes),
    /// Hide what lower layers have under this name (overlayfs: character device 0/0).
    Whiteout(LayerPath),
    /// Hide everything lower layers have in this directory (overlayfs: `trusted.overlay.opaque`); None is the root.
    Opaque(Option<LayerPath>),
    /// Nothing, for this reason.
    Skip(Skipped),
}

/// Why an entry is passed over without failing the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// A device node in `/dev`, over which every container gets its own `/dev`.
    DeviceInDev,
    /// Bookkeeping of aufs.
    Aufs,
    /// A global header.
    Metadata,
}

/// An entry that makes the whole layer unacceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {path:?} of the layer is refused: {why}")]
pub struct Refusal {
    /// The entry as written.
    pub path: String,
    /// The reason.
    pub why: Why,
}

/// Reasons for refusing an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// No name.
    #[error("its path is empty")]
    EmptyPath,
    /// A zero byte in a name.
    #[error("its path or link contains a zero byte")]
    ZeroByte,
    /// `..` in a path.
    #[error("its path contains \"..\"")]
    DotDot,
    /// A component is longer than a file name may be.
    #[error("a component of its path is longer than {NAME_LENGTH_MAX} bytes")]
    NameTooLong,
    /// The path is longer than a path may be.
    #[error("its path or link is longer than {PATH_LENGTH_MAX} bytes")]
    PathTooLong,
    /// A whiteout that hides nothing nameable.
    #[error("it is a whiteout of no name, or of \".\" or \"..\"")]
    WhiteoutName,
    /// A path through a whiteout.
    #[error("it lies beneath a whiteout")]
    BeneathWhiteout,
    /// The root can only be a directory.
    #[error("it would replace the root directory")]
    ReplacesRoot,
    /// A link without a target.
    #[error("it is a link without a target")]
    NoTarget,
    /// A hard link whose target leaves the layer.
    #[error("it is a hard link to {target:?}, which is not a path inside the layer")]
    HardLinkTarget {
        /// The target as written.
        target: String,
    },
    /// A device node outside `/dev`.
    #[error("it is a device node outside /dev")]
    Device,
    /// A sparse file.
    #[error("it is a sparse file; pack the layer without sparse files")]
    Sparse,
    /// An unknown type.
    #[error("its type {:?} is unknown", char::from(*.0))]
    UnknownType(u8),
    /// Owner or group beyond 32 bits.
    #[error("its owner {uid}:{gid} does not fit 32 bits")]
    Owner {
        /// Owner.
        uid: u64,
        /// Group.
        gid: u64,
    },
}

/// Decides what becomes of one entry.
pub fn decide(header: &Header<'_>) -> Result<Action, Refusal> {
    if header.kind == Kind::Metadata {
        return Ok(Action::Skip(Skipped::Metadata));
    }
    let refuse = |why| Err(Refusal { path: lossy(header.path), why });
    let attributes = attributes(header)?;
    let Some(path) = LayerPath::parse(header.path)? else {
        return match header.kind {
            Kind::Directory => Ok(Action::Root(attributes)),
            _ => refuse(Why::ReplacesRoot),
        };
    };
    if path.parent_bytes().split(|b| *b == b'/').any(|name| name.starts_with(WHITEOUT)) {
        return refuse(Why::BeneathWhiteout);
    }
    if path.name().starts_with(WHITEOUT) {
        return whiteout(&path).map_err(|why| Refusal { path: lossy(header.path), why });
    }
    match header.kind {
        Kind::Directory => Ok(Action::Directory(path, attributes)),
        Kind::File => Ok(Action::File(path, attributes)),
        Kind::Fifo => Ok(Action::Fifo(path, attributes)),
        Kind::Symlink => match link_target(header) {
            Ok(target) => Ok(Action::Symlink(path, target.to_vec(), attributes)),
            Err(why) => refuse(why),
        },
        Kind::HardLink => match link_target(header).and_then(hard_link_target) {
            Ok(existing) => Ok(Action::HardLink { path, existing }),
            Err(why) => refuse(why),
        },
        Kind::Device if path.as_bytes().starts_with(b"dev/") => Ok(Action::Skip(Skipped::DeviceInDev)),
        Kind::Device => refuse(Why::Device),
        Kind::Sparse => refuse(Why::Sparse),
        Kind::Other(kind) => refuse(Why::UnknownType(kind)),
        Kind::Metadata => Ok(Action::Skip(Skipped::Metadata)),
    }
}

fn attributes(header: &Header<'_>) -> Result<Attributes, Refusal> {
    let (Ok(uid), Ok(gid)) = (u32::try_from(header.uid), u32::try_from(header.gid)) else {
        let why = Why::Owner { uid: header.uid, gid: header.gid };
        return Err(Refusal { path: lossy(header.path), why });
    };
    Ok(Attributes { mode: header.mode & 0o7777, uid, gid, mtime: header.mtime })
}

fn whiteout(path: &LayerPath) -> Result<Action, Why> {
    let name = path.name();
    if name == OPAQUE {
        return Ok(Action::Opaque(path.parent()));
    }
    if name.starts_with(AUFS) {
        return Ok(Action::Skip(Skipped::Aufs));
    }
    match &name[WHITEOUT.len()..] {
        b"" | b"." | b".." => Err(Why::WhiteoutName),
        hidden => Ok(Action::Whiteout(path.sibling(hidden))),
    }
}

fn link_target<'a>(header: &Header<'a>) -> Result<&'a [u8], Why> {
    match header.link {
        None | Some(b"") => Err(Why::NoTarget),
        Some(target) if target.contains(&0) => Err(Why::ZeroByte),
        Some(target) if target.len() > PATH_LENGTH_MAX => Err(Why::PathTooLong),
        Some(target) => Ok(target),
    }
}

fn hard_link_target(target: &[u8]) -> Result<LayerPath, Why> {
    let outside = || Why::HardLinkTarget { target: lossy(target) };
    let existing = LayerPath::parse(target).map_err(|_| outside())?.ok_or_else(outside)?;
    if existing.as_bytes().split(|b| *b == b'/').any(|name| name.starts_with(WHITEOUT)) {
        return Err(Why::BeneathWhiteout);
    }
    Ok(existing)
}

/// What becomes of an extended attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrRule {
    /// Set; failing fails the layer, because the file would not work without it.
    Required,
    /// Set where the file system can.
    Wanted,
    /// Belongs to another machine or to overlayfs itself: never taken from an archive.
    Dropped,
}

/// Decides over an extended attribute by its name. `trusted.overlay.*` from an archive would let a layer redirect
/// overlayfs to other files; labels of SELinux, IMA and EVM mean something only where they were made.
pub fn xattr_rule(name: &[u8]) -> XattrRule {
    match name {
        b"security.capability" => XattrRule::Required,
        b"system.posix_acl_access" | b"system.posix_acl_default" => XattrRule::Wanted,
        _ if name.contains(&0) => XattrRule::Dropped,
        _ if name.starts_with(b"user.overlay.") => XattrRule::Dropped,
        _ if name.starts_with(b"user.") && name.len() > 5 => XattrRule::Wanted,
        _ => XattrRule::Dropped,
    }
}

pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn header(path: &str, kind: Kind, link: Option<&'static str>) -> String {
        let header = Header {
            path: path.as_bytes(),
            link: link.map(str::as_bytes),
            kind,
            mode: 0o100_644,
            uid: 0,
            gid: 0,
            mtime: Mtime::default(),
        };
        match decide(&header) {
            Ok(Action::File(path, a)) => format!("file {path} {:o}", a.mode),
            Ok(Action::Directory(path, _)) => format!("directory {path}"),
            Ok(Action::Symlink(path, target, _)) => format!("symlink {path} -> {}", lossy(&target)),
            Ok(other) => format!("{other:?}"),
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn every_kind_of_entry_has_one_answer() {
        let lines = [
            header("./etc/passwd", Kind::File, None),
            header("/etc//passwd", Kind::File, None),
            header("./", Kind::Directory, None),
            header(".", Kind::File, None),
            header("", Kind::File, None),
            header("a/../../etc/passwd", Kind::File, None),
            header("a\0b", Kind::File, None),
            header(&"x".repeat(256), Kind::Directory, None),
            header("bin", Kind::Symlink, Some("/usr/bin")),
            header("up", Kind::Symlink, Some("../../../etc")),
            header("none", Kind::Symlink, None),
            header("b", Kind::HardLink, Some("./a")),
            header("b", Kind::HardLink, Some("../etc/shadow")),
            header("b", Kind::HardLink, Some("/")),
            header("pipe", Kind::Fifo, None),
            header("dev/null", Kind::Device, None),
            header("devil", Kind::Device, None),
            header("disk", Kind::Device, None),
            header("s", Kind::Sparse, None),
            header("d", Kind::Other(b'D'), None),
            header("x", Kind::Metadata, None),
            header("etc/.wh.shadow", Kind::File, None),
            header(".wh.etc", Kind::File, None),
            header("etc/.wh..wh..opq", Kind::File, None),
            header(".wh..wh..opq", Kind::File, None),
            header(".wh..wh.plnk", Kind::Directory, None),
            header(".wh.", Kind::File, None),
            header(".wh...", Kind::File, None),
            header(".wh.a/b", Kind::File, None),
        ];
        insta::assert_snapshot!(lines.join("\n"), @r#"
        file etc/passwd 644
        file etc/passwd 644
        Root(Attributes { mode: 420, uid: 0, gid: 0, mtime: Mtime { seconds: 0, nanoseconds: 0 } })
        entry "." of the layer is refused: it would replace the root directory
        entry "" of the layer is refused: its path is empty
        entry "a/../../etc/passwd" of the layer is refused: its path contains ".."
        entry "a\0b" of the layer is refused: its path or link contains a zero byte
        entry "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" of the layer is refused: a component of its path is longer than 255 bytes
        symlink bin -> /usr/bin
        symlink up -> ../../../etc
        entry "none" of the layer is refused: it is a link without a target
        HardLink { path: "b", existing: "a" }
        entry "b" of the layer is refused: it is a hard link to "../etc/shadow", which is not a path inside the layer
        entry "b" of the layer is refused: it is a hard link to "/", which is not a path inside the layer
        Fifo("pipe", Attributes { mode: 420, uid: 0, gid: 0, mtime: Mtime { seconds: 0, nanoseconds: 0 } })
        Skip(DeviceInDev)
        entry "devil" of the layer is refused: it is a device node outside /dev
        entry "disk" of the layer is refused: it is a device node outside /dev
        entry "s" of the layer is refused: it is a sparse file; pack the layer without sparse files
        entry "d" of the layer is refused: its type 'D' is unknown
        Skip(Metadata)
        Whiteout("etc/shadow")
        Whiteout("etc")
        Opaque(Some("etc"))
        Opaque(None)
        Skip(Aufs)
        entry ".wh." of the layer is refused: it is a whiteout of no name, or of "." or ".."
        entry ".wh..." of the layer is refused: it is a whiteout of no name, or of "." or ".."
        entry ".wh.a/b" of the layer is refused: it lies beneath a whiteout
        "#);
    }

    #[test]
    fn owners_beyond_32_bits_are_refused() {
        let header =
            Header { path: b"a", link: None, kind: Kind::File, mode: 0, uid: 1 << 32, gid: 0, mtime: Mtime::default() };
        assert_eq!(decide(&header).unwrap_err().why, Why::Owner { uid: 1 << 32, gid: 0 });
    }

    #[test]
    fn pax_times_keep_their_fractions() {
        for (text, want) in [
            ("1700000000", Some((1_700_000_000, 0))),
            ("1.5", Some((1, 500_000_000))),
            ("1.1234567891", Some((1, 123_456_789))),
            ("-1.5", Some((-2, 500_000_000))),
            ("-1", Some((-1, 0))),
            ("1.x", None),
            ("", None),
        ] {
            let time = Mtime::from_pax(text).map(|t| (t.seconds, t.nanoseconds));
            assert_eq!(time, want, "{text}");
        }
    }

    #[test]
    fn only_harmless_extended_attributes_are_taken() {
        for (name, want) in [
            ("security.capability", XattrRule::Required),
            ("user.note", XattrRule::Wanted),
            ("system.posix_acl_access", XattrRule::Wanted),
            ("trusted.overlay.opaque", XattrRule::Dropped),
            ("trusted.overlay.redirect", XattrRule::Dropped),
            ("user.overlay.opaque", XattrRule::Dropped),
            ("security.selinux", XattrRule::Dropped),
            ("user.", XattrRule::Dropped),
        ] {
            assert_eq!(xattr_rule(name.as_bytes()), want, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_whiteout_never_names_anything_but_a_sibling(name in "[a-z.]{0,8}") {
            let raw = format!("dir/.wh.{name}");
            let header = Header {
                path: raw.as_bytes(), link: None, kind: Kind::File, mode: 0, uid: 0, gid: 0, mtime: Mtime::default(),
            };
            if let Ok(Action::Whiteout(path)) = decide(&header) {
                prop_assert_eq!(path.parent_bytes(), b"dir");
                prop_assert!(path.name() != b"." && path.name() != b"..");
            }
        }
    }
}
