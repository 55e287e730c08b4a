//! Delivers shipments as files that Envoy watches.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tempfile::NamedTempFile;

use super::ecds::{FailurePolicy, FilterKind, Resource, shipment_in};
use super::{ShipError, Shipment, Subscriber};

/// The files with the resources of one filter.
#[derive(Debug)]
pub struct Files {
    files: Vec<EcdsFile>,
    failure_policy: FailurePolicy,
    /// How many repairs were tried, for their ids.
    repairs: u64,
}

#[derive(Debug)]
struct EcdsFile {
    kind: FilterKind,
    path: PathBuf,
    /// How the file was left; `None` before the first delivery.
    left: Option<Identity>,
    /// Locked as long as this process lives, so that no other ships to the same file.
    _lock: File,
}

/// Tells a file from one that somebody else has put in its place, or written to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Identity {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Identity {
    fn of(file: &Metadata) -> Self {
        Self { inode: file.ino(), size: file.size(), modified: (file.mtime(), file.mtime_nsec()) }
    }
}

impl Files {
    /// Ships the HTTP filter to the file `http` and the network filter to the file `network`, if given. What a process that was
    /// killed has left beside them is removed.
    ///
    /// # Errors
    /// [`ShipError::Locked`] if another process ships to one of them, [`ShipError::NoFolder`], and [`ShipError::File`].
    pub fn new(
        http: Option<PathBuf>,
        network: Option<PathBuf>,
        failure_policy: FailurePolicy,
    ) -> Result<Self, ShipError> {
        let network = network.map(|path| EcdsFile::open(FilterKind::Network, path));
        let http = http.map(|path| EcdsFile::open(FilterKind::Http, path));
        Ok(Self { files: network.into_iter().chain(http).collect::<Result<_, _>>()?, failure_policy, repairs: 0 })
    }

    fn resource(&self, kind: FilterKind, shipment: &Shipment, id: &str) -> Vec<u8> {
        let Shipment { name, version, module, snapshot, .. } = shipment;
        let (snapshot, failure_policy) = (snapshot.clone(), self.failure_policy);
        Resource { kind, name, version, shipment: id, module, snapshot, failure_policy }.encode()
    }

    /// Whether the file at `path` holds `shipment`, under the id that it was shipped with.
    fn holds(&self, kind: FilterKind, path: &Path, shipment: &Shipment) -> bool {
        let Ok(file) = fs::read(path).map(Bytes::from) else { return false };
        shipment_in(&file).is_some_and(|id| self.resource(kind, shipment, &id) == file)
    }

    /// Writes the files at these places. Each is written beside its place first, so that a full disk changes neither.
    fn write(&mut self, contents: Vec<(usize, Vec<u8>)>) -> Result<(), ShipError> {
        let staged: Vec<(usize, NamedTempFile)> = contents
            .into_iter()
            .map(|(at, bytes)| Ok((at, stage(&self.files[at].path, &bytes).map_err(self.files[at].failed())?)))
            .collect::<Result<_, ShipError>>()?;
        for (at, file) in staged {
            let path = &self.files[at].path;
            let left = publish(file, path).map_err(self.files[at].failed())?;
            self.files[at].left = Some(Identity::of(&left));
        }
        Ok(())
    }
}

impl EcdsFile {
    fn open(kind: FilterKind, path: PathBuf) -> Result<Self, ShipError> {
        let failed = |source| ShipError::File { path: path.clone(), source };
        if !folder(&path).is_dir() {
            return Err(ShipError::NoFolder { path: folder(&path).to_owned() });
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let lock = File::create(folder(&path).join(format!(".{name}.lock"))).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ShipError::Locked { path }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        for entry in fs::read_dir(folder(&path)).map_err(failed)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&temporary_prefix(&path)) {
                let _removed = fs::remove_file(entry.path());
            }
        }
        Ok(Self { kind, path, left: None, _lock: lock })
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> ShipError {
        let path = self.path.clone();
        |source| ShipError::File { path, source }
    }
}

impl Subscriber for Files {
    fn deliver(&mut self, shipment: &Arc<Shipment>) -> Result<u64, ShipError> {
        let (mut shipped, mut to_write) = (0, Vec::new());
        for (at, EcdsFile { kind, path, left, .. }) in self.files.iter().enumerate() {
            let bytes = self.resource(*kind, shipment, &shipment.id);
            shipped += bytes.len() as u64;
            // After a restart Envoy may have this state already. Then it does not get it again.
            if left.is_some() || !self.holds(*kind, path, shipment) {
                to_write.push((at, bytes));
            }
        }
        self.write(to_write)?;
        for file in &mut self.files {
            if file.left.is_none() {
                file.left = Some(Identity::of(&fs::metadata(&file.path).map_err(file.failed())?));
            }
        }
        Ok(shipped)
    }

    fn repair(&mut self, shipment: &Arc<Shipment>) -> Result<bool, ShipError> {
        // Another id each time, because Envoy may have taken what somebody else has put there, and may still have what was there
        // before, for an open connection. The shipment's own id tells it from those of other processes.
        let id = format!("{}.{}", shipment.id, self.repairs + 1);
        let mut damaged = Vec::new();
        for at in 0..self.files.len() {
            let EcdsFile { kind, path, left, .. } = &self.files[at];
            let found = fs::metadata(path).ok().map(|found| Identity::of(&found));
            if found.is_some() && found == *left {
                continue;
            }
            // Perhaps only its times have changed.
            if self.holds(*kind, path, shipment) {
                self.files[at].left = found;
            } else {
                damaged.push((at, self.resource(*kind, shipment, &id)));
            }
        }
        let is_damaged = !damaged.is_empty();
        self.repairs += u64::from(is_damaged);
        self.write(damaged)?;
        Ok(is_damaged)
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
fn stage(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    // In the same folder, because a rename does not cross file systems.
    let mut file = tempfile::Builder::new().prefix(&temporary_prefix(path)).tempfile_in(folder(path))?;
    // Readable for an Envoy that runs as another user, whatever the umask.
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Moves a file that was written beside `path` there.
fn publish(file: NamedTempFile, path: &Path) -> io::Result<Metadata> {
    let file = file.persist(path)?;
    File::open(folder(path))?.sync_all()?;
    file.metadata()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What the names of temporary files beside `path` begin with.
fn temporary_prefix(path: &Path) -> String {
    format!(".{}.edgefold-", path.file_name().map_or("".into(), OsStr::to_string_lossy))
}

#[cfg(test)]
mod tests {
    use edgefold::{Edits, Fold, LogTime};
    use edgefold_snapshot::Settings;

    use super::*;
    use crate::ship::Publisher;
    use crate::ship::ecds::snapshot_in;

    fn shipment(millis: u64) -> Arc<Shipment> {
        let now = LogTime::from_millis(millis).unwrap();
        let mut publisher = Publisher::new("edgefold", 0, Settings::default(), b"module");
        Arc::clone(publisher.publish(&Fold::default(), &mut Edits::default(), now, now).unwrap())
    }

    /// The names of the files in a folder that are not hidden, and the number of those that are.
    fn listed(folder: &Path) -> (Vec<String>, usize) {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let (hidden, mut names): (Vec<_>, Vec<_>) = names.partition(|name| name.starts_with('.'));
        names.sort();
        (names, hidden.len())
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edgefold.pb");
        for content in [&b"old"[..], b"new"] {
            replace_file(&path, content).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        assert_eq!(listed(directory.path()), (vec!["edgefold.pb".to_owned()], 0));
        assert!(replace_file(&directory.path().join("missing/edgefold.pb"), b"").is_err());
    }

    #[test]
    fn a_restart_does_not_write_what_is_there_already() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edgefold.pb");
        let deliver = |millis, failure_policy| {
            let mut files = Files::new(Some(path.clone()), None, failure_policy).unwrap();
            files.deliver(&shipment(millis)).unwrap();
            assert!(!files.repair(&shipment(millis)).unwrap());
            shipment_in(&fs::read(&path).unwrap().into()).unwrap()
        };
        assert_eq!(deliver(1, FailurePolicy::Reload), "1");
        assert_eq!(deliver(2, FailurePolicy::Reload), "1", "the same state");
        assert_eq!(deliver(3, FailurePolicy::Closed), "3", "another resource");
        fs::write(&path, b"damaged").unwrap();
        assert_eq!(deliver(4, FailurePolicy::Closed), "4");
    }

    /// Found by a trial: a file that was deleted stayed so until the next command, and an Envoy that restarted then let everything
    /// pass.
    #[test]
    fn a_file_that_somebody_else_deletes_or_overwrites_is_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let [http, network] = ["http.pb", "network.pb"].map(|name| directory.path().join(name));
        let mut files = Files::new(Some(http.clone()), Some(network.clone()), FailurePolicy::Reload).unwrap();
        let shipment = shipment(1);
        files.deliver(&shipment).unwrap();
        let read = |path| Bytes::from(fs::read(path).unwrap());
        let mut ids = vec![shipment_in(&read(&http)).unwrap()];
        let untouched = fs::metadata(&http).unwrap().ino();
        File::options().append(true).open(&http).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert!(!files.repair(&shipment).unwrap(), "only its time has changed");
        assert_eq!(fs::metadata(&http).unwrap().ino(), untouched);
        let damages: [&dyn Fn(&Path); 4] = [
            &|path| fs::remove_file(path).unwrap(),
            &|path| fs::write(path, b"something else").unwrap(),
            &|path| replace_file(path, b"something else").unwrap(),
            &|path| File::options().append(true).open(path).unwrap().write_all(b"?").unwrap(),
        ];
        for damage in damages {
            for path in [&http, &network] {
                assert!(!files.repair(&shipment).unwrap());
                damage(path);
                assert!(files.repair(&shipment).unwrap());
                assert!(
                    [&http, &network].into_iter().all(|path| snapshot_in(&read(path)).unwrap() == shipment.snapshot)
                );
                // Envoy may still have what it had before, for an open connection, and would not configure that again.
                let id = shipment_in(&read(path)).unwrap();
                assert!(!ids.contains(&id), "{id} after {ids:?}");
                ids.push(id);
            }
        }
        drop(files);
        let mut restarted = Files::new(Some(http.clone()), Some(network.clone()), FailurePolicy::Reload).unwrap();
        let shipment = self::shipment(2);
        restarted.deliver(&shipment).unwrap();
        fs::remove_file(&http).unwrap();
        assert!(restarted.repair(&shipment).unwrap());
        let id = shipment_in(&read(&http)).unwrap();
        assert!(!ids.contains(&id), "{id} after {ids:?}, and a restart");
    }

    #[test]
    fn the_two_files_change_together_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let [http, network] = [directory.path().join("http.pb"), directory.path().join("other/network.pb")];
        fs::create_dir(network.parent().unwrap()).unwrap();
        let mut files = Files::new(Some(http.clone()), Some(network.clone()), FailurePolicy::Reload).unwrap();
        files.deliver(&shipment(1)).unwrap();
        let before = [&http, &network].map(|path| fs::read(path).unwrap());
        // Nothing can be written beside the second one.
        fs::rename(network.parent().unwrap(), directory.path().join("away")).unwrap();
        assert!(files.deliver(&shipment(2)).is_err());
        fs::rename(directory.path().join("away"), network.parent().unwrap()).unwrap();
        assert!([&http, &network].map(|path| fs::read(path).unwrap()) == before);
        files.deliver(&shipment(2)).unwrap();
        assert_eq!(shipment_in(&fs::read(&http).unwrap().into()).unwrap(), "2");
    }

    #[test]
    fn of_two_processes_the_second_is_refused_and_what_a_killed_one_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edgefold.pb");
        let open = || Files::new(Some(path.clone()), None, FailurePolicy::Reload);
        let left = stage(&path, b"half").unwrap().into_temp_path().keep().unwrap();
        let mut first = open().unwrap();
        assert!(!left.exists());
        let error = open().unwrap_err();
        assert!(matches!(&error, ShipError::Locked { path: locked } if *locked == path), "{error}");
        let missing = directory.path().join("missing/edgefold.pb");
        let error = Files::new(Some(missing), None, FailurePolicy::Reload).unwrap_err();
        assert!(error.to_string().ends_with("/missing: the folder does not exist: create it first"), "{error}");
        first.deliver(&shipment(1)).unwrap();
        drop(first);
        open().unwrap();
        assert_eq!(listed(directory.path()), (vec!["edgefold.pb".to_owned()], 1), "the lock stays");
    }
}
