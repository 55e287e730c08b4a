//! The folder of checkpoints: the only place here that does IO.
//!
//! Anybody may delete or damage what is in it, at any time: whoever reads a file checks it. Each file is written under a temporary
//! name and then renamed, so a reader sees all of it or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
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

const FOLD: &str = "fold";
const SEGMENT: &str = "segment";
const TEMPORARY: &str = "tmp";
/// A temporary file that is older than the newest fold by this much is no longer written.
const LONGEST_WRITE: Duration = Duration::from_secs(60 * 60);

impl FoldName {
    fn file(self) -> String {
        format!("{:020}-{:015}.{FOLD}", self.next_offset, self.log_time.millis())
    }

    fn parse(stem: &str) -> Option<Self> {
        let (next_offset, log_time) = stem.split_once('-')?;
        let log_time = LogTime::from_millis(log_time.parse().ok()?)?;
        Some(Self { next_offset: next_offset.parse().ok()?, log_time })
    }
}

impl SegmentName {
    fn file(self) -> String {
        format!("{:020}-{:020}.{SEGMENT}", self.from, self.to)
    }

    fn parse(stem: &str) -> Option<Self> {
        let (from, to) = stem.split_once('-')?;
        Some(Self { from: from.parse().ok()?, to: to.parse().ok()? })
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

    /// Lists what is there. Removes what a process has left that ended while it wrote.
    pub(super) fn list(&self) -> io::Result<Listing> {
        let mut listing = Listing::default();
        let (mut newest, mut temporaries) = (None, Vec::new());
        for path in self.files()? {
            let (Some(stem), Some(extension)) = (path.file_stem().and_then(OsStr::to_str), path.extension()) else {
                continue;
            };
            // Only names that are written here, so that removing what is listed removes a file.
            let is_named = |name: &str| path.file_name() == Some(OsStr::new(name));
            if extension == FOLD
                && let Some(name) = FoldName::parse(stem)
                && is_named(&name.file())
                && let Some(file) = unless_gone(fs::metadata(&path))?
            {
                newest = newest.max(file.modified().ok());
                listing.folds.insert(name, file.len());
            } else if extension == TEMPORARY {
                temporaries.push(path);
            } else if extension == SEGMENT
                && let Some(name) = SegmentName::parse(stem)
                && is_named(&name.file())
            {
                listing.segments.insert(name);
            }
        }
        for path in temporaries {
            let modified = unless_gone(fs::metadata(&path))?.and_then(|file| file.modified().ok());
            let age = newest.zip(modified).and_then(|(newest, modified)| newest.duration_since(modified).ok());
            if age.is_some_and(|age| age > LONGEST_WRITE) {
                unless_gone(fs::remove_file(path))?;
            }
        }
        Ok(listing)
    }

    /// The bytes of a fold; `None` if it is gone.
    pub(super) fn read_fold(&self, name: FoldName) -> io::Result<Option<Vec<u8>>> {
        unless_gone(fs::read(self.0.join(name.file())))
    }

    /// The bytes of a segment; `None` if it is gone.
    pub(super) fn read_segment(&self, name: SegmentName) -> io::Result<Option<Vec<u8>>> {
        unless_gone(fs::read(self.0.join(name.file())))
    }

    pub(super) fn write_fold(&self, name: FoldName, bytes: &[u8]) -> io::Result<()> {
        self.write(&name.file(), bytes)
    }

    pub(super) fn write_segment(&self, name: SegmentName, bytes: &[u8]) -> io::Result<()> {
        self.write(&name.file(), bytes)
    }

    pub(super) fn remove_fold(&self, name: FoldName) -> io::Result<()> {
        unless_gone(fs::remove_file(self.0.join(name.file()))).map(drop)
    }

    pub(super) fn remove_segment(&self, name: SegmentName) -> io::Result<()> {
        unless_gone(fs::remove_file(self.0.join(name.file()))).map(drop)
    }

    /// Removes all files that are written here, also those that another process is about to rename.
    pub(super) fn clear(&self) -> io::Result<()> {
        for path in self.files()? {
            if [FOLD, SEGMENT, TEMPORARY].iter().any(|ours| path.extension() == Some(OsStr::new(ours))) {
                unless_gone(fs::remove_file(path))?;
            }
        }
        Ok(())
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let Some(entries) = unless_gone(fs::read_dir(&self.0))? else { return Ok(Vec::new()) };
        entries.map(|entry| Ok(entry?.path())).collect()
    }

    /// Writes a file whole. If the folder is deleted meanwhile, nothing is written.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        static WRITES: AtomicU64 = AtomicU64::new(0);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let number = WRITES.fetch_add(1, Ordering::Relaxed);
        let temporary = self.0.join(format!("{}-{number}.{TEMPORARY}", std::process::id()));
        // A process with the same number may have crashed.
        unless_gone(fs::remove_file(&temporary))?;
        let write = || {
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?.write_all(bytes)?;
            fs::rename(&temporary, self.0.join(name))
        };
        let written = unless_gone(write()).map(drop);
        if written.is_err() {
            let _maybe_full = fs::remove_file(&temporary);
        }
        written
    }
}

/// `None` if the file or the folder does not exist.
fn unless_gone<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
