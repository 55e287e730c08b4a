//! The engine of `edgefold serve`: follows the log, ships a snapshot at each change, and keeps the view of ranges.

use std::io;
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgefold::{Checkpoints, Contact, Error, Follower, FoundView, Log, LogTime, clocks};
use edgefold_snapshot::{EncodeError, Settings, Snapshot};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tracing::{error, info, warn};

use crate::admin::{self, Known, Metrics, Shipped};
use crate::api::{self, ApiConfig, ApiError};
use crate::keeper::{Keeper, MOST_JITTER, PATIENCE, Role};
use crate::modules::module_for;
use crate::replace::replace_file;
use crate::retry::Retry;
use crate::ship::ecds::FilterHost;
use crate::ship::files::Files;
use crate::ship::shipper::Shipper;
use crate::ship::{BaseLimits, Publisher, ShipError, Shipment, Subscriber};
use crate::ui::{Page, Writing};
use crate::xds::{Fleet, Peers, Xds, XdsConfig, XdsError};

/// How long to wait for commands before looking for signals.
const POLL: Duration = Duration::from_millis(100);

/// What `edgefold serve` does.
#[derive(Debug)]
pub struct ServeConfig {
    /// The name of the filter, which is that of the resources that carry the snapshot.
    pub name: String,
    /// Raised to replace snapshots by others that would be older.
    pub epoch: u32,
    /// What the filter does with requests and connections.
    pub settings: Settings,
    /// The file for the HTTP filter.
    pub http_file: Option<PathBuf>,
    /// The file for the network filter.
    pub network_file: Option<PathBuf>,
    /// The file for the base of both; if `None`, each snapshot is whole.
    pub base_file: Option<PathBuf>,
    /// Where Envoy sees the folder of that file, if elsewhere.
    pub envoy_folder: Option<String>,
    /// Where to serve Envoys over gRPC.
    pub xds: Option<XdsConfig>,
    /// The file that receives the address of that server.
    pub xds_address_path: Option<PathBuf>,
    /// Where to take commands over HTTP.
    pub api: Option<ApiConfig>,
    /// The file that receives the address of that server.
    pub api_address_path: Option<PathBuf>,
    /// What runs the filter in Envoy.
    pub host: FilterHost,
    /// How long to wait after a shipment before the next.
    pub min_interval: Duration,
    /// Whether to take part in keeping the view of ranges.
    pub keeps_view: bool,
    /// Where to serve metrics.
    pub admin: Option<SocketAddr>,
    /// The file that receives the address of the admin server.
    pub admin_address_path: Option<PathBuf>,
    /// Names that browsers may know the admin server by.
    pub page_hosts: Vec<String>,
    /// The folds of earlier moments, for the page.
    pub checkpoints: Checkpoints,
    /// Whether to listen without TLS where others may see the traffic.
    pub plaintext: bool,
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
    let fleet = Arc::new(Fleet::default());
    let (metrics, shipped) = (Arc::new(Metrics::new(&fleet)), Arc::new(Shipped::default()));
    let known = Known { metrics: Arc::clone(&metrics), fleet: Arc::clone(&fleet), shipped: Arc::clone(&shipped) };
    let commands = Arc::new(OnceLock::new());
    if let Some(address) = config.admin {
        let page = Page {
            log: Arc::clone(&log),
            checkpoints: Arc::new(config.checkpoints),
            hosts: config.page_hosts,
            fleet: Some(Arc::clone(&fleet)),
            has_fleet: config.xds.is_some(),
            writing: Writing::over(address, config.plaintext, config.api.as_ref().map(|_| &commands)),
        };
        serve_admin(address, config.admin_address_path, known.clone(), page)?;
    }
    let module = module_for(config.host, config.settings.open_connections);
    let mut publisher = Publisher::new(&config.name, config.epoch, config.settings, module);
    let mut files = Files::new(config.http_file, config.network_file, config.host)?;
    if let Some(path) = &config.base_file {
        files = files.with_base(path.clone())?;
    }
    if config.base_file.is_some() || config.host == FilterHost::Native {
        files = files.with_module(config.envoy_folder.as_deref(), module)?;
    }
    let peers = match &config.xds {
        Some(xds) if !xds.peers.is_empty() => {
            Some(Peers::new(&config.name, xds.peers.clone(), xds.tls.clone()).map_err(XdsError::from)?)
        }
        _ => None,
    };
    if config.base_file.is_some() || config.xds.is_some() {
        let limits = if config.xds.is_some() { BaseLimits::FOR_A_FLEET } else { BaseLimits::default() };
        // That of another replica first: a proxy that comes from there has it.
        let found = peers.as_ref().and_then(|peers| peers.newest_base(None)).or_else(|| files.found_base());
        publisher = publisher.with_bases(limits, found).map_err(ShipError::from)?;
    }
    let (mut follower, contact) = start(&*log)?;
    let view = follower.view.take();
    metrics.unusable_views.inc_by(u64::from(view.as_ref().is_none_or(|view| !view.is_usable)));
    // Not earlier: an Envoy that finds nobody here tries another replica.
    let xds = config.xds.map(|xds| Xds::start(xds, module, config.host, Arc::clone(&fleet))).transpose()?;
    let xds_address = xds.as_ref().map(Xds::address);
    let everywhere =
        Everywhere { files, has_files: false, files_retry: Retry::default(), file_failures: 0, xds, shipped, fleet };
    let mut shipper = Shipper::new(follower, publisher, everywhere, config.min_interval, contact);
    shipper.ship_first(clocks())?;
    metrics.note(shipper.status(), shipper.other_failures());
    if let Some(address) = xds_address {
        info!("xDS at {address}");
        config.xds_address_path.map_or(Ok(()), |path| write_address(path, address))?;
    }
    let api = config.api.map(|api| api::serve(api, Arc::clone(&log), known)).transpose()?;
    if let Some(address) = api.as_ref().map(|api| api.address) {
        // Nothing else sets it.
        let _set = api.as_ref().map(|api| commands.set(Arc::clone(&api.commands)));
        info!("commands at {address}");
        config.api_address_path.map_or(Ok(()), |path| write_address(path, address))?;
    }
    starting.store(false, Ordering::Relaxed);
    let keeper = config.keeps_view.then(|| keep_view(Arc::clone(&log), view, Arc::clone(&metrics), Arc::clone(&stop)));
    let mut rebasing = None;
    while !stop.load(Ordering::Relaxed) {
        // The writer of the view makes the bases, if replicas know each other.
        let from_peers = peers.as_ref().filter(|_| metrics.writer.get() == 0);
        rebase(&mut shipper, &mut rebasing, from_peers);
        let timeout = shipper.poll_timeout(clocks(), POLL);
        let read = if shipper.can_read(clocks()) {
            Some(shipper.read(&*log, timeout))
        } else {
            thread::sleep(timeout);
            None
        };
        shipper.handle(read, clocks())?;
        metrics.note(shipper.status(), shipper.other_failures());
        metrics.is_alive();
    }
    let position = shipper.follower().fold.position();
    // Proxies look for another replica first of all.
    if let Some(xds) = shipper.into_subscriber().xds {
        xds.stop();
    }
    if let Some(api) = api {
        api.stop();
    }
    // The keeper may be in the middle of a commit. A commit that does not complete is aborted.
    let _ended_or_late = keeper.map(|keeper| keeper.recv_timeout(PATIENCE));
    info!("stopped at {position}");
    Ok(())
}

/// Delivers to files and over gRPC, and tells whoever asks the admin server.
struct Everywhere {
    files: Files,
    /// Whether they were ever written.
    has_files: bool,
    /// When files that could not be written are tried again, if there are proxies too, which they must not hold up.
    files_retry: Retry,
    file_failures: u64,
    xds: Option<Xds>,
    shipped: Arc<Shipped>,
    fleet: Arc<Fleet>,
}

impl Everywhere {
    fn files_failed(&mut self, error: &ShipError) {
        self.file_failures += 1;
        self.files_retry.report(error, Instant::now());
    }
}

impl Subscriber for Everywhere {
    fn deliver(&mut self, shipment: &Arc<Shipment>) -> Result<u64, ShipError> {
        let over_grpc = self.xds.as_mut().map_or(Ok(0), |xds| xds.deliver(shipment))?;
        let to_files = match self.files.deliver(shipment) {
            // At the start it may be a wrong path.
            Err(error) if self.xds.is_none() || !self.has_files => return Err(error),
            Err(error) => {
                self.files_failed(&error);
                0
            }
            Ok(bytes) => {
                (self.has_files, self.files_retry) = (true, Retry::default());
                bytes
            }
        };
        let bytes = over_grpc + to_files;
        self.shipped.set(shipment);
        self.fleet.tell(|| json!({ "event": "shipped", "version": shipment.version, "ranges": shipment.ranges }));
        Ok(bytes)
    }

    fn repair(&mut self, shipment: &Arc<Shipment>) -> Result<bool, ShipError> {
        if !self.files_retry.has_failed() {
            return match self.files.repair(shipment) {
                Err(error) if self.xds.is_some() => {
                    self.files_failed(&error);
                    Ok(false)
                }
                outcome => outcome,
            };
        }
        if self.files_retry.wait(Instant::now()).is_none() {
            match self.files.deliver(shipment) {
                Ok(_bytes) => self.files_retry = Retry::default(),
                Err(error) => self.files_failed(&error),
            }
        }
        Ok(false)
    }

    fn failures(&self) -> u64 {
        self.file_failures
    }

    fn note_covered(&mut self, next_offset: u64, oldest: Option<LogTime>) {
        if let Some(xds) = &mut self.xds {
            xds.note_covered(next_offset, oldest);
        }
        if oldest.is_some() {
            self.fleet.tell(|| json!({ "event": "folded", "next_offset": next_offset }));
        }
    }
}

fn serve_admin(address: SocketAddr, path: Option<PathBuf>, known: Known, page: Page) -> Result<(), ServeError> {
    let address = admin::serve(address, known, page).map_err(|source| ServeError::Admin { address, source })?;
    info!("the page at http://{address}/, metrics at http://{address}/metrics");
    path.map_or(Ok(()), |path| write_address(path, address))
}

fn write_address(path: PathBuf, address: SocketAddr) -> Result<(), ServeError> {
    let written = replace_file(&path, address.to_string().as_bytes());
    Ok(written.map_err(|source| ShipError::File { path, source })?)
}

/// Folds all commands that exist now, and says when the log confirmed that there were no more. A half-read log is never shipped,
/// because what is missing may be a block. If the log cannot be reached, this waits.
fn start(log: &dyn Log) -> Result<(Follower, Contact), Error> {
    let follower = || {
        for warning in log.check()? {
            warn!("{warning}");
        }
        // If it shipped before there is contact, an Envoy that refuses when its snapshot is stale would refuse everything.
        Follower::load_with_contact(log, clocks())
    };
    let mut retry = Retry::default();
    loop {
        match follower() {
            Ok((follower, contact)) => {
                let (position, rejected) = (follower.fold.position(), follower.rejected);
                info!("caught up at offset {}, {rejected} records skipped", position.next_offset);
                return Ok((follower, contact));
            }
            Err(error) if Error::is_transient(&error) => thread::sleep(retry.report(&error, Instant::now())),
            Err(error) => return Err(error),
        }
    }
}

/// A base that has taken a while to get.
enum NextBase {
    /// What encoding it has come to.
    Encoded(Result<Vec<u8>, EncodeError>),
    /// That of another replica.
    Adopted(Box<Snapshot<Bytes>>),
}

/// Encodes a base on a thread of its own once one is due, or gets that of a peer: meanwhile, changes are shipped.
fn rebase(shipper: &mut Shipper<Everywhere>, running: &mut Option<JoinHandle<NextBase>>, peers: Option<&Peers>) {
    if let Some(thread) = running.take_if(|thread| thread.is_finished()) {
        match thread.join() {
            Ok(NextBase::Encoded(outcome)) => shipper.rebased(Some(outcome)),
            Ok(NextBase::Adopted(base)) => shipper.adopt(*base),
            Err(_panic) => {
                error!("encoding a base has panicked, which is a bug");
                shipper.rebased(None);
            }
        }
    } else if running.is_none() {
        let Some(work) = shipper.rebase() else { return };
        let peers = peers.cloned();
        let run = move || {
            let adopted = peers.and_then(|peers| peers.wait_for_base(work.base()));
            adopted.map_or_else(|| NextBase::Encoded(work.run()), |base| NextBase::Adopted(Box::new(base)))
        };
        match thread::Builder::new().spawn(run) {
            Ok(thread) => *running = Some(thread),
            Err(error) => {
                warn!("cannot start a thread to encode a base: {error}");
                shipper.rebased(None);
            }
        }
    }
}

/// Keeps the view on its own thread until `stop`. The receiver is disconnected when the thread ends.
fn keep_view(log: Arc<dyn Log>, view: Option<FoundView>, metrics: Arc<Metrics>, stop: Arc<AtomicBool>) -> Receiver<()> {
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        let _ended = ended; // Dropped at the end.
        let jitter = || MOST_JITTER.mul_f64(fastrand::f64());
        let mut keeper = match view {
            Some(view) => Keeper::continuing(view, Instant::now(), jitter()),
            None => Keeper::new(Instant::now(), jitter()),
        };
        let mut found_before = metrics.unusable_views.get();
        while !stop.load(Ordering::Relaxed) {
            if keeper.has_to_rest(Instant::now()) {
                thread::sleep(POLL);
            }
            let step = || keeper.step(&*log, metrics.next_offset.get(), Instant::now(), POLL);
            // Shipping does not need the keeper, and must not end with it.
            if panic::catch_unwind(AssertUnwindSafe(step)).is_err() {
                error!("the keeper of the view of ranges has panicked, which is a bug: it starts again");
                metrics.keeper_panics.inc();
                found_before += keeper.unusable_views();
                keeper = Keeper::new(Instant::now() + PATIENCE, jitter());
            }
            metrics.writer.set(u64::from(keeper.role() == Role::Writer));
            metrics.taking_over.set(u64::from(keeper.role() == Role::TakingOver));
            metrics.view_next_offset.set(keeper.view_offset());
            metrics.unusable_views.inner().store(found_before + keeper.unusable_views(), Ordering::Relaxed);
        }
    });
    end
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
    /// The xDS server cannot start.
    #[error(transparent)]
    Xds(#[from] XdsError),
    /// The API cannot start.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Signals cannot be handled.
    #[error("cannot handle signals: {0}")]
    Signal(io::Error),
}
