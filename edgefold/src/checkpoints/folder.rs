//! The folder of checkpoints: the only place here that does IO.
//!
//! Anybody may delete or damage what is in it, at any time, so each reader checks what it reads. Each file is written under a temporary
//! name and then renamed, so a reader sees all of it or nothing. Files of other names are somebody else's, and are left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::LogTime;

/// Which fold: the one at this position. In their order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct FoldName {
    pub(super) next_offset: u64,
    pub(super) log_time: LogTime,
}

/// Which segment: the records from one offset on, up to but not including another.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct SegmentName {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// A file that is written here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FileName {
    Fold(FoldName),
    Segment(SegmentName),
    /// A file that is being written.
    Temporary(u64),
}

/// A temporary file that is older than the newest fold by this much is a leftover: its writer is gone.
const LONGEST_WRITE: Duration = Duration::from_secs(60 * 60);
/// Larger files are not read. All folds together are not larger.
const MOST_BYTES: u64 = 1 << 30;

impl From<FoldName> for FileName {
    fn from(name: FoldName) -> Self {
        Self::Fold(name)
    }
}

impl From<SegmentName> for FileName {
    fn from(name: SegmentName) -> Self {
        Self::Segment(name)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fold(FoldName { next_offset, log_time }) => {
                write!(f, "{next_offset:020}-{:015}.fold", log_time.millis())
            }
            Self::Segment(SegmentName { from, to }) => write!(f, "{from:020}-{to:020}.segment"),
            Self::Temporary(number) => write!(f, "edgefold-{number:020}.tmp"),
        }
    }
}

impl FileName {
    /// `None` for a name that is not written here.
    fn parse(name: &str) -> Option<Self> {
        let (stem, extension) = name.rsplit_once('.')?;
        let (first, second) = stem.split_once('-')?;
        let second: u64 = second.parse().ok()?;
        let parsed = match extension {
            "fold" => {
                let (next_offset, log_time) = (first.parse().ok()?, LogTime::from_millis(second)?);
                Self::Fold(FoldName { next_offset, log_time })
            }
            "segment" => Self::Segment(SegmentName { from: first.parse().ok()?, to: second }),
            _ => Self::Temporary(second),
        };
        (parsed.to_string() == name).then_some(parsed)
    }
}

/// What is in the folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// With their sizes in bytes.
    pub(super) folds: BTreeMap<FoldName, u64>,
    pub(super) segments: BTreeSet<SegmentName>,
}

/// A folder that need not exist.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Lists what is there. Removes temporary files of processes that ended while they wrote.
    pub(super) fn list(&self) -> io::Result<Listing> {
        let mut listing = Listing::default();
        let (mut newest, mut temporaries) = (None, Vec::new());
        for (name, path) in self.files()? {
            match name {
                FileName::Fold(name) => {
                    if let Some(file) = unless_gone(fs::metadata(&path))?.filter(is_readable) {
                        newest = newest.max(file.modified().ok());
                        listing.folds.insert(name, file.len());
                    }
                }
                FileName::Segment(name) => _ = listing.segments.insert(name),
                FileName::Temporary(_) => temporaries.push(path),
            }
        }
        for path in temporaries {
            let modified = unless_gone(fs::metadata(&path))?.and_then(|file| file.modified().ok());
            let age = newest.zip(modified).and_then(|(newest, modified)| newest.duration_since(modified).ok());
            if age.is_some_and(|age| age > LONGEST_WRITE) {
                let _maybe_read_only = fs::remove_file(path);
            }
        }
        Ok(listing)
    }

    /// The bytes of a file; `None` if it is gone, or is not a file that is written here.
    pub(super) fn read(&self, name: impl Into<FileName>) -> io::Result<Option<Vec<u8>>> {
        let path = self.file(name);
        // Opening a pipe would block.
        if !unless_gone(fs::metadata(&path))?.as_ref().is_some_and(is_readable) {
            return Ok(None);
        }
        let read = || {
            let mut bytes = Vec::new();
            File::open(&path)?.take(MOST_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        unless_gone(read())
    }

    /// Writes a file whole. If the folder is deleted meanwhile, nothing is written.
    pub(super) fn write(&self, name: impl Into<FileName>, bytes: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        // Processes with the same number may share the folder, in containers, so the name is random.
        let temporary = self.file(FileName::Temporary(RandomState::new().hash_one(std::process::id())));
        let write = || {
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?.write_all(bytes)?;
            fs::rename(&temporary, self.file(name))
        };
        let written = unless_gone(write()).map(drop);
        if written.is_err() {
            let _maybe_full = fs::remove_file(&temporary);
        }
        written
    }

    pub(super) fn remove(&self, name: impl Into<FileName>) -> io::Result<()> {
        unless_gone(fs::remove_file(self.file(name))).map(drop)
    }

    /// Removes all files that are written here, also those that another process is about to rename.
    pub(super) fn clear(&self) -> io::Result<()> {
        self.files()?.into_iter().try_for_each(|(name, _)| self.remove(name))
    }

    fn file(&self, name: impl Into<FileName>) -> PathBuf {
        self.0.join(name.into().to_string())
    }

    fn files(&self) -> io::Result<Vec<(FileName, PathBuf)>> {
        let Some(entries) = unless_gone(fs::read_dir(&self.0))? else { return Ok(Vec::new()) };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            files.extend(entry.file_name().to_str().and_then(FileName::parse).map(|name| (name, entry.path())));
        }
        Ok(files)
    }
}

fn is_readable(file: &fs::Metadata) -> bool {
    file.is_file() && file.len() <= MOST_BYTES
}

/// `None` if the file or the folder does not exist.
fn unless_gone<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_written_are_recognized() {
        let fold = FoldName { next_offset: 3, log_time: LogTime::from_millis(5).unwrap() };
        for name in [fold.into(), SegmentName { from: 1, to: u64::MAX }.into(), FileName::Temporary(u64::MAX)] {
            assert_eq!(FileName::parse(&name.to_string()), Some(name));
        }
        for foreign in ["a.tmp", "1-2.tmp", "1-2.fold", "03-5.segment", "edgefold-1.tmp", "-.fold", ".tmp", ""] {
            assert_eq!(FileName::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn what_is_not_a_file_of_a_sensible_size_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::new(directory.path());
        let names = [1, 2, 3].map(|to| SegmentName { from: 0, to });
        fs::create_dir(folder.file(names[0])).unwrap();
        // It takes no room on the disk.
        File::create(folder.file(names[1])).unwrap().set_len(MOST_BYTES + 1).unwrap();
        for name in names {
            assert_eq!(folder.read(name).unwrap(), None);
        }
        folder.write(names[2], b"bytes").unwrap();
        assert_eq!(folder.read(names[2]).unwrap().unwrap(), b"bytes");
    }
}
