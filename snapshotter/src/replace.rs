//! Replacing a file as a whole, and noticing that somebody else has.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;

/// What follows the name of a file in that of one that is to take its place.
pub(crate) const TEMPORARY: &str = ".edgefold-";

/// Tells a file from one that somebody else has put in its place, or written to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Identity {
    inode: u64,
    size: u64,
    modified: Option<SystemTime>,
}

/// Short, and without white space.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let modified = self.modified.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
        write!(f, "{:x}.{:x}", self.inode, modified.as_nanos())
    }
}

impl Identity {
    /// That of the file at `path`; `None` if there is none.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|file| Self::of(&file))
    }

    pub(crate) fn of(file: &Metadata) -> Self {
        Self { inode: file.ino(), size: file.size(), modified: file.modified().ok() }
    }
}

/// Replaces the file at `path` atomically: whoever opens it finds either the old or the new content, whole, even after a power
/// failure. Envoy only watches for the rename.
///
/// # Errors
/// Those of the file system. The old content is still there then.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    publish(stage(path, bytes)?, path).map(drop)
}

/// Writes `bytes` to a new file beside `path`.
pub(crate) fn stage(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    // In the same folder, because a rename does not cross file systems.
    let mut file = tempfile::Builder::new().prefix(&temporary_prefix(path)).tempfile_in(folder(path))?;
    // Readable for an Envoy that runs as another user, whatever the umask.
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Moves a file that was written beside `path` there.
pub(crate) fn publish(file: NamedTempFile, path: &Path) -> io::Result<Metadata> {
    // Not made durable: after a power failure the old content is as good, and is replaced as soon as a process runs again.
    file.persist(path)?.metadata()
}

pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes what a process that was killed has left beside `path`, if it is at least as old as `age`.
pub(crate) fn remove_temporary(path: &Path, age: Duration) {
    for entry in fs::read_dir(folder(path)).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|file| file.modified());
        let is_old = age.is_zero() || modified.is_ok_and(|at| at.elapsed().is_ok_and(|elapsed| elapsed >= age));
        if is_old && entry.file_name().to_string_lossy().starts_with(&temporary_prefix(path)) {
            let _removed = fs::remove_file(entry.path());
        }
    }
}

/// What the names of temporary files beside `path` begin with.
fn temporary_prefix(path: &Path) -> String {
    format!(".{}{TEMPORARY}", path.file_name().map_or("".into(), OsStr::to_string_lossy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edgefold.pb");
        for content in [&b"old"[..], b"new"] {
            replace_file(&path, content).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(replace_file(&directory.path().join("missing/edgefold.pb"), b"").is_err());
    }
}
