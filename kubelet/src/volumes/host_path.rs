//! hostPath volumes: is the path what the pod expects.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use pintle_kubelet_plan::volumes::HostPathType;

use crate::disk;
use crate::error::{At as _, PodError};

/// Checks the path, making it where the type says so.
pub(super) fn check(path: &str, expect: HostPathType) -> Result<(), PodError> {
    let place = Path::new(path);
    match expect {
        HostPathType::Any => {
            // As other kubelets: a bind mount needs something to bind, and a directory is the least surprising.
            return if place.exists() { Ok(()) } else { Ok(disk::make_dir(place, 0o755)?) };
        }
        HostPathType::DirectoryOrCreate if !place.exists() => disk::make_dir(place, 0o755)?,
        HostPathType::FileOrCreate if !place.exists() => {
            fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(place).at("make", place)?;
        }
        HostPathType::DirectoryOrCreate
        | HostPathType::FileOrCreate
        | HostPathType::Directory
        | HostPathType::File
        | HostPathType::Socket
        | HostPathType::CharDevice
        | HostPathType::BlockDevice => {}
    }
    let kind = fs::metadata(place).ok().map(|m| m.file_type());
    let (fits, expected) = match expect {
        HostPathType::Any => (true, "anything"),
        HostPathType::Directory | HostPathType::DirectoryOrCreate => (kind.is_some_and(|k| k.is_dir()), "a directory"),
        HostPathType::File | HostPathType::FileOrCreate => (kind.is_some_and(|k| k.is_file()), "a file"),
        HostPathType::Socket => (kind.is_some_and(|k| k.is_socket()), "a socket file"),
        HostPathType::CharDevice => (kind.is_some_and(|k| k.is_char_device()), "a character device"),
        HostPathType::BlockDevice => (kind.is_some_and(|k| k.is_block_device()), "a block device"),
    };
    if fits { Ok(()) } else { Err(PodError::HostPath { path: path.to_owned(), expected }) }
}
