//! Files that are whole or absent. Owns: atomic writes and modes. Does not own: what is in them.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::PkiError;

fn file_error(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PkiError {
    let path = path.to_owned();
    move |source| PkiError::File { verb, path, source }
}

/// A file's text, or None where there is none.
///
/// # Errors
/// [`PkiError::File`] for anything but absence.
pub fn read_text(path: &Path) -> Result<Option<String>, PkiError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error("read", path)(error)),
    }
}

/// Replaces `path` by `bytes` with this mode, durably: write beside it, fsync, rename.
///
/// # Errors
/// [`PkiError::File`].
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    // A leftover of an earlier kill may have another mode, which `create` would keep.
    match std::fs::remove_file(beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(file_error("remove", beside)(error)),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(mode).open(beside).map_err(file_error("create", beside))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(file_error("write", beside))?;
    std::fs::rename(beside, path).map_err(file_error("replace", path))
}

/// Makes a directory only its owner may enter; one that exists stays as it is.
pub(super) fn make_private_directory(path: &Path) -> Result<(), PkiError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(file_error("create", path))
}
