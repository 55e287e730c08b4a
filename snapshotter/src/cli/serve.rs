//! `edgefold serve`: folds the log, ships a snapshot at each change, and keeps the view.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use edgefold_table::{Generation, NoAddress, Settings};
use envoy_types::pb::envoy::extensions::wasm::v3::FailurePolicy as EnvoyFailurePolicy;
use signal_hook::consts::{SIGINT, SIGTERM};
use tracing::{info, warn};

use super::CliError;
use crate::clock::now;
use crate::ecds::{discovery_response, replace_file};
use crate::edits::Edits;
use crate::load::{Follower, LoadError, read_view};
use crate::log::{Log, LogError, ViewWriter};
use crate::snapshot::{cut, generation, generation_text};

/// How long to wait for commands before looking at the signals.
const WAIT: Duration = Duration::from_millis(100);
/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Follow the log, and ship a snapshot to Envoy at each change
#[derive(Args, Debug)]
pub(super) struct Serve {
    /// Ship to this file, from which Envoy takes it; its name must end in .pb
    #[arg(long, value_name = "FILE", value_parser = ecds_path)]
    ecds_file: PathBuf,
    #[command(flatten)]
    snapshot: SnapshotArgs,
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
    /// What happens to a request whose client has no IP address: it came over a pipe or an internal listener
    #[arg(long, value_name = "POLICY", default_value = "allow")]
    no_address: NoAddressPolicy,
}

/// A name that fits into the header and into a line of a log.
fn list_name(text: &str) -> Result<String, String> {
    let fits = (1..=255).contains(&text.len()) && !text.contains(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err("a name has 1 to 255 bytes and no control characters".to_owned()) }
}

impl SnapshotArgs {
    pub(super) fn settings(&self) -> Settings {
        Settings {
            no_address: match self.no_address {
                NoAddressPolicy::Allow => NoAddress::Allow,
                NoAddressPolicy::Deny => NoAddress::Deny,
            },
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum NoAddressPolicy {
    /// It passes
    Allow,
    /// It is refused
    Deny,
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
    pub(super) fn run(&self, log: &dyn Log) -> Result<ExitCode, CliError> {
        // The place of the writer first: after it nobody else changes the view that is read here.
        let mut view = ViewKeeper::Writing(log.view_writer()?);
        let mut follower = Follower::bootstrap(log)?;
        let position = follower.written;
        info!("read {} ranges up to offset {} from the view", follower.fold.ranges().count(), position.next_offset);
        // Until here a signal ends the process at once: there is nothing to clean up.
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(CliError::Signal)?;
        }
        // A half-read log is never shipped: what is missing may be a block.
        while !follower.follow(WAIT)?.at_end {
            if stop.load(Ordering::Relaxed) {
                return Ok(ExitCode::SUCCESS);
            }
        }
        info!("caught up at offset {}, {} records skipped", follower.fold.position().next_offset, follower.rejected);
        // The first one must succeed: a path that is wrong is told at once.
        let mut shipped = self.ship(&follower, None)?;
        let mut retry_at = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            // Shipped first: the commands are safe in the log, and the view can wait.
            view.keep(log, &mut follower);
            let time = now();
            let expiry =
                follower.fold.next_expiry(time).map(|expiry| Duration::from_millis(expiry.millis() - time.millis()));
            follower.follow(expiry.map_or(WAIT, |expiry| expiry.min(WAIT)))?;
            if Instant::now() >= retry_at {
                match self.ship(&follower, Some(shipped)) {
                    Ok(generation) => shipped = generation,
                    Err(error) => {
                        warn!("cannot ship, will try again: {error}");
                        retry_at = Instant::now() + RETRY;
                    }
                }
            }
        }
        info!("stopped at offset {}", follower.fold.position().next_offset);
        Ok(ExitCode::SUCCESS)
    }

    /// Ships what is blocked now, unless it is what was `shipped` last, and gives its generation.
    fn ship(&self, follower: &Follower, shipped: Option<Generation>) -> Result<Generation, CliError> {
        let time = now();
        let next = generation(&follower.fold, time);
        if shipped == Some(next) {
            return Ok(next);
        }
        let name = &self.snapshot.name;
        let snapshot = cut(&follower.fold, name, self.snapshot.settings(), time)?;
        let bytes = discovery_response(name, &generation_text(next), snapshot, self.failure_policy.into());
        // After a restart Envoy has this state already: it is not sent it again.
        let there = shipped.is_none() && std::fs::read(&self.ecds_file).is_ok_and(|there| there == bytes);
        if !there {
            replace_file(&self.ecds_file, &bytes).map_err(CliError::file(&self.ecds_file))?;
        }
        info!("shipped generation {}: {} bytes", generation_text(next), bytes.len());
        Ok(next)
    }
}

/// Keeps the view on the log in step with the fold.
enum ViewKeeper {
    Writing(Box<dyn ViewWriter>),
    /// Writing failed, and it cannot be known what of it is in.
    Broken {
        retry_at: Instant,
    },
    /// Another snapshotter writes.
    Standby,
}

impl ViewKeeper {
    /// Brings the view to where the fold is. What goes wrong is told and tried again: nothing but the next start needs it.
    fn keep(&mut self, log: &dyn Log, follower: &mut Follower) {
        if follower.fold.position() == follower.written {
            return;
        }
        let written = match self {
            Self::Writing(writer) => write(&mut **writer, follower),
            Self::Broken { retry_at } if Instant::now() < *retry_at => return,
            Self::Broken { .. } => match reopen(log, follower) {
                Ok(mut writer) => {
                    let written = write(&mut *writer, follower);
                    *self = Self::Writing(writer);
                    written
                }
                Err(error) => Err(error),
            },
            Self::Standby => {
                follower.edits = Edits::default();
                return;
            }
        };
        match written {
            Ok(()) => {}
            Err(LoadError::Log(LogError::Fenced)) => {
                info!("another snapshotter keeps the view of ranges now: on standby, still shipping");
                *self = Self::Standby;
            }
            Err(error) => {
                warn!("cannot write the view of ranges, will try again: {error}");
                *self = Self::Broken { retry_at: Instant::now() + RETRY };
            }
        }
    }
}

fn write(writer: &mut dyn ViewWriter, follower: &mut Follower) -> Result<(), LoadError> {
    let position = follower.fold.position();
    writer.write(&follower.edits, follower.written, position)?;
    follower.written = position;
    follower.edits = Edits::default();
    Ok(())
}

/// A new writer, and in the follower what leads from the view as it is now to the fold.
fn reopen(log: &dyn Log, follower: &mut Follower) -> Result<Box<dyn ViewWriter>, LoadError> {
    let writer = log.view_writer()?;
    let view = read_view(log)?;
    let (there, here) = (view.position().next_offset, follower.fold.position().next_offset);
    if there > here {
        // Another one was the writer meanwhile. It is fenced off now, so it is for this one to go on, once it is there.
        return Err(LoadError::Behind { view: there, fold: here });
    }
    follower.edits = Edits::between(&view, &follower.fold);
    follower.written = view.position();
    Ok(writer)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::fold::{Fold, Position};
    use crate::log::{Batch, CommandReader, EachRecord, NewCommand};
    use crate::record::Record;
    use crate::view::records;

    /// A log in memory, whose writers fail as they are told.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        view: Vec<(String, Option<String>)>,
        faults: Vec<Fault>,
    }

    #[derive(Clone, Copy, Debug)]
    enum Fault {
        /// The write is lost.
        Lost,
        /// The write is in, and its acknowledgement is lost.
        Unacknowledged,
        Fenced,
    }

    impl Log for Memory {
        fn init(&self) -> Result<Vec<String>, LogError> {
            Ok(Vec::new())
        }

        fn append(&self, _commands: &[NewCommand]) -> Result<Vec<u64>, LogError> {
            Ok(Vec::new())
        }

        fn commands(&self, _from: u64) -> Result<Box<dyn CommandReader>, LogError> {
            Ok(Box::new(Nothing))
        }

        fn read_view(&self, each: &mut EachRecord<'_>) -> Result<(), LogError> {
            for (key, value) in &self.0.lock().unwrap().view {
                each(Some(key.as_bytes()), value.as_ref().map(|value| value.as_bytes()));
            }
            Ok(())
        }

        fn view_writer(&self) -> Result<Box<dyn ViewWriter>, LogError> {
            Ok(Box::new(self.clone()))
        }
    }

    impl ViewWriter for Memory {
        fn write(&mut self, edits: &Edits, _from: Position, to: Position) -> Result<(), LogError> {
            let mut state = self.0.lock().unwrap();
            let fault = state.faults.pop();
            if matches!(fault, None | Some(Fault::Unacknowledged)) {
                state.view.extend(records(edits, to));
            }
            match fault {
                None => Ok(()),
                Some(Fault::Fenced) => Err(LogError::Fenced),
                Some(_) => Err(LogError::Unacknowledged("a fault".to_owned())),
            }
        }
    }

    struct Nothing;

    impl CommandReader for Nothing {
        fn read(&mut self, _timeout: Duration) -> Result<Batch, LogError> {
            Ok(Batch { records: Vec::new(), at_end: true })
        }
    }

    fn apply(follower: &mut Follower, text: &str) {
        let offset = follower.fold.position().next_offset;
        let key = Some(b"2026-11-23T00:00:00Z".to_vec());
        let record = Record { offset, timestamp: None, key, value: Some(text.into()) };
        follower.fold.apply(&record, &mut follower.edits).unwrap();
    }

    #[test]
    fn a_write_that_failed_either_way_is_made_good() {
        for fault in [Fault::Lost, Fault::Unacknowledged] {
            let log = Memory::default();
            let mut follower = Follower::bootstrap(&log).unwrap();
            let mut keeper = ViewKeeper::Writing(log.view_writer().unwrap());
            apply(&mut follower, "BLACKLIST 10.0.0.0/24");
            keeper.keep(&log, &mut follower);
            log.0.lock().unwrap().faults.push(fault);
            apply(&mut follower, "WHITELIST 10.0.0.100");
            keeper.keep(&log, &mut follower);
            // What comes before the next try must not be lost, nor what was there put back.
            apply(&mut follower, "BLACKLIST 10.0.0.64/26");
            apply(&mut follower, "WHITELIST 10.0.0.0/26");
            let ViewKeeper::Broken { retry_at } = &mut keeper else { panic!("{fault:?} was not noticed") };
            *retry_at = Instant::now();
            keeper.keep(&log, &mut follower);
            assert_eq!(read_view(&log).unwrap(), follower.fold, "{fault:?}");
            assert!(matches!(keeper, ViewKeeper::Writing(_)));
        }
    }

    #[test]
    fn a_writer_that_is_behind_the_view_waits() {
        let log = Memory::default();
        let mut follower = Follower::bootstrap(&log).unwrap();
        apply(&mut follower, "BLACKLIST 10.0.0.0/24");
        let ahead = Position { next_offset: 9, ..follower.fold.position() };
        log.0.lock().unwrap().view.extend(records(&follower.edits, ahead));
        let mut keeper = ViewKeeper::Broken { retry_at: Instant::now() };
        keeper.keep(&log, &mut follower);
        assert!(matches!(keeper, ViewKeeper::Broken { .. }));
        assert_eq!(read_view(&log).unwrap().position().next_offset, 9);
    }

    #[test]
    fn a_fenced_writer_never_writes_again() {
        let log = Memory::default();
        let mut follower = Follower::bootstrap(&log).unwrap();
        let mut keeper = ViewKeeper::Writing(log.view_writer().unwrap());
        log.0.lock().unwrap().faults.push(Fault::Fenced);
        for _ in 0..2 {
            apply(&mut follower, "BLACKLIST 10.0.0.0/24");
            keeper.keep(&log, &mut follower);
        }
        assert!(matches!(keeper, ViewKeeper::Standby));
        assert_eq!(read_view(&log).unwrap(), Fold::default());
    }
}
