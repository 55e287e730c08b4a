//! One `edgefold serve`: what ships, and what keeps the view.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgefold::{Contact, Fold, Follower, ListAction, ListName, LogTime, Now};
use edgefold_snapshot::{Layers, Settings, Snapshot};
use edgefold_snapshotter::keeper::{Keeper, Role};
use edgefold_snapshotter::ship::shipper::Shipper;
use edgefold_snapshotter::ship::{BaseLimits, Publisher, Rebase, ShipError, Shipment, Subscriber};
use fastrand::Rng;

use crate::topics::{Memory, replay};

/// The addresses that the commands are about, and one more.
const ADDRESSES: u8 = 33;

/// Where one process ships to. Envoy reads it, also while no process runs.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Mutex<Content>>);

struct Content {
    random: Rng,
    /// One in this many deliveries fails; none if it is 0.
    faults: u32,
    /// What the file of the filter has.
    filter: Option<Arc<Shipment>>,
    /// What that of the base has.
    base: Option<Arc<Snapshot<Bytes>>>,
    deliveries: u32,
    /// How often a base was written without its overlay.
    halves: u32,
}

impl Disk {
    pub(crate) fn new(random: Rng, faults: u32) -> Self {
        Self(Arc::new(Mutex::new(Content { random, faults, filter: None, base: None, deliveries: 0, halves: 0 })))
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }

    pub(crate) fn repair(&self) {
        self.content().faults = 0;
    }

    pub(crate) fn deliveries(&self) -> u32 {
        self.content().deliveries
    }

    /// How often a base was written without its overlay.
    pub(crate) fn halves(&self) -> u32 {
        self.content().halves
    }

    /// Whether the filter has an overlay over another base than there is.
    fn is_half(&self) -> bool {
        let content = self.content();
        let base_of = |shipment: &Arc<Shipment>| shipment.base.as_ref().map(|base| base.fingerprint());
        let is_over = |shipment: &&Arc<Shipment>| shipment.is_overlay;
        let over = content.filter.as_ref().filter(is_over).and_then(base_of);
        over.is_some() && over != content.base.as_ref().map(|base| base.fingerprint())
    }

    fn base(&self) -> Option<Snapshot<Bytes>> {
        self.content().base.as_deref().cloned()
    }

    /// The lists that an Envoy has that starts now, and from when its snapshot counts as fresh. `None` if it refuses everything.
    fn in_force(&self) -> Option<(Vec<Listed>, Option<u64>)> {
        let content = self.content();
        let (shipment, base) = (content.filter.as_ref()?, content.base.as_ref()?);
        let snapshot = Arc::new(Snapshot::open(shipment.snapshot.clone()).unwrap());
        let layers = if shipment.is_overlay {
            // As in the filter: a base that is not older than the overlay has all that the overlay has.
            let order = |snapshot: &Snapshot<Bytes>| snapshot.header().generation.next_offset;
            let is_newer = order(base) >= order(&snapshot);
            let alone = || is_newer.then(|| Layers::alone(Arc::clone(base)));
            Layers::over(Arc::clone(&snapshot), base).or_else(alone)?
        } else {
            Layers::alone(snapshot)
        };
        let fresh_from = layers.header().settings.freshness.map(|freshness| freshness.cut_at);
        let lists = layers.header().lists.iter().enumerate();
        let lists = lists.map(|(index, list)| Listed {
            name: list.name,
            action: list.action.clone(),
            addresses: addresses().map(|ip| layers.contains(index, ip)).collect(),
        });
        Some((lists.collect(), fresh_from))
    }
}

impl Content {
    fn fault(&mut self) -> Result<(), ShipError> {
        if self.faults > 0 && self.random.u32(..self.faults) == 0 {
            return Err(ShipError::File { path: "disk".into(), source: std::io::ErrorKind::StorageFull.into() });
        }
        Ok(())
    }
}

impl Subscriber for Disk {
    /// As [`edgefold_snapshotter::ship::files::Files`]. It may fail, or the process be killed, between the two files.
    fn deliver(&mut self, shipment: &Arc<Shipment>) -> Result<u64, ShipError> {
        let mut content = self.content();
        content.fault()?;
        if !shipment.is_overlay {
            content.filter = Some(Arc::clone(shipment));
        }
        let is_new = |base: &Arc<Snapshot<Bytes>>| {
            Some(base.fingerprint()) != shipment.base.as_ref().map(|new| new.fingerprint())
        };
        if content.base.as_ref().is_none_or(is_new) {
            content.base.clone_from(&shipment.base);
            content.halves += 1;
            content.fault()?;
            content.halves -= 1;
        }
        content.filter = Some(Arc::clone(shipment));
        content.deliveries += 1;
        Ok(shipment.snapshot.len() as u64)
    }

    fn repair(&mut self, _shipment: &Arc<Shipment>) -> Result<bool, ShipError> {
        Ok(false)
    }
}

/// A list: what it does, and which of the addresses are on it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Listed {
    name: ListName,
    action: ListAction,
    addresses: Vec<bool>,
}

/// The lists of `fold` at `time`, except those that are only there because no command has come since they became empty.
fn listed(fold: &Fold, time: LogTime) -> Vec<Listed> {
    let lists = fold.lists().iter().map(|list| {
        let addresses: Vec<bool> = addresses().map(|ip| list.find(ip, time).is_some()).collect();
        let exists = list.name().is_default() || list.stated_action().is_some() || addresses.contains(&true);
        exists.then(|| Listed { name: list.name(), action: list.action().clone(), addresses })
    });
    lists.flatten().collect()
}

fn addresses() -> impl Iterator<Item = IpAddr> {
    (0..ADDRESSES).map(|host| Ipv4Addr::new(10, 0, 0, host).into())
}

pub(crate) struct Process {
    pub(crate) keeper: Keeper,
    /// `None` before it has started.
    shipper: Option<Shipper<Disk>>,
    pub(crate) log: Memory,
    pub(crate) disk: Disk,
    settings: Settings,
    /// From how many bytes on it ships a base and overlays.
    least_bytes: usize,
    /// The base that it is encoding.
    rebase: Option<Rebase>,
    min_interval: Duration,
    /// The latest time at which a read confirmed the end of the log, by the wall clock then.
    confirmed: Option<LogTime>,
    /// What it must have folded.
    expected: Fold,
}

impl Process {
    pub(crate) fn new(
        log: Memory,
        disk: Disk,
        settings: Settings,
        least_bytes: usize,
        min_interval: Duration,
        now: Now,
    ) -> Self {
        let keeper = Keeper::new(now.instant, Duration::ZERO);
        let (shipper, rebase, confirmed, expected) = (None, None, None, Fold::default());
        Self { keeper, shipper, log, disk, settings, least_bytes, rebase, min_interval, confirmed, expected }
    }

    /// What a process that starts now on the same disk is.
    pub(crate) fn restarted(&self, now: Now) -> Self {
        let Self { log, disk, settings, least_bytes, min_interval, .. } = self;
        let process = Self::new(log.process(), disk.clone(), settings.clone(), *least_bytes, *min_interval, now);
        Self { confirmed: self.confirmed, ..process }
    }

    /// The next command offset that is shipped.
    pub(crate) fn shipped_next_offset(&self) -> u64 {
        self.shipper.as_ref().map_or(0, |shipper| shipper.status().shipped_next_offset)
    }

    /// One step of shipping. Returns whether the process goes on: it ends when its log is gone or is another one.
    pub(crate) fn ship(&mut self, now: Now) -> bool {
        let (before, was_half) = (self.disk.in_force(), self.disk.is_half());
        let (deliveries, base) = (self.disk.deliveries(), self.disk.base().map(|base| base.fingerprint()));
        let Some(shipper) = &mut self.shipper else {
            let Ok(mut follower) = Follower::load(&self.log) else { return true };
            if let Some(view) = follower.view.take() {
                self.keeper = Keeper::continuing(view, now.instant, Duration::ZERO);
            }
            self.confirmed = self.confirmed.max(Some(now.time));
            let publisher = Publisher::new("edgefold", 0, self.settings.clone(), b"module");
            let publisher = publisher
                .with_bases(BaseLimits { least_bytes: self.least_bytes, ..BaseLimits::default() }, self.disk.base())
                .unwrap();
            let shipper = self.shipper.insert(Shipper::new(
                follower,
                publisher,
                self.disk.clone(),
                self.min_interval,
                Contact::new(now),
            ));
            shipper.ship_first(now).unwrap();
            self.check(now);
            return true;
        };
        let read = shipper.can_read(now).then(|| shipper.read(&self.log, Duration::ZERO));
        if let Some(Ok(batch)) = &read
            && batch.at_end
        {
            self.confirmed = self.confirmed.max(Some(now.time));
        }
        if shipper.handle(read, now).is_err() {
            return false;
        }
        // What could not be delivered may be undone before it can.
        let was_delivered_before = shipper.status().ship_failures == 0;
        self.check(now);
        let is_rebase = self.disk.base().map(|base| base.fingerprint()) != base;
        if self.disk.deliveries() > deliveries && was_delivered_before {
            assert!(is_rebase || was_half || self.disk.in_force() != before, "a shipment that changes nothing");
        }
        true
    }

    /// Starts to encode a base if one is due, or ends that.
    pub(crate) fn rebase(&mut self) -> bool {
        let Some(shipper) = &mut self.shipper else { return false };
        match self.rebase.take() {
            Some(work) => shipper.rebased(Some(work.run())),
            None => self.rebase = shipper.rebase(),
        }
        self.rebase.is_none()
    }

    /// What is shipped is what a replay of the commands blocks now, and is no fresher than the log allows.
    fn check(&mut self, now: Now) {
        let Some(shipper) = &self.shipper else { return };
        let (fold, status) = (&shipper.follower().fold, shipper.status());
        let position = fold.position();
        replay(&self.log.topics().commands, position.next_offset, &mut self.expected);
        assert_eq!(*fold, self.expected, "what was folded");
        let Some((lists, fresh_from)) = self.disk.in_force() else { return };
        if status.shipped_next_offset == position.next_offset && shipper.has_nothing_to_ship(now) {
            assert_eq!(lists, listed(fold, now.time), "at {position}, {:?}", now.time);
        }
        if let Some(fresh_from) = fresh_from {
            assert!(Some(fresh_from) <= self.confirmed.map(LogTime::millis), "fresher than its log");
        }
    }

    pub(crate) fn step_keeper(&mut self, now: Instant) {
        let end = self.log.topics().end();
        let before = self.keeper.role();
        let moved_on = self.log.topics().view_offset() > self.keeper.view_offset();
        self.keeper.step(&self.log, end, now, Duration::ZERO);
        let after = self.keeper.role();
        let possible = match before {
            Role::Standby => [Role::Standby, Role::TakingOver],
            Role::TakingOver | Role::Writer => [Role::Standby, Role::Writer],
        };
        assert!(possible.contains(&after), "a keeper went from {before:?} to {after:?} in one step");
        if before == Role::TakingOver && after == Role::Writer && moved_on {
            self.log.topics().met.late_takeovers += 1;
        }
    }
}
