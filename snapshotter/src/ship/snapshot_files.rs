//! The files with large snapshots, which lie beside the resources for the dynamic module that name them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgefold_snapshot::{Fingerprint, MAX_SNAPSHOT_BYTES, SnapshotFile};
use tracing::warn;

use super::ecds::{Payload, payload_in};
use crate::replace::{TEMPORARY, folder};

/// The most bytes of a snapshot that are in a resource for the dynamic module: one file is renamed faster than two, and the copies that Envoy
/// keeps of so few bytes do not matter.
pub const MOST_INLINE_BYTES: usize = 64 * 1024;

/// An Envoy that has read a resource has also read the snapshot that it names after this time.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// What the name of a file with a snapshot ends with.
const EXTENSION: &str = ".snapshot";

/// The files with snapshots of one filter.
#[derive(Debug)]
pub(super) struct SnapshotFiles {
    /// Those that are there, or were to be written.
    there: BTreeSet<PathBuf>,
    /// When it was last looked for those that nobody needs; `None` before the first time.
    looked: Option<Instant>,
}

impl SnapshotFiles {
    /// Those that earlier processes have left for `resources`. What a killed one has begun is removed.
    pub(super) fn find<'a>(resources: impl Iterator<Item = &'a Path>) -> Self {
        let mut there = BTreeSet::new();
        for resource in resources {
            for entry in fs::read_dir(folder(resource)).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let path = folder(resource).join(&name);
                if after_name(resource, &name) == Some("") {
                    there.insert(path);
                } else if name
                    .strip_prefix('.')
                    .and_then(|name| after_name(resource, name))
                    .is_some_and(|rest| rest.starts_with(TEMPORARY))
                {
                    let _removed = fs::remove_file(path);
                }
            }
        }
        Self { there, looked: None }
    }

    /// Those that are `wanted` are there now, or will be. Of the others, removes those that no resource in `folders` names, whoever ships it. If
    /// none of the wanted ones `is_new`, it only looks now and then.
    pub(super) fn keep(&mut self, wanted: BTreeSet<PathBuf>, folders: &BTreeSet<&Path>, is_new: bool) {
        self.there.extend(wanted.iter().cloned());
        let is_due = is_new || self.looked.is_none_or(|looked| looked.elapsed() > READ_WITHIN);
        if self.there.len() == wanted.len() || !is_due {
            return;
        }
        self.looked = Some(Instant::now());
        let named = match folders.iter().copied().map(names_in).collect::<io::Result<Vec<_>>>() {
            Ok(named) => named.concat(),
            Err(error) => {
                return warn!("old files with snapshots are not removed, since others may need them: {error}");
            }
        };
        let is_old =
            |path: &&PathBuf| !wanted.contains(*path) && !named.iter().any(|name| path.file_name() == Some(name));
        let old: Vec<PathBuf> = self.there.iter().filter(is_old).cloned().collect();
        // After a power failure a resource that named one of them must not be there again.
        let sync = |folder: &&Path| File::open(folder).and_then(|folder| folder.sync_all()).is_ok();
        if !old.is_empty() && folders.iter().all(sync) {
            for path in old {
                if fs::remove_file(&path).is_ok() || !path.exists() {
                    self.there.remove(&path);
                }
            }
        }
    }
}

/// The name of the file with a snapshot of `resource`. Nobody else ships to that, so nobody else has such files.
pub(super) fn name(resource: &Path, fingerprint: Fingerprint) -> String {
    format!("{}{fingerprint}{EXTENSION}", prefix(resource))
}

fn prefix(resource: &Path) -> String {
    format!("{}.", resource.file_stem().unwrap_or_default().to_string_lossy())
}

/// What follows the name of a file with a snapshot of `resource` in this name; `None` if it does not begin with one.
fn after_name<'a>(resource: &Path, name: &'a str) -> Option<&'a str> {
    let (fingerprint, rest) = name.strip_prefix(&prefix(resource))?.split_once(EXTENSION)?;
    Fingerprint::from_text(fingerprint, 0).map(|_| rest)
}

/// The names of the files with snapshots that the resources in a folder name, whoever ships them.
///
/// # Errors
/// Those of the file system: then nobody knows.
fn names_in(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension() != Some(OsStr::new("pb")) {
            continue;
        }
        // A resource that names its snapshot is short.
        let is_short = |file: &Metadata| file.is_file() && file.len() <= 2 * MOST_INLINE_BYTES as u64;
        let resource = match fs::metadata(&path).map(|file| is_short(&file)) {
            Ok(true) => fs::read(&path),
            Ok(false) => continue,
            Err(error) => Err(error),
        };
        match resource {
            Ok(resource) => {
                if let Some(Payload::File(file)) = payload_in(&resource.into()) {
                    names.extend(Path::new(&file.path).file_name().map(ToOwned::to_owned));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }
    Ok(names)
}

/// Where a file is that the resource in the file `resource` names: beside that, or where Envoy sees it.
pub fn find_named(path: &str, resource: &Path) -> PathBuf {
    let named = PathBuf::from(path);
    let beside = resource.with_file_name(named.file_name().unwrap_or_default());
    if beside.is_file() { beside } else { named }
}

/// Reads the snapshot that the resource in the file `resource` names, and says [where it is](find_named).
///
/// # Errors
/// Those of the file system, and [`io::ErrorKind::InvalidData`] if the file has another snapshot.
pub fn read_named(file: &SnapshotFile, resource: &Path) -> io::Result<(PathBuf, Bytes)> {
    let SnapshotFile { path, fingerprint } = file;
    let path = find_named(path, resource);
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("its snapshot {}: {error}", path.display()));
    let is_as_long = |found: Metadata| found.is_file() && found.len() == fingerprint.bytes();
    let is_it =
        fs::metadata(&path).map_err(failed).map(is_as_long)? && fingerprint.bytes() <= MAX_SNAPSHOT_BYTES as u64;
    let snapshot = if is_it { fs::read(&path).map_err(failed)? } else { Vec::new() };
    if Fingerprint::of(&snapshot) == Some(*fingerprint) {
        return Ok((path, snapshot.into()));
    }
    Err(failed(io::Error::new(io::ErrorKind::InvalidData, format!("it is not the snapshot {fingerprint}"))))
}
