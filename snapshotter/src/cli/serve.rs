//! `edgefold serve`: folds the log, ships a snapshot at each change, and keeps the view.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use clap::{ArgGroup, Args, ValueEnum};
use edgefold_table::{ClientAddress, Generation, OpenConnections, Refusal, Settings};
use envoy_types::pb::envoy::extensions::wasm::v3::FailurePolicy as EnvoyFailurePolicy;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tracing::{info, warn};

use super::CliError;
use super::settings::{self, SettingsArgs};
use crate::admin;
use crate::backoff::Trouble;
use crate::clock::now;
use crate::ecds::{Filter, discovery_response, replace_file, shipment_in};
use crate::keeper::{Keeper, PATIENCE, Role};
use crate::load::Follower;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::snapshot::{cut, generation, version};

/// How long to wait for commands before looking at the signals.
const WAIT: Duration = Duration::from_millis(100);

/// Follow the log, and ship a snapshot to Envoy at each change
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("to").required(true).multiple(true).args(["ecds_file", "network_ecds_file"])))]
pub(super) struct Serve {
    /// Ship the HTTP filter to this file, from which Envoy takes it; its name must end in .pb
    #[arg(long, value_name = "FILE", value_parser = ecds_path)]
    ecds_file: Option<PathBuf>,
    /// Ship the network filter to this file, which refuses connections; its name must end in .pb
    #[arg(long, value_name = "FILE", value_parser = ecds_path)]
    network_ecds_file: Option<PathBuf>,
    #[command(flatten)]
    snapshot: SnapshotArgs,
    /// Serve metrics for Prometheus there, at /metrics, as in 127.0.0.1:9464
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// What Envoy does with requests if the filter crashes
    #[arg(long, value_name = "POLICY", default_value = "fail-reload")]
    failure_policy: FailurePolicy,
}

/// What goes into a snapshot beside the ranges.
#[derive(Args, Debug)]
pub(super) struct SnapshotArgs {
    /// The name of the list, which is that of the ECDS resource
    #[arg(long, default_value = "edgefold", value_parser = list_name)]
    pub(super) name: String,
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
}

/// A name that fits into the header and into a line of a log.
fn list_name(text: &str) -> Result<String, String> {
    let fits = (1..=255).contains(&text.len()) && !text.contains(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err("a name has 1 to 255 bytes and no control characters".to_owned()) }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FailurePolicy {
    /// Start the filter anew, and answer 503 while that fails
    #[value(name = "fail-reload")]
    Reload,
    /// Answer 503
    #[value(name = "fail-closed")]
    Closed,
    /// Let requests pass
    #[value(name = "fail-open")]
    Open,
}

impl From<FailurePolicy> for EnvoyFailurePolicy {
    fn from(policy: FailurePolicy) -> Self {
        match policy {
            FailurePolicy::Reload => Self::FailReload,
            FailurePolicy::Closed => Self::FailClosed,
            FailurePolicy::Open => Self::FailOpen,
        }
    }
}

/// Envoy picks the parser of a file by its extension.
fn ecds_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension() {
        Some(extension) if extension == "pb" => Ok(path),
        _ => Err("Envoy takes a file for a binary protobuf only if its name ends in .pb".to_owned()),
    }
}

impl Serve {
    /// Whether each setting has a filter that it is for.
    fn check(&self, settings: &Settings) -> Result<(), &'static str> {
        let Settings { refusal, client_address, open_connections, .. } = settings;
        if self.ecds_file == self.network_ecds_file {
            return Err(
                "--ecds-file and --network-ecds-file take a file each: the resource of one has no place for the other",
            );
        }
        if self.network_ecds_file.is_none() && *open_connections != OpenConnections::default() {
            return Err("--open-connections is for the network filter, and goes with --network-ecds-file");
        }
        if self.ecds_file.is_none() && (*refusal != Refusal::default() || *client_address != ClientAddress::default()) {
            return Err(
                "--status, --body, --content-type, --header and --client-address are for the HTTP filter, and go \
                        with --ecds-file",
            );
        }
        Ok(())
    }

    pub(super) fn run(&self, log: Arc<dyn Log>) -> Result<ExitCode, CliError> {
        let settings = self.snapshot.settings.read()?;
        self.check(&settings).map_err(|what| CliError::Usage(what.to_owned()))?;
        let stop = Arc::new(AtomicBool::new(false));
        // Until the first snapshot a signal ends the process at once: there is nothing to clean up.
        let starting = Arc::new(AtomicBool::new(true));
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_default(signal, Arc::clone(&starting)).map_err(CliError::Signal)?;
            flag::register(signal, Arc::clone(&stop)).map_err(CliError::Signal)?;
        }
        let metrics = Arc::new(Metrics::default());
        if let Some(address) = self.admin {
            let address =
                admin::serve(address, Arc::clone(&metrics)).map_err(|source| CliError::Admin { address, source })?;
            info!("metrics at http://{address}/metrics");
        }
        let mut shipper = Shipper {
            serve: self,
            settings,
            metrics,
            follower: start(&*log)?,
            shipped: None,
            log_trouble: Trouble::default(),
            ship_trouble: Trouble::default(),
        };
        if let Err(error) = shipper.ship() {
            // A path that is wrong is told at once; a disk that is full may have room later.
            if !may_pass(&error) {
                return Err(error);
            }
            shipper.ship_trouble.tell(error);
        }
        starting.store(false, Ordering::Relaxed);
        let keeper = keep_view(log, Arc::clone(&shipper.metrics), Arc::clone(&stop));
        while !stop.load(Ordering::Relaxed) {
            shipper.step()?;
        }
        // It may be in the middle of a commit, which is aborted if it does not come to its end.
        let _gone_or_late = keeper.recv_timeout(PATIENCE);
        info!("stopped at offset {}", shipper.follower.fold.position().next_offset);
        Ok(ExitCode::SUCCESS)
    }
}

/// The fold of all commands there are. A half-read log is never shipped: what is missing may be a block. Waits for a log
/// that cannot be reached.
fn start(log: &dyn Log) -> Result<Follower, CliError> {
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
            Err(error) if error.may_pass() => trouble.tell(error),
            Err(error) => return Err(error.into()),
        }
        while trouble.waits() {
            thread::sleep(WAIT);
        }
    }
}

/// Keeps the view on a thread of its own, until `stop`. The receiver hears of its end.
fn keep_view(log: Arc<dyn Log>, metrics: Arc<Metrics>, stop: Arc<AtomicBool>) -> Receiver<()> {
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        let _ended = ended; // Dropped at the end.
        // Processes that start together have different numbers.
        let more = Duration::from_millis(u64::from(std::process::id()) * 619 % 2000);
        let mut keeper = Keeper::new(Instant::now(), more);
        while !stop.load(Ordering::Relaxed) {
            keeper.step(&*log, metrics.next_offset.get(), Instant::now(), WAIT);
            metrics.writer.set(u64::from(keeper.role() == Role::Writer));
            metrics.view_next_offset.set(keeper.view_offset());
        }
    });
    end
}

fn may_pass(error: &CliError) -> bool {
    use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    match error {
        CliError::File { source, .. } => {
            !matches!(source.kind(), IsADirectory | NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem)
        }
        _ => false,
    }
}

/// Follows the log, and ships what is blocked.
struct Shipper<'a> {
    serve: &'a Serve,
    settings: Settings,
    metrics: Arc<Metrics>,
    follower: Follower,
    shipped: Option<(Generation, Settings)>,
    log_trouble: Trouble,
    ship_trouble: Trouble,
}

impl Shipper<'_> {
    /// Waits for commands, or for the next block to end, and ships.
    fn step(&mut self) -> Result<(), CliError> {
        let time = now();
        let expiry = self.follower.fold.next_expiry(time).map(|at| Duration::from_millis(at.millis() - time.millis()));
        let wait = expiry.map_or(WAIT, |expiry| expiry.min(WAIT));
        if self.log_trouble.waits() {
            thread::sleep(wait);
        } else {
            match self.follower.follow(wait) {
                Ok(()) => self.log_trouble.over(),
                Err(error) if error.may_pass() => self.log_trouble.tell(error),
                Err(error) => return Err(error.into()),
            }
        }
        self.follower.edits.clear(); // The keeper of the view has its own.
        self.metrics.next_offset.set(self.follower.fold.position().next_offset);
        self.metrics.rejected.set(self.follower.rejected);
        // Blocks end without the log too.
        if !self.ship_trouble.waits() {
            match self.ship() {
                Ok(()) => self.ship_trouble.over(),
                Err(error) => {
                    self.metrics.ship_failures.inc();
                    self.ship_trouble.tell(error);
                }
            }
        }
        Ok(())
    }

    /// Ships what is blocked now, unless it is what was shipped last, and still fresh.
    fn ship(&mut self) -> Result<(), CliError> {
        let Self { serve, settings, metrics, follower, shipped, .. } = self;
        let fold = &follower.fold;
        let time = now();
        let next = (generation(fold, time), settings::at(settings, time));
        if *shipped == Some(next.clone()) {
            return Ok(());
        }
        let (generation, settings) = &next;
        let (name, version) = (&serve.snapshot.name, version(*generation, settings.freshness));
        let snapshot = cut(fold, name, settings.clone(), time)?;
        let mut bytes_shipped = 0;
        for (filter, path) in [(Filter::Network, &serve.network_ecds_file), (Filter::Http, &serve.ecds_file)] {
            let Some(path) = path else { continue };
            let policy = serve.failure_policy.into();
            let shipment = |shipment: &str| {
                discovery_response(filter, name, &version, shipment, &snapshot, settings.open_connections, policy)
            };
            let bytes = shipment(&time.millis().to_string());
            // After a restart Envoy has this state already: it is not sent it again.
            let is_there = |there: Vec<u8>| shipment_in(&there).is_some_and(|before| shipment(&before) == there);
            if shipped.is_some() || !std::fs::read(path).is_ok_and(is_there) {
                replace_file(path, &bytes).map_err(CliError::file(path))?;
            }
            bytes_shipped += bytes.len() as u64;
        }
        info!("shipped generation {version}: {bytes_shipped} bytes");
        *shipped = Some(next);
        metrics.shipped.inc();
        metrics.ranges.set(fold.blocked_at(time).count() as u64);
        metrics.shipped_bytes.set(bytes_shipped);
        Ok(())
    }
}
