//! How a plugin comes to what it serves: snapshots arrive as configurations, in any order.
//!
//! What a plugin serves is a whole snapshot, or an overlay with its base. The two of a pair come as configurations of two plugins with
//! the same name, in any order. A plugin only ever changes from what is complete to what is complete.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use edgefold_snapshot::{Fingerprint, Layers, Mode, Quoted, Role, Snapshot};

use crate::configuration::ConfigurationError;
use crate::host::{ConfigurationHost, Level, MetricsHost, RequestHost, Resource};
use crate::metrics::{ListsSeen, Metrics, increment};
use crate::serving::{InForce, Keys, Serving};

/// The plugins with one name.
#[derive(Debug)]
pub struct Plugin {
    name: Vec<u8>,
    metrics: Metrics,
    lists_seen: ListsSeen,
    serving: Arc<Serving>,
    /// The last base that has come, unless it is in force: an overlay over it will come.
    spare: Option<Spare>,
    /// The newest overlay that has come, if its base was not there.
    waiting: Option<Waiting>,
}

/// A base.
#[derive(Debug)]
struct Spare {
    base: Arc<Snapshot<Vec<u8>>>,
    /// Those of the base itself; `None` if it was not configured, but is from the host.
    keys: Option<Keys>,
}

/// An overlay whose base has not come.
#[derive(Debug)]
struct Waiting {
    overlay: Arc<Snapshot<Vec<u8>>>,
    keys: Keys,
    /// Whether the base that the host had was of no use.
    is_in_vain: bool,
}

impl Plugin {
    /// A plugin that has no snapshot yet.
    pub fn new(name: Vec<u8>, host: &impl ConfigurationHost) -> Self {
        let metrics = Metrics::new(&name, host);
        let lists_seen = ListsSeen::of(&name);
        let serving = Arc::new(Serving { in_force: None, unavailable: metrics.unavailable });
        Self { name, metrics, lists_seen, serving, spare: None, waiting: None }
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// What it serves.
    pub fn serving(&self) -> &Arc<Serving> {
        &self.serving
    }

    /// The plugin is configured. `false` rejects its configuration, and leaves everything as it was.
    ///
    /// What is accepted may be kept out of force. That is so for an older snapshot: it may be that of another kind of filter with this name,
    /// which would have none at all after a rejection. And a host with a canary accepts whatever the canary has accepted: after a rejection
    /// by a worker, Envoy would let all requests on it pass.
    pub fn configure(&mut self, host: &impl ConfigurationHost) -> bool {
        match self.take(host) {
            Ok(()) => true,
            Err(error) => {
                // A plugin that waits for a base rejects nothing either: only workers wait.
                let has_some = self.serving.in_force.is_some() || self.waiting.is_some() || self.spare.is_some();
                let keeps = matches!(error, ConfigurationError::Older) || host.has_canary() && has_some;
                let counter = if keeps { self.metrics.snapshot_kept } else { self.metrics.snapshot_rejected };
                increment(host, counter);
                host.log(Level::Error, &format!("edgefold: snapshot refused: {error}"));
                keeps
            }
        }
    }

    /// To be called before each request, connection and data, by a host with a canary: a VM may have missed a base, or be a fresh one that
    /// was given an overlay only, because the one before has crashed. Or what it serves may have come when it looked like a canary.
    #[inline]
    pub fn recover(&mut self, host: &impl RequestHost) {
        let is_exported = self.serving.in_force.as_ref().is_none_or(|in_force| in_force.lists.is_some());
        if self.waiting.is_some() || !is_exported {
            self.recover_base(host);
            self.export(host);
        }
    }

    /// Takes the snapshot that the plugin is configured with.
    fn take(&mut self, host: &impl ConfigurationHost) -> Result<(), ConfigurationError> {
        let configuration = host.configuration().or_else(|| {
            // There may be room without the base that nothing uses yet, and that this VM can get again.
            self.spare.take_if(|_| host.has_canary())?;
            host.configuration()
        });
        let configuration = configuration.ok_or(ConfigurationError::NotProvided)?;
        // Each kind of filter, and each listener, is configured with it. A file is not even read again.
        let named = host.named_snapshot(&configuration);
        if named.is_some_and(|named| self.known().any(|known| known.fingerprint() == named)) {
            return Ok(());
        }
        let bytes = host.snapshot_in(configuration)?;
        let from = if Role::is_base(&bytes) { Resource::Base } else { Resource::Filter };
        let is_known = if from == Resource::Base {
            self.bases().any(|base| Some(base.fingerprint()) == Fingerprint::of(&bytes))
        } else {
            !host.has_canary() && self.known().any(|known| *known.bytes() == bytes)
        };
        if is_known {
            return Ok(());
        }
        let validated = host.validated(from);
        let mut snapshot = Snapshot::open_known(bytes, validated)?;
        let is_canary = host.has_canary() && validated != Some(snapshot.fingerprint());
        let is_base = snapshot.header().role == Role::Base;
        if !host.takes_pairs() && snapshot.header().role != Role::Whole {
            return Err(ConfigurationError::Pair);
        }
        if is_canary {
            // A worker that only looks like a canary may have an older one.
            if is_base && self.serving.in_force.is_none() && self.waiting.is_none() {
                host.share_base(snapshot.bytes());
            }
            host.share_validated(from, snapshot.fingerprint());
        } else {
            // A canary looks nothing up.
            snapshot.prepare();
        }
        let is_overlay = matches!(snapshot.header().role, Role::Overlay(_));
        // One line for each overlay and worker would fill the log.
        if !is_overlay {
            host.log(Level::Info, &summary(&snapshot));
        }
        let snapshot = Arc::new(snapshot);
        let keys = Keys::new(&snapshot, host);
        if is_base {
            self.spare = Some(Spare { base: snapshot, keys: Some(keys) });
            self.settle();
        } else if is_overlay {
            self.check_order(&snapshot)?;
            self.waiting = Some(Waiting { overlay: snapshot, keys, is_in_vain: false });
            self.settle();
            // A canary has no base, and serves nothing.
            if let Some(waiting) = self.waiting.as_ref().filter(|_| !is_canary) {
                // Here and not only when the base comes: a host may take new metrics for requests of this configuration only now.
                self.lists_seen.metrics_of_lists(waiting.overlay.header(), host);
                increment(host, self.metrics.overlay_waiting);
            }
        } else {
            self.check_order(&snapshot)?;
            self.serve(Layers::alone(snapshot), keys);
        }
        if !is_canary {
            self.export(host);
        }
        Ok(())
    }

    /// Only what this VM has been given counts: whatever else a canary has accepted in the meantime, a VM that has nothing must take
    /// this one.
    fn check_order(&self, next: &Snapshot<Vec<u8>>) -> Result<(), ConfigurationError> {
        let in_force = self.serving.in_force.as_ref().map(|in_force| in_force.snapshot.top());
        let waiting = self.waiting.as_ref().map(|waiting| &*waiting.overlay);
        if in_force.into_iter().chain(waiting).any(|known| order(known) > order(next)) {
            return Err(ConfigurationError::Older);
        }
        Ok(())
    }

    /// What is in force, and what waits for the other half of its pair. A base that is in force because nothing else was there is not among
    /// them, unless an overlay can still be over it.
    fn known(&self) -> impl Iterator<Item = &Snapshot<Vec<u8>>> {
        let in_force = self.serving.in_force.as_ref().map(|in_force| in_force.snapshot.top());
        let in_force = in_force.filter(|top| top.header().role != Role::Base);
        let waiting = self.waiting.as_ref().map(|waiting| &*waiting.overlay);
        in_force.into_iter().chain(waiting).chain(self.bases().map(|base| &**base))
    }

    fn bases(&self) -> impl Iterator<Item = &Arc<Snapshot<Vec<u8>>>> {
        let in_force = self.serving.in_force.as_ref().and_then(|in_force| in_force.snapshot.base());
        self.spare.iter().map(|spare| &spare.base).chain(in_force)
    }

    /// Serves the overlay that waits, if its base is there.
    fn settle(&mut self) {
        let Some(Waiting { overlay, keys, .. }) = &self.waiting else { return };
        let complete = self.bases().find_map(|base| Layers::over(Arc::clone(overlay), base));
        // A fresh VM has nothing else, and the base has all that the overlay has: see docs/format.md.
        let alone = || {
            let Spare { base, keys } = self.spare.as_ref().filter(|_| self.serving.in_force.is_none())?;
            let is_newer = order(base) >= order(overlay);
            Some((Layers::alone(Arc::clone(base)), keys.as_ref().filter(|_| is_newer)?.clone()))
        };
        if let Some((next, keys)) = complete.map(|next| (next, keys.clone())).or_else(alone) {
            self.serve(next, keys);
        }
    }

    /// From now on, `snapshot` is in force.
    fn serve(&mut self, snapshot: Layers<Vec<u8>>, keys: Keys) {
        if self.waiting.as_ref().is_some_and(|waiting| order(&waiting.overlay) <= order(snapshot.top())) {
            self.waiting = None;
        }
        let is_used = |spare: &Spare| snapshot.base().is_some_and(|used| Arc::ptr_eq(used, &spare.base));
        if self.spare.as_ref().is_some_and(is_used) {
            self.spare = None;
        }
        self.set_in_force(InForce { snapshot, keys, metrics: self.metrics, lists: None });
    }

    fn set_in_force(&mut self, in_force: InForce) {
        self.serving = Arc::new(Serving { in_force: Some(in_force), unavailable: self.metrics.unavailable });
    }

    /// Sets the gauges and defines the metrics of lists for what is in force, unless that is done.
    fn export(&mut self, host: &impl MetricsHost) {
        if let Some(in_force) = self.serving.in_force.as_ref().filter(|in_force| in_force.lists.is_none()) {
            let exported = in_force.clone().export(&mut self.lists_seen, host);
            self.set_in_force(exported);
        }
    }

    /// Gets the base of the overlay that waits from the host, if it is there.
    #[cold]
    fn recover_base(&mut self, host: &impl RequestHost) {
        let Some(Waiting { overlay, is_in_vain: is_in_vain @ false, .. }) = &mut self.waiting else { return };
        let Role::Overlay(changes) = &overlay.header().role else { return };
        let Some(base) = host.shared_base(changes.base) else { return };
        // Each attempt takes a copy.
        *is_in_vain = true;
        let base = Snapshot::open_known(base, Some(changes.base));
        if let Ok(mut base) = base
            && base.fingerprint() == changes.base
        {
            base.prepare();
            self.spare = Some(Spare { base: Arc::new(base), keys: None });
            self.settle();
        }
    }
}

/// Not by expiry: if a clock was ahead and is right again, the later snapshot has the earlier expiry, and blocks more.
fn order(snapshot: &Snapshot<Vec<u8>>) -> (u32, u64) {
    (snapshot.header().generation.epoch, snapshot.header().generation.next_offset)
}

fn summary(snapshot: &Snapshot<Vec<u8>>) -> String {
    let header = snapshot.header();
    let shadow = if header.settings.mode == Mode::Shadow { ", in shadow mode" } else { "" };
    let (ipv4_ranges, ipv6_ranges) = header.ranges();
    let lists =
        if let [_default] = &*header.lists { String::new() } else { format!(" on {} lists", header.lists.len()) };
    let base = if header.role == Role::Base { "base" } else { "snapshot" };
    format!(
        "edgefold: {base} of {} at offset {}: {ipv4_ranges} IPv4 and {ipv6_ranges} IPv6 ranges{lists}{shadow}",
        Quoted(&header.name),
        header.generation.next_offset,
    )
}
