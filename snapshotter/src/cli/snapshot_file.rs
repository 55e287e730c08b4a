//! Reading a file with a snapshot: as `edgefold snapshot` writes it, or an ECDS file.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use edgefold::{Block, SavedList, Until};
use edgefold_snapshot::{Layers, Role, Snapshot, is_like_a_snapshot};

use super::CliError;
use crate::ship::ecds::{Payload, is_like_a_resource, payload_in};
use crate::ship::snapshot_files::read_named;

/// How much of a file says whether it is one.
const HEAD_BYTES: u64 = 4096;

/// The snapshot in a file, or in the file that it names, and the size of the file with the snapshot.
pub(super) fn open(path: &Path) -> Result<(Snapshot<Bytes>, usize), CliError> {
    let bytes = Bytes::from(std::fs::read(path).map_err(CliError::file(path))?);
    let mut size = bytes.len();
    let mut path = path.to_owned();
    let snapshot = match payload_in(&bytes) {
        _ if bytes.is_empty() => return Err(CliError::EmptyFile { path }),
        Some(Payload::Inline(snapshot)) => Snapshot::open(snapshot),
        Some(Payload::File(file)) => {
            let (named, snapshot) = read_named(&file, &path).map_err(CliError::file(&path))?;
            (path, size) = (named, snapshot.len());
            Snapshot::open(snapshot)
        }
        None if is_like_a_resource(&bytes) => return Err(CliError::DamagedResource { path }),
        None => Snapshot::open(bytes),
    };
    Ok((snapshot.map_err(|source| CliError::NotASnapshot { path, source: Box::new(source) })?, size))
}

/// The snapshot with its base, if it is an overlay and `base` is the file with that. Of an overlay alone there is only what it adds.
pub(super) fn layers(
    path: &Path,
    snapshot: &Arc<Snapshot<Bytes>>,
    base: Option<&Path>,
) -> Result<Layers<Bytes>, CliError> {
    match (&snapshot.header().role, base) {
        (Role::Overlay(_), Some(base)) => {
            let found = Arc::new(open(base)?.0);
            let layers = Layers::over(Arc::clone(snapshot), &found);
            layers.ok_or_else(|| CliError::OtherBase { path: path.to_owned(), base: base.to_owned() })
        }
        _ => Ok(Layers::alone(Arc::clone(snapshot))),
    }
}

/// Refuses an overlay whose base is not known.
pub(super) fn check_complete(path: &Path, snapshot: &Snapshot<Bytes>, base: Option<&Path>) -> Result<(), CliError> {
    if matches!(snapshot.header().role, Role::Overlay(_)) && base.is_none() {
        return Err(CliError::Usage(format!(
            "{} has an overlay, which says what has changed since a base: add --base FILE with that",
            path.display()
        )));
    }
    Ok(())
}

/// Whether the file begins like one.
pub(super) fn is_one(path: &Path) -> Result<bool, CliError> {
    let mut head = Vec::new();
    if path == Path::new("-") {
        return Ok(false);
    }
    File::open(path).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head)).map_err(CliError::file(path))?;
    Ok(is_like_a_snapshot(&head) || is_like_a_resource(&head))
}

/// The lists in the file, of which it does not say when ranges end.
pub(super) fn lists(path: &Path, base: Option<&Path>) -> Result<Vec<SavedList>, CliError> {
    let snapshot = Arc::new(open(path)?.0);
    check_complete(path, &snapshot, base)?;
    let layers = layers(path, &snapshot, base)?;
    let lists = snapshot.header().lists.iter().enumerate().map(|(index, list)| SavedList {
        name: list.name,
        action: Some(list.action.clone()),
        blocks: layers.iter(index).map(|range| Block { range, until: Until::FOREVER }).collect(),
    });
    Ok(lists.collect())
}
