//! Reading the kernel's small files.

use std::io::Read as _;
use std::path::Path;

/// The whole of a file whose size nobody can tell: those of procfs and cgroupfs say 0, for which the library asks first
/// and then reads 32, 64, 128, … bytes, each time making the kernel write the text anew.
pub fn read(path: impl AsRef<Path>) -> std::io::Result<String> {
    const MOST_ARE_SMALLER: usize = 4096;
    let mut text = String::with_capacity(MOST_ARE_SMALLER);
    // A limit hides from the library that it could ask for the size.
    std::fs::File::open(path)?.take(u64::MAX).read_to_string(&mut text)?;
    Ok(text)
}
