//! Delivers shipments as files that Envoy watches.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::ecds::{FailurePolicy, FilterKind, Resource, shipment_in};
use super::{ShipError, Shipment, Subscriber};

/// The files with the resources of one list.
#[derive(Debug)]
pub struct Files {
    files: Vec<(FilterKind, PathBuf)>,
    failure_policy: FailurePolicy,
    /// Whether anything was delivered by this process.
    delivered: bool,
}

impl Files {
    /// Ships the HTTP filter to the file `http` and the network filter to the file `network`, if given.
    pub fn new(http: Option<PathBuf>, network: Option<PathBuf>, failure_policy: FailurePolicy) -> Self {
        let network = network.map(|path| (FilterKind::Network, path));
        let http = http.map(|path| (FilterKind::Http, path));
        Self { files: network.into_iter().chain(http).collect(), failure_policy, delivered: false }
    }
}

impl Subscriber for Files {
    fn deliver(&mut self, shipment: &Arc<Shipment>) -> Result<u64, ShipError> {
        let mut shipped = 0;
        for (kind, path) in &self.files {
            let resource = |id: &str| {
                let Shipment { list, version, module, snapshot, .. } = &**shipment;
                let (kind, snapshot, failure_policy) = (*kind, snapshot.clone(), self.failure_policy);
                Resource { kind, name: list, version, shipment: id, module, snapshot, failure_policy }.encode()
            };
            let bytes = resource(&shipment.id);
            // After a restart Envoy may have this state already. Then it does not get it again.
            let is_there = |file: Bytes| shipment_in(&file).is_some_and(|id| resource(&id) == file);
            if self.delivered || !std::fs::read(path).is_ok_and(|file| is_there(file.into())) {
                replace_file(path, &bytes).map_err(|source| ShipError::File { path: path.clone(), source })?;
            }
            shipped += bytes.len() as u64;
        }
        self.delivered = true;
        Ok(shipped)
    }
}

/// Replaces the file at `path` atomically: whoever opens it finds either the old or the new content, whole, even after a power
/// failure. Envoy only watches for the rename.
///
/// # Errors
/// Those of the file system. The old content is still there then.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // In the same directory, because a rename does not cross file systems.
    let mut file = tempfile::Builder::new().prefix(".edgefold-").tempfile_in(directory)?;
    // Readable for an Envoy that runs as another user, whatever the umask.
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use edgefold::{Fold, LogTime};
    use edgefold_snapshot::Settings;

    use super::*;
    use crate::ship::Publisher;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edgefold.pb");
        for content in [&b"old"[..], b"new"] {
            replace_file(&path, content).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
        assert!(replace_file(&directory.path().join("missing/edgefold.pb"), b"").is_err());
    }

    #[test]
    fn a_restart_does_not_write_what_is_there_already() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edgefold.pb");
        let fold = Fold::default();
        let deliver = |millis, failure_policy| {
            let mut publisher = Publisher::new("edgefold", Settings::default(), b"module");
            let shipment = Arc::clone(publisher.publish(&fold, LogTime::from_millis(millis).unwrap()).unwrap());
            Files::new(Some(path.clone()), None, failure_policy).deliver(&shipment).unwrap();
            shipment_in(&std::fs::read(&path).unwrap().into()).unwrap()
        };
        assert_eq!(deliver(1, FailurePolicy::Reload), "1");
        assert_eq!(deliver(2, FailurePolicy::Reload), "1", "the same state");
        assert_eq!(deliver(3, FailurePolicy::Closed), "3", "another resource");
        std::fs::write(&path, b"damaged").unwrap();
        assert_eq!(deliver(4, FailurePolicy::Closed), "4");
    }
}
