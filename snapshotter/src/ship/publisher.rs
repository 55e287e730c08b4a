//! Decides what every Envoy should have.

use std::sync::Arc;

use bytes::Bytes;
use edgefold::{Edits, Fold, LogTime};
use edgefold_snapshot::{EncodeError, Settings, Snapshot};

use super::bases::{BaseLimits, Bases, Rebase};
use super::cut::Cut;
use super::{ShipError, Shipment, cut};

/// Cuts a shipment whenever the lists have changed, or the last one gets old.
#[derive(Debug)]
pub struct Publisher {
    name: Arc<str>,
    epoch: u32,
    settings: Settings,
    module: &'static [u8],
    /// `None` if only whole snapshots are shipped.
    bases: Option<Bases>,
    current: Option<Current>,
    last_id: u64,
}

#[derive(Debug)]
struct Current {
    shipment: Arc<Shipment>,
    /// A moment at which what is blocked was exactly what the shipment has.
    true_at: LogTime,
    fresh_from: u64,
}

impl Publisher {
    /// A publisher for the filter with this name. It applies `settings`, and its code is `module`. Shipments of a higher
    /// `epoch` replace those of a lower one.
    pub fn new(name: &str, epoch: u32, settings: Settings, module: &'static [u8]) -> Self {
        Self { name: name.into(), epoch, settings, module, bases: None, current: None, last_id: 0 }
    }

    /// Ships large lists as a base, and overlays over it. If the base `found`, which may have any content, is of use, it is the first.
    ///
    /// # Errors
    /// [`EncodeError`] if the name is too long.
    pub fn with_bases(self, limits: BaseLimits, found: Option<Snapshot<Bytes>>) -> Result<Self, EncodeError> {
        let bases = Some(Bases::new(&self.name, limits, found)?);
        Ok(Self { bases, ..self })
    }

    /// The shipment that every Envoy should have at `now`. The same `Arc` is returned until what is blocked changes, the
    /// maximum age of a snapshot requires a new one, or there is a new base. `edits` are those since the last call, and are cleared.
    ///
    /// The log had nothing beyond `fold` at `last_contact`: a snapshot is never fresher than that.
    ///
    /// # Errors
    /// [`ShipError::Cut`] if the snapshot cannot be encoded. The edits are then kept.
    pub fn publish(
        &mut self,
        fold: &Fold,
        edits: &mut Edits,
        now: LogTime,
        last_contact: LogTime,
    ) -> Result<&Arc<Shipment>, ShipError> {
        let fresh_from = cut::fresh_from(&self.settings, last_contact.min(now));
        let is_due = self.bases.as_ref().is_some_and(Bases::is_cut_due);
        let current = match self.current.take() {
            // If the clock has gone back, some blocks may be in force again.
            Some(current) if !is_due && current.fresh_from == fresh_from && current.true_at <= now => {
                if fold.has_changed(current.true_at, edits, now) {
                    self.cut(fold, edits, now, fresh_from)?
                } else {
                    // Edits that change nothing now are dropped, so what comes later is a change from now on.
                    self.bases.iter_mut().for_each(|bases| bases.note_unchanged(now));
                    Current { true_at: now, ..current }
                }
            }
            _ => self.cut(fold, edits, now, fresh_from)?,
        };
        edits.clear();
        Ok(&self.current.insert(current).shipment)
    }

    /// The work for the next base, once it is due. Its outcome goes to [`Publisher::rebased`]. Until then, changes are shipped over the
    /// base that there is.
    pub fn rebase(&mut self) -> Option<Rebase> {
        let shipment = &self.current.as_ref()?.shipment;
        self.bases.as_mut()?.rebase(&shipment.snapshot)
    }

    /// Takes the outcome of [`Rebase::run`]; `None` if it has none. A new base is shipped with the next shipment, which is due at once.
    ///
    /// # Errors
    /// That of the work, which is tried again later.
    pub fn rebased(&mut self, outcome: Option<Result<Vec<u8>, EncodeError>>) -> Result<(), EncodeError> {
        self.bases.as_mut().map_or(Ok(()), |bases| bases.rebased(outcome))
    }

    /// Goes on with the base of another process, which may have any content, at the next shipment, which is due at once. If it has little of
    /// what is on the lists, that is over a new base instead.
    pub fn adopt(&mut self, base: Snapshot<Bytes>) {
        if let Some(bases) = &mut self.bases {
            bases.adopt(base);
        }
    }

    fn cut(&mut self, fold: &Fold, edits: &Edits, now: LogTime, fresh_from: u64) -> Result<Current, ShipError> {
        // The time tells shipments of different processes apart. Two of one process may be cut in the same millisecond.
        self.last_id = now.millis().max(self.last_id + 1);
        let new = cut::header(fold, &self.name, self.epoch, &self.settings, now, fresh_from);
        let Cut { snapshot, is_overlay, ranges, base } = match &mut self.bases {
            None => cut::cut(fold, new, now)?,
            Some(bases) => bases.cut(fold, edits, new, now)?,
        };
        let fresh_from_if_limited = self.settings.freshness.map(|_| fresh_from);
        let shipment = Shipment {
            name: Arc::clone(&self.name),
            generation: new.generation,
            version: cut::version(new.generation, fresh_from_if_limited, base.as_deref().filter(|_| is_overlay)),
            id: self.last_id.to_string(),
            snapshot: snapshot.into(),
            is_overlay,
            base,
            module: self.module,
            ranges,
        };
        Ok(Current { shipment: Arc::new(shipment), true_at: now, fresh_from })
    }
}

#[cfg(test)]
mod tests {
    use edgefold::Record;
    use edgefold_snapshot::{Freshness, Snapshot, WhenStale};

    use super::*;

    fn time(millis: u64) -> LogTime {
        LogTime::from_millis(millis).unwrap()
    }

    /// A fold of commands that come one after the other.
    #[derive(Default)]
    struct Log {
        fold: Fold,
        edits: Edits,
    }

    impl Log {
        fn command(&mut self, text: &str) {
            let offset = self.fold.position().next_offset;
            let record = Record { offset, timestamp: Some(time(0)), key: None, value: Some(text.into()) };
            let _rejected = self.fold.apply(&record, &mut self.edits);
        }

        /// What is published at a time at which the log has confirmed its end.
        fn publish(&mut self, publisher: &mut Publisher, millis: u64) -> Arc<Shipment> {
            Arc::clone(publisher.publish(&self.fold, &mut self.edits, time(millis), time(millis)).unwrap())
        }
    }

    #[test]
    fn a_shipment_stays_the_same_until_a_command_or_an_expiry_changes_it() {
        let mut publisher = Publisher::new("edgefold", 0, Settings::default(), b"module");
        let mut log = Log::default();
        log.command("BLACKLIST 10.0.0.1 ttl=10s");
        let first = log.publish(&mut publisher, 1_000);
        assert_eq!((first.version.as_str(), first.id.as_str(), first.ranges), ("1", "1000", 1));
        assert!(Arc::ptr_eq(&first, &log.publish(&mut publisher, 9_999)));
        let expired = log.publish(&mut publisher, 10_000);
        assert_eq!((expired.version.as_str(), expired.ranges), ("1@1970-01-01T00:00:10Z", 0));
        let as_of = |shipment: &Shipment| Snapshot::open(&shipment.snapshot).unwrap().header().as_of;
        assert_eq!((as_of(&first), as_of(&expired)), (0, 10_000), "log time, or the newest expiry after it");
        log.command("BLACKLIST 10.0.0.3");
        let next = log.publish(&mut publisher, 10_001);
        assert_eq!((next.version.as_str(), next.ranges), ("2@1970-01-01T00:00:10Z", 1));
        let snapshot = Snapshot::open(&next.snapshot).unwrap();
        assert!(snapshot.contains(0, "10.0.0.3".parse().unwrap()));
        let back = log.publish(&mut publisher, 9_999);
        assert_eq!(back.ranges, 2, "the clock has gone back, and the first block is in force again");
    }

    /// Found by a trial: six records that were rejected and one block shipped the whole table seven times.
    #[test]
    fn what_does_not_change_what_is_blocked_ships_nothing() {
        let mut publisher = Publisher::new("edgefold", 0, Settings::default(), b"module");
        let mut log = Log::default();
        log.command("BLACKLIST 10.0.0.0/24");
        let first = log.publish(&mut publisher, 1_000);
        for text in [
            "hello",
            "BLACKLIST 10.0.0.0/24",
            "BLOCK 10.0.0.7 ttl=1h",
            "WHITELIST 192.0.2.1",
            // These two have ended at once.
            "BLACKLIST 192.0.2.1 until=1970-01-01T00:00:00Z",
            "BLACKLIST 192.0.2.2 until=1970-01-01T00:00:01Z",
        ] {
            log.command(text);
            assert!(Arc::ptr_eq(&first, &log.publish(&mut publisher, 1_001)), "{text}");
        }
        // Two commands that undo each other, and a block that becomes two.
        for pair in [["WHITELIST 10.0.0.0/25", "BLACKLIST 10.0.0.0/25"], ["BLACKLIST 192.0.2.3", "WHITELIST 192.0.2.3"]]
        {
            pair.into_iter().for_each(|text| log.command(text));
            assert!(Arc::ptr_eq(&first, &log.publish(&mut publisher, 1_002)), "{pair:?}");
        }
        log.command("WHITELIST 10.0.0.9");
        assert_eq!(log.publish(&mut publisher, 1_003).ranges, 2);
        // A block ends inside another one that was there first.
        log.command("BLACKLIST 10.0.0.9 ttl=2s");
        let refilled = log.publish(&mut publisher, 1_004);
        assert_eq!(refilled.ranges, 1, "blocks that touch are one range, whatever their ends");
        log.command("BLACKLIST 10.0.0.9 ttl=3s");
        assert!(Arc::ptr_eq(&refilled, &log.publish(&mut publisher, 2_500)), "it ends later now");
        assert_eq!(log.publish(&mut publisher, 3_000).ranges, 2);
    }

    #[test]
    fn a_list_is_shipped_with_what_it_does() {
        let mut publisher = Publisher::new("edgefold", 0, Settings::default(), b"module");
        let mut log = Log::default();
        log.publish(&mut publisher, 1_000);
        let mut shipped = |text: &str, millis| {
            log.command(text);
            let before = log.publish(&mut publisher, millis - 1);
            let shipment = log.publish(&mut publisher, millis);
            let lists = Snapshot::open(&shipment.snapshot).unwrap().header().lists.clone();
            let lists = lists.iter().map(|list| format!("{} {} {}", list.name, list.action.name(), list.ipv4_ranges));
            (before.id.clone(), lists.collect::<Vec<_>>().join(", "))
        };
        let (first, lists) = shipped("LIST cloud action=tag", 2_000);
        assert_eq!(lists, "default deny 0, cloud tag 0", "it removes the header of clients even while it is empty");
        let (again, _) = shipped("LIST cloud action=tag", 3_000);
        assert_eq!(first, again, "it did that before");
        assert_eq!(shipped("ADD 10.0.0.1 list=feed ttl=5s", 4_000).1, "default deny 0, cloud tag 0, feed deny 1");
        let (before, lists) = shipped("WHITELIST 192.0.2.1 list=*", 5_000);
        assert_eq!((before, lists.as_str()), ("3999".to_owned(), "default deny 0, cloud tag 0"), "the block has ended");
        assert_eq!(shipped("LIST cloud action=shadow", 6_000).1, "default deny 0, cloud shadow 0");
        assert_eq!(shipped("UNLIST cloud", 7_000).1, "default deny 0");
    }

    /// Found by a review: the second of two commands within a millisecond was never shipped.
    #[test]
    fn two_shipments_in_one_millisecond_have_different_ids() {
        let mut publisher = Publisher::new("edgefold", 0, Settings::default(), b"module");
        let mut log = Log::default();
        let ids = [5, 5, 4, 9].map(|millis| {
            log.command(&format!("BLACKLIST 10.0.0.{}", 2 * log.fold.position().next_offset));
            log.publish(&mut publisher, millis).id.clone()
        });
        assert_eq!(ids, ["5", "6", "7", "9"], "even if the clock goes back");
    }

    #[test]
    fn with_a_maximum_age_a_new_shipment_is_due_each_quarter_of_it_while_the_log_confirms_its_end() {
        let freshness = Some(Freshness { cut_at: 0, max_age: 4_000, when_stale: WhenStale::Keep });
        let mut publisher = Publisher::new("edgefold", 0, Settings { freshness, ..Settings::default() }, b"module");
        let mut log = Log::default();
        let first = log.publish(&mut publisher, 10_100);
        assert!(Arc::ptr_eq(&first, &log.publish(&mut publisher, 10_999)));
        let second = log.publish(&mut publisher, 11_000);
        assert_eq!(
            (first.version.as_str(), second.version.as_str()),
            ("0+1970-01-01T00:00:10Z", "0+1970-01-01T00:00:11Z")
        );
        let cut_at = |shipment: &Shipment| Snapshot::open(&shipment.snapshot).unwrap().header().settings.freshness;
        assert_eq!(cut_at(&second).map(|fresh| fresh.cut_at), Some(11_000));
        // The log is cut off: time passes, but nothing is as fresh as that.
        let mut publish =
            |now, contact| Arc::clone(publisher.publish(&log.fold, &mut log.edits, time(now), time(contact)).unwrap());
        assert!(Arc::ptr_eq(&second, &publish(60_000, 11_500)));
        let third = publish(61_000, 60_500);
        assert_eq!(cut_at(&third).map(|fresh| fresh.cut_at), Some(60_000));
    }

    /// Found by reading: what the first overlay over a base had did not count, and each change shipped it again for ever.
    #[test]
    fn a_new_base_is_due_when_the_overlays_have_cost_as_much() {
        let publisher = Publisher::new("edgefold", 0, Settings::default(), b"module");
        let mut publisher = publisher.with_bases(BaseLimits { least_bytes: 0, ..BaseLimits::default() }, None).unwrap();
        let mut log = Log::default();
        let block = |log: &mut Log, from: u32, count: u32| {
            for place in from..from + count {
                log.command(&format!("BLACKLIST {}", std::net::Ipv4Addr::from((20 << 24) + 3 * place)));
            }
        };
        block(&mut log, 0, 2_000);
        let base = log.publish(&mut publisher, 1_000).base.clone().unwrap();
        assert!(publisher.rebase().is_none());
        // A fifth of it changes at once, and then one after the other.
        block(&mut log, 10_000, 400);
        let mut overlays = Vec::new();
        let work = loop {
            overlays.push(log.publish(&mut publisher, 1_000).snapshot.len());
            if let Some(work) = publisher.rebase() {
                break work;
            }
            block(&mut log, 20_000 + u32::try_from(overlays.len()).unwrap(), 1);
        };
        let (spent, base_bytes) = (overlays.iter().sum::<usize>(), base.bytes().len());
        assert!(
            spent > base_bytes && spent < 2 * base_bytes,
            "{spent} bytes over a base of {base_bytes}: {overlays:?}"
        );
        assert!(publisher.rebase().is_none(), "it has started");
        publisher.rebased(Some(work.run())).unwrap();
        let shipment = log.publish(&mut publisher, 1_000);
        assert!(shipment.snapshot.len() < 200 && shipment.ranges == 2_400 + overlays.len() as u64 - 1);
        assert!(shipment.base.as_ref().unwrap().fingerprint() != base.fingerprint());
    }
}
