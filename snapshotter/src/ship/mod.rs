//! What is shipped to Envoy, and where to.
//!
//! The [`Publisher`] holds one value, the [`Shipment`] that every Envoy should have now. A [`Subscriber`] delivers it somewhere;
//! [`files::Files`] is one.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use edgefold::{Fold, LogTime};
use edgefold_snapshot::{EncodeError, Generation, Settings};

pub mod cut;
pub mod ecds;
pub mod files;

/// What every Envoy should have now.
#[derive(Clone, Debug)]
pub struct Shipment {
    /// The name of the list, and of the resources that carry it.
    pub list: Arc<str>,
    /// Which state of the log this is.
    pub generation: Generation,
    /// The version of the resources: equal on all replicas for an equal snapshot.
    pub version: String,
    /// Unique for each shipment of this process, even where the snapshot is the same: see [`ecds::Resource::shipment`].
    pub id: String,
    /// The encoded snapshot.
    pub snapshot: Bytes,
    /// The wasm module of the filter.
    pub module: &'static [u8],
    /// The number of blocked ranges.
    pub ranges: u64,
}

/// Where shipments are delivered to.
pub trait Subscriber {
    /// Delivers a shipment, and returns the number of bytes shipped. After an error the newest shipment is delivered later;
    /// those in between are skipped.
    ///
    /// # Errors
    /// [`ShipError`]: what was delivered before stays in force.
    fn deliver(&mut self, shipment: &Arc<Shipment>) -> Result<u64, ShipError>;
}

/// Cuts a shipment whenever the state of the log has changed, or the last one gets old.
#[derive(Debug)]
pub struct Publisher {
    list: Arc<str>,
    settings: Settings,
    module: &'static [u8],
    current: Option<(Key, Arc<Shipment>)>,
    last_id: u64,
}

/// Two shipments with the same key would be equal.
type Key = (Generation, u64);

impl Publisher {
    /// A publisher of the list with this name. The filter applies `settings`, and its code is `module`.
    pub fn new(list: &str, settings: Settings, module: &'static [u8]) -> Self {
        Self { list: list.into(), settings, module, current: None, last_id: 0 }
    }

    /// The shipment that every Envoy should have at `now`. The same `Arc` is returned until something changes.
    ///
    /// # Errors
    /// [`ShipError::Cut`] if the snapshot cannot be encoded.
    pub fn publish(&mut self, fold: &Fold, now: LogTime) -> Result<&Arc<Shipment>, ShipError> {
        let generation = cut::generation(fold, now);
        let cut_at = cut::cut_at(&self.settings, now);
        let key = (generation, cut_at);
        let current = match self.current.take() {
            Some(current) if current.0 == key => current,
            _ => (key, Arc::new(self.cut(fold, now, key)?)),
        };
        Ok(&self.current.insert(current).1)
    }

    fn cut(&mut self, fold: &Fold, now: LogTime, (generation, cut_at): Key) -> Result<Shipment, ShipError> {
        // The time tells shipments of different processes apart. Two of one process may be cut in the same millisecond.
        self.last_id = now.millis().max(self.last_id + 1);
        let (snapshot, ranges) = cut::cut(fold, &self.list, &self.settings, now)?;
        let fresh_from = self.settings.freshness.map(|_| cut_at);
        Ok(Shipment {
            list: Arc::clone(&self.list),
            generation,
            version: cut::version(generation, fresh_from),
            id: self.last_id.to_string(),
            snapshot: snapshot.into(),
            module: self.module,
            ranges,
        })
    }
}

/// Why something could not be shipped.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The snapshot cannot be encoded.
    #[error(transparent)]
    Cut(#[from] EncodeError),
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
            Self::Cut(_) => false,
            Self::File { source, .. } => !matches!(
                source.kind(),
                IsADirectory | NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use edgefold::{Edits, Record};
    use edgefold_snapshot::{Freshness, Snapshot, WhenStale};

    use super::*;

    fn time(millis: u64) -> LogTime {
        LogTime::from_millis(millis).unwrap()
    }

    fn folded(texts: &[&str]) -> Fold {
        let mut fold = Fold::default();
        for (offset, text) in (0..).zip(texts) {
            let record = Record { offset, timestamp: Some(time(0)), key: None, value: Some((*text).into()) };
            fold.apply(&record, &mut Edits::default()).unwrap();
        }
        fold
    }

    #[test]
    fn a_shipment_stays_the_same_until_a_command_or_an_expiry_changes_it() {
        let mut publisher = Publisher::new("edgefold", Settings::default(), b"module");
        let one = folded(&["BLACKLIST 10.0.0.1 ttl=10s"]);
        let first = Arc::clone(publisher.publish(&one, time(1_000)).unwrap());
        assert_eq!((first.version.as_str(), first.id.as_str(), first.ranges), ("1", "1000", 1));
        assert!(Arc::ptr_eq(&first, publisher.publish(&one, time(9_999)).unwrap()));
        let expired = Arc::clone(publisher.publish(&one, time(10_000)).unwrap());
        assert_eq!((expired.version.as_str(), expired.ranges), ("1@1970-01-01T00:00:10Z", 0));
        let as_of = |shipment: &Shipment| Snapshot::open(&shipment.snapshot).unwrap().header().as_of;
        assert_eq!((as_of(&first), as_of(&expired)), (0, 10_000), "log time, or the newest expiry after it");
        let two = folded(&["BLACKLIST 10.0.0.1 ttl=10s", "BLACKLIST 10.0.0.2"]);
        let next = publisher.publish(&two, time(10_001)).unwrap();
        assert_eq!((next.version.as_str(), next.ranges), ("2@1970-01-01T00:00:10Z", 1));
        let snapshot = Snapshot::open(&next.snapshot).unwrap();
        assert!(snapshot.table().contains("10.0.0.2".parse().unwrap()));
    }

    /// Found by a review: the second of two commands within a millisecond was never shipped.
    #[test]
    fn two_shipments_in_one_millisecond_have_different_ids() {
        let mut publisher = Publisher::new("edgefold", Settings::default(), b"module");
        let mut id = |fold: &Fold, millis| publisher.publish(fold, time(millis)).unwrap().id.clone();
        let (one, two) = (folded(&["BLACKLIST 10.0.0.1"]), folded(&["BLACKLIST 10.0.0.1", "BLACKLIST 10.0.0.2"]));
        let ids = [id(&one, 5), id(&two, 5), id(&one, 4), id(&two, 9)];
        assert_eq!(ids, ["5", "6", "7", "9"], "even if the clock goes back");
    }

    #[test]
    fn with_a_maximum_age_a_new_shipment_is_due_each_quarter_of_it() {
        let freshness = Some(Freshness { cut_at: 0, max_age: 4_000, when_stale: WhenStale::Keep });
        let mut publisher = Publisher::new("edgefold", Settings { freshness, ..Settings::default() }, b"module");
        let fold = Fold::default();
        let mut published = |millis| Arc::clone(publisher.publish(&fold, time(millis)).unwrap());
        let first = published(10_100);
        assert!(Arc::ptr_eq(&first, &published(10_999)));
        let second = published(11_000);
        assert_eq!(
            (first.version.as_str(), second.version.as_str()),
            ("0+1970-01-01T00:00:10Z", "0+1970-01-01T00:00:11Z")
        );
        let cut_at = Snapshot::open(&second.snapshot).unwrap().header().settings.freshness.map(|fresh| fresh.cut_at);
        assert_eq!(cut_at, Some(11_000));
    }

    #[test]
    fn a_wrong_path_is_not_transient_and_a_full_disk_is() {
        let failed = |kind: io::ErrorKind| ShipError::File { path: "edgefold.pb".into(), source: kind.into() };
        assert!(
            !failed(io::ErrorKind::NotFound).is_transient() && !failed(io::ErrorKind::PermissionDenied).is_transient()
        );
        assert!(failed(io::ErrorKind::StorageFull).is_transient());
    }
}
