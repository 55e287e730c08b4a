//! What is shipped to Envoy, and where to.
//!
//! The [`Publisher`] holds one value, the [`Shipment`] that every Envoy should have now: a whole snapshot, or a base with an overlay.
//! A [`Subscriber`] delivers it somewhere: [`files::Files`] to files, and [`Xds`](crate::xds::Xds) to proxies over gRPC.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use edgefold::LogTime;
use edgefold_snapshot::{EncodeError, Generation, OpenError, Snapshot};

mod bases;
pub mod cut;
mod difference;
pub mod ecds;
pub mod files;
mod pair;
mod publisher;
pub mod shipper;
pub mod snapshot_files;

pub use bases::{BaseLimits, Rebase};
pub use publisher::Publisher;

/// What every Envoy should have now.
#[derive(Clone, Debug)]
pub struct Shipment {
    /// The name of the filter, which is that of the resources that carry the snapshot.
    pub name: Arc<str>,
    /// Which state of the log this is.
    pub generation: Generation,
    /// The version of the resources: equal on all replicas for an equal snapshot.
    pub version: String,
    /// Unique for each shipment of this process, even where the snapshot is the same: see [`ecds::Resource::shipment`].
    pub id: String,
    /// The encoded snapshot, whole or an overlay over the base.
    pub snapshot: Bytes,
    /// Whether it is an overlay.
    pub is_overlay: bool,
    /// What the resource of the base has; `None` if there is no such resource. A whole snapshot has an empty base beside it.
    pub base: Option<Arc<Snapshot<Bytes>>>,
    /// The wasm module of the filter.
    pub module: &'static [u8],
    /// The number of ranges on all lists.
    pub ranges: u64,
}

/// Where shipments are delivered to.
pub trait Subscriber {
    /// Delivers a shipment, and returns the number of bytes shipped; 0 if all of it was there already. After an error the newest shipment is delivered later;
    /// those in between are skipped.
    ///
    /// # Errors
    /// [`ShipError`]: what was delivered before stays in force.
    fn deliver(&mut self, shipment: &Arc<Shipment>) -> Result<u64, ShipError>;

    /// Delivers `shipment`, the last one delivered, again if somebody else has changed or removed it, and says whether that was so.
    ///
    /// # Errors
    /// Those of [`Subscriber::deliver`].
    fn repair(&mut self, shipment: &Arc<Shipment>) -> Result<bool, ShipError>;

    /// How many deliveries have failed that will be tried again without anybody's help.
    fn failures(&self) -> u64 {
        0
    }

    /// What was delivered last accounts for all commands below the offset `next_offset`. The oldest of those that came since the last time
    /// was appended at `oldest`.
    fn note_covered(&mut self, _next_offset: u64, _oldest: Option<LogTime>) {}
}

/// Why something could not be shipped.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The snapshot cannot be encoded.
    #[error(transparent)]
    Cut(#[from] EncodeError),
    /// The snapshot was encoded wrongly.
    #[error("the snapshot is not shipped, because it is invalid: {0}: please report this")]
    Invalid(OpenError),
    /// The folder of a file is missing.
    #[error("{}: the folder does not exist: create it first", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// Another process ships to the same file.
    #[error("another edgefold serve ships to {}", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ShipError {
    /// Whether it can go away by itself, as a full disk does. A wrong path does not.
    pub fn is_transient(&self) -> bool {
        use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
        match self {
            Self::Cut(_) | Self::Invalid(_) | Self::NoFolder { .. } | Self::Locked { .. } => false,
            Self::File { source, .. } => !matches!(
                source.kind(),
                IsADirectory | NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_path_is_not_transient_and_a_full_disk_is() {
        let failed = |kind: io::ErrorKind| ShipError::File { path: "edgefold.pb".into(), source: kind.into() };
        assert!(
            !failed(io::ErrorKind::NotFound).is_transient() && !failed(io::ErrorKind::PermissionDenied).is_transient()
        );
        assert!(failed(io::ErrorKind::StorageFull).is_transient());
    }
}
