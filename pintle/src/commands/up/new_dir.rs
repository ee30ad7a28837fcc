//! Takes back the state directory of a start that was refused before anything was put there.

use anyhow::{Context as _, Result};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A directory that is about to be made, and the first of its ancestors that must be made for it.
#[derive(Debug)]
pub struct NewDir {
    path: PathBuf,
    /// `None`: it was there before.
    topmost: Option<PathBuf>,
}

impl NewDir {
    /// Looks which part of `path` does not exist yet.
    pub fn note(path: &Path) -> Self {
        let topmost = path.ancestors().take_while(|a| !a.exists()).last().map(Path::to_owned);
        Self { path: path.to_owned(), topmost }
    }

    /// Removes the files and directories named, which the caller made, and with them what [`NewDir::note`] saw missing.
    /// A directory that was there before keeps everything; one that somebody else uses meanwhile stays.
    pub fn take_back(&self, files: &[&Path], dirs: &[&Path]) -> Result<()> {
        let Some(topmost) = &self.topmost else { return Ok(()) };
        for file in files {
            gone(fs::remove_file(file)).with_context(|| format!("cannot remove {}", file.display()))?;
        }
        let made = self.path.ancestors().take_while(|a| a.starts_with(topmost));
        for dir in dirs.iter().copied().chain(made) {
            gone(fs::remove_dir(dir)).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        Ok(())
    }
}

fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn what_was_made_goes_and_what_was_there_or_is_used_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let state = scratch.path().join("a/b");
        let (lock, log) = (state.join("lock"), state.join("log"));
        let make = || {
            let new = NewDir::note(&state);
            fs::create_dir_all(&log).unwrap();
            fs::write(&lock, "").unwrap();
            new.take_back(&[&lock], &[&log]).unwrap();
        };
        make();
        assert!(scratch.path().exists() && !scratch.path().join("a").exists());
        fs::create_dir_all(&state).unwrap();
        make();
        assert!(lock.exists() && log.exists());
    }
}
