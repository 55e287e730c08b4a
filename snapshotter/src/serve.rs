//! The engine of `edgefold serve`: follows the log, ships a snapshot at each change, and keeps the view of ranges.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use edgefold::{Backoff, Error, Follower, Log, now};
use edgefold_snapshot::Settings;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tracing::{info, warn};

use crate::admin::{self, Metrics};
use crate::keeper::{Keeper, PATIENCE, Role};
use crate::modules::module_for;
use crate::ship::ecds::FailurePolicy;
use crate::ship::files::{Files, replace_file};
use crate::ship::{Publisher, ShipError, Shipment, Subscriber};

/// How long to wait for commands before looking for signals.
const POLL: Duration = Duration::from_millis(100);

/// What `edgefold serve` does.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// The name of the list, and of the resources that carry it.
    pub list: String,
    /// What the filter does with requests and connections.
    pub settings: Settings,
    /// The file for the HTTP filter.
    pub http_file: Option<PathBuf>,
    /// The file for the network filter.
    pub network_file: Option<PathBuf>,
    /// What Envoy does if the filter crashes.
    pub failure_policy: FailurePolicy,
    /// Where to serve metrics.
    pub admin: Option<SocketAddr>,
    /// The file that receives the address of the admin server.
    pub admin_address_path: Option<PathBuf>,
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// [`ServeError`]: what does not go away by itself. Everything else is reported and retried.
pub fn serve(log: Arc<dyn Log>, config: ServeConfig) -> Result<(), ServeError> {
    let stop = Arc::new(AtomicBool::new(false));
    // Until the first snapshot a signal ends the process at once: there is nothing to clean up.
    let starting = Arc::new(AtomicBool::new(true));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, Arc::clone(&starting)).map_err(ServeError::Signal)?;
        flag::register(signal, Arc::clone(&stop)).map_err(ServeError::Signal)?;
    }
    let metrics = Arc::new(Metrics::default());
    if let Some(address) = config.admin {
        serve_metrics(address, config.admin_address_path, &metrics)?;
    }
    let module = module_for(config.settings.open_connections);
    let mut server = Server {
        follower: start(&*log)?,
        publisher: Publisher::new(&config.list, config.settings, module),
        files: Delivery::new(Files::new(config.http_file, config.network_file, config.failure_policy)),
        log_trouble: Trouble::default(),
        metrics,
    };
    server.ship_first()?;
    starting.store(false, Ordering::Relaxed);
    let keeper = keep_view(log, Arc::clone(&server.metrics), Arc::clone(&stop));
    while !stop.load(Ordering::Relaxed) {
        server.step()?;
    }
    // The keeper may be in the middle of a commit. A commit that does not complete is aborted.
    let _ended_or_late = keeper.recv_timeout(PATIENCE);
    info!("stopped at {}", server.follower.fold.position());
    Ok(())
}

fn serve_metrics(address: SocketAddr, path: Option<PathBuf>, metrics: &Arc<Metrics>) -> Result<(), ServeError> {
    let address = admin::serve(address, Arc::clone(metrics)).map_err(|source| ServeError::Admin { address, source })?;
    info!("metrics at http://{address}/metrics");
    if let Some(path) = path {
        let written = replace_file(&path, address.to_string().as_bytes());
        written.map_err(|source| ShipError::File { path, source })?;
    }
    Ok(())
}

/// Folds all commands that exist now. A half-read log is never shipped, because what is missing may be a block. If the log
/// cannot be reached, this waits.
fn start(log: &dyn Log) -> Result<Follower, Error> {
    let follower = || {
        for warning in log.check()? {
            warn!("{warning}");
        }
        Follower::load(log)
    };
    let mut trouble = Trouble::default();
    loop {
        match follower() {
            Ok(follower) => {
                let (position, rejected) = (follower.fold.position(), follower.rejected);
                info!("caught up at offset {}, {rejected} records skipped", position.next_offset);
                return Ok(follower);
            }
            Err(error) if error.is_transient() => trouble.report(error),
            Err(error) => return Err(error),
        }
        while trouble.must_wait() {
            thread::sleep(POLL);
        }
    }
}

/// Keeps the view on its own thread until `stop`. The receiver is disconnected when the thread ends.
fn keep_view(log: Arc<dyn Log>, metrics: Arc<Metrics>, stop: Arc<AtomicBool>) -> Receiver<()> {
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        let _ended = ended; // Dropped at the end.
        // Processes that start together have different numbers.
        let jitter = Duration::from_millis(u64::from(std::process::id()) * 619 % 2000);
        let mut keeper = Keeper::new(Instant::now(), jitter);
        while !stop.load(Ordering::Relaxed) {
            keeper.step(&*log, metrics.next_offset.get(), Instant::now(), POLL);
            metrics.writer.set(u64::from(keeper.role() == Role::Writer));
            metrics.taking_over.set(u64::from(keeper.role() == Role::TakingOver));
            metrics.view_next_offset.set(keeper.view_offset());
        }
    });
    end
}

/// Follows the log, and ships.
struct Server {
    follower: Follower,
    publisher: Publisher,
    files: Delivery<Files>,
    log_trouble: Trouble,
    metrics: Arc<Metrics>,
}

impl Server {
    /// Ships for the first time. A wrong path ends the process at once; a full disk may have room later.
    fn ship_first(&mut self) -> Result<(), ShipError> {
        let shipment = self.publisher.publish(&self.follower.fold, now())?;
        self.metrics.next_offset.set(self.follower.fold.position().next_offset);
        match self.files.deliver(shipment, &self.metrics) {
            Err(error) if !error.is_transient() => Err(error),
            outcome => {
                self.files.note(outcome, &self.metrics);
                Ok(())
            }
        }
    }

    /// Waits for commands, or for the next block to end, and ships.
    fn step(&mut self) -> Result<(), Error> {
        let time = now();
        let expiry = self.follower.fold.next_expiry(time).map(|at| Duration::from_millis(at.millis() - time.millis()));
        let wait = expiry.map_or(POLL, |expiry| expiry.min(POLL));
        if self.log_trouble.must_wait() {
            thread::sleep(wait);
        } else {
            match self.follower.follow(wait) {
                Ok(_) => self.log_trouble.is_over(),
                Err(error) if error.is_transient() => self.log_trouble.report(error),
                Err(error) => return Err(error),
            }
        }
        self.follower.edits.clear(); // The keeper of the view collects its own.
        self.metrics.next_offset.set(self.follower.fold.position().next_offset);
        self.metrics.rejected.set(self.follower.rejected);
        // Even without new commands: blocks expire by the wall clock.
        if !self.files.trouble.must_wait() {
            let outcome = match self.publisher.publish(&self.follower.fold, now()) {
                Ok(shipment) if self.files.has(shipment) => return Ok(()),
                Ok(shipment) => self.files.deliver(shipment, &self.metrics),
                Err(error) => Err(error),
            };
            self.files.note(outcome, &self.metrics);
        }
        Ok(())
    }
}

/// A subscriber, what it has, and what keeps it from having more.
struct Delivery<S> {
    subscriber: S,
    /// The last shipment that was delivered.
    delivered: Option<Arc<Shipment>>,
    trouble: Trouble,
}

impl<S: Subscriber> Delivery<S> {
    fn new(subscriber: S) -> Self {
        Self { subscriber, delivered: None, trouble: Trouble::default() }
    }

    fn has(&self, shipment: &Arc<Shipment>) -> bool {
        self.delivered.as_ref().is_some_and(|delivered| Arc::ptr_eq(delivered, shipment))
    }

    fn deliver(&mut self, shipment: &Arc<Shipment>, metrics: &Metrics) -> Result<(), ShipError> {
        let bytes = self.subscriber.deliver(shipment)?;
        info!("shipped generation {}: {bytes} bytes", shipment.version);
        self.delivered = Some(Arc::clone(shipment));
        metrics.shipped.inc();
        metrics.ranges.set(shipment.ranges);
        metrics.shipped_bytes.set(bytes);
        metrics.shipped_next_offset.set(shipment.generation.next_offset);
        Ok(())
    }

    fn note(&mut self, outcome: Result<(), ShipError>, metrics: &Metrics) {
        match outcome {
            Ok(()) => self.trouble.is_over(),
            Err(error) => {
                metrics.ship_failures.inc();
                self.trouble.report(error);
            }
        }
    }
}

/// Something that fails now and then, and is retried after a while.
#[derive(Debug, Default)]
struct Trouble {
    backoff: Backoff,
    until: Option<Instant>,
}

impl Trouble {
    /// Whether it is too early to retry.
    fn must_wait(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    /// It failed: logs the error, and when it is retried.
    fn report(&mut self, error: impl Display) {
        let delay = self.backoff.delay();
        warn!("{error}; Envoy keeps what it has; trying again in {} s", delay.as_secs());
        self.until = Some(Instant::now() + delay);
    }

    /// It succeeded.
    fn is_over(&mut self) {
        *self = Self::default();
    }
}

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] Error),
    /// The first snapshot cannot be shipped.
    #[error(transparent)]
    Ship(#[from] ShipError),
    /// The admin server cannot listen.
    #[error("cannot listen on {address}: {source}")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Signals cannot be handled.
    #[error("cannot handle signals: {0}")]
    Signal(io::Error),
}

#[cfg(test)]
mod tests {
    use edgefold::{Fold, LogTime};

    use super::*;

    /// Fails as often as it is told to.
    struct Disk {
        failures: usize,
        files: Vec<String>,
    }

    impl Subscriber for Disk {
        fn deliver(&mut self, shipment: &Arc<Shipment>) -> Result<u64, ShipError> {
            if self.failures > 0 {
                self.failures -= 1;
                return Err(ShipError::File { path: "disk".into(), source: io::ErrorKind::StorageFull.into() });
            }
            self.files.push(shipment.id.clone());
            Ok(1)
        }
    }

    #[test]
    fn a_shipment_is_delivered_once_and_a_failed_one_stays_due() {
        let metrics = Metrics::default();
        let mut publisher = Publisher::new("edgefold", Settings::default(), b"module");
        let shipment = Arc::clone(publisher.publish(&Fold::default(), LogTime::EPOCH).unwrap());
        let mut delivery = Delivery::new(Disk { failures: 1, files: Vec::new() });
        let outcome = delivery.deliver(&shipment, &metrics);
        delivery.note(outcome, &metrics);
        assert!(!delivery.has(&shipment) && delivery.trouble.must_wait());
        assert_eq!((metrics.ship_failures.get(), metrics.shipped.get()), (1, 0));
        let outcome = delivery.deliver(&shipment, &metrics);
        delivery.note(outcome, &metrics);
        assert!(delivery.has(&shipment) && !delivery.trouble.must_wait());
        assert!(!delivery.has(&Arc::new(Shipment::clone(&shipment))), "an equal one is another shipment");
        assert_eq!((metrics.shipped.get(), delivery.subscriber.files.len()), (1, 1));
    }
}
