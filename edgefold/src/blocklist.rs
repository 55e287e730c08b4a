//! A blocklist in the memory of an application, which follows the log by itself.

use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tracing::{info, warn};

use crate::clock::{clocks, now};
use crate::log::{Batch, CommandReader, Log};
use crate::{Backoff, Contact, Edits, Effect, Error, Fold, Follower, LogTime, Position, Record, RecordHash, Verdict};

/// How long the thread waits for commands before it looks whether it should stop.
const POLL: Duration = Duration::from_millis(100);
/// How long to wait before looking again whether the last reader is done. A lookup takes less than a microsecond, so this starts
/// short; it doubles for callers of [`Blocklist::read`] that take their time.
const READER_POLL: Duration = Duration::from_micros(20);
const LONGEST_READER_POLL: Duration = Duration::from_millis(1);
/// How long dropping waits for the thread. A call to an unreachable broker may take longer; the thread ends after it.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The blocked ranges of a log, kept up to date by a thread of their own.
///
/// Lookups take `&self`, from any thread. They never wait for the thread that folds new commands in, and each sees one
/// consistent state: that after some command, never the middle of one. The price is memory: there are two copies of the fold,
/// of which one is read while the other is changed.
///
/// If the log cannot be read, the blocklist keeps its last state and retries, after 1 second at first and every 30 seconds in
/// the end. [`Blocklist::status`] says so.
///
/// Dropping the blocklist stops the thread, and waits for it up to 2 seconds. It takes longer to end only while a call to an
/// unreachable broker is in progress.
///
/// ```
/// # use edgefold::LogUrl;
/// use edgefold::{Blocklist, NewCommand};
///
/// # let directory = tempfile::tempdir()?;
/// # let url: LogUrl = format!("sqlite:{}", directory.path().join("log.db").display()).parse()?;
/// # let log = url.open()?;
/// # log.init()?;
/// let text = "BLACKLIST 10.0.0.0/24 ttl=4h".to_owned();
/// log.append(&[NewCommand { time: edgefold::now(), text }])?;
///
/// let blocklist = Blocklist::follow(log)?;
/// assert!(blocklist.get("10.0.0.7".parse()?).denied().is_some());
/// assert!(blocklist.get("10.0.1.7".parse()?).denied().is_none());
/// assert!(blocklist.status().trouble.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Blocklist {
    shared: Arc<Shared>,
    /// Dropped to stop the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a [`Blocklist`] knows about its log.
#[derive(Clone, Debug)]
pub struct Status {
    /// When the log last confirmed that the blocklist had reached its end; [`LogTime::EPOCH`] if it has not done so yet.
    pub last_contact: LogTime,
    /// Why the log cannot be read at the moment; `None` while it can.
    pub trouble: Option<String>,
    /// How many records were skipped since the blocklist was opened, because they could not be read.
    pub rejected: u64,
}

struct Shared {
    /// The copy that is read.
    front: ArcSwap<Fold>,
    status: Mutex<Status>,
}

impl Blocklist {
    /// Follows `log`, and returns once it has caught up with its end. If the log does not confirm that there is nothing more, as
    /// when an open transaction hides commands, this takes 5 seconds longer, and [`Status::last_contact`] says so.
    ///
    /// # Errors
    /// Those of the log: at the start nothing is retried.
    pub fn follow(log: impl Into<Arc<dyn Log>>) -> Result<Self, Error> {
        let log = log.into();
        let (Follower { fold, rejected, reader, .. }, contact) = Follower::load_with_contact(&*log, clocks())?;
        let status = Status { last_contact: contact.time(), trouble: None, rejected };
        let front = ArcSwap::from_pointee(fold.clone());
        let shared = Arc::new(Shared { front, status: Mutex::new(status) });
        let (stop, stopped) = mpsc::channel();
        let writer = Writer { shared: Arc::clone(&shared), back: fold, contact };
        let thread = thread::Builder::new().name("edgefold".to_owned());
        let thread = thread
            .spawn(move || writer.run(&*log, reader, &stopped))
            .map_err(|source| Error::Io { path: "the thread of the blocklist".into(), source })?;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// What all lists say about `ip` now, by the wall clock. An IPv4-mapped IPv6 address is looked up as the IPv4 address in it.
    ///
    /// To ask one list alone, use [`Blocklist::read`] and [`Fold::list`].
    pub fn get(&self, ip: IpAddr) -> Verdict {
        self.get_at(ip, now())
    }

    /// What all lists say about `ip` at `time`, as far as the commands so far say.
    pub fn get_at(&self, ip: IpAddr, time: LogTime) -> Verdict {
        self.shared.front.load().verdict(ip, time)
    }

    /// Calls `read` with the fold, for several lookups in one consistent state. Other readers do not wait, but the thread that
    /// folds new commands in cannot publish more than one batch of them before `read` returns. So keep it short, and do not
    /// wait for new commands in it.
    pub fn read<R>(&self, read: impl FnOnce(&Fold) -> R) -> R {
        read(&self.shared.front.load())
    }

    /// How far the log is folded.
    pub fn position(&self) -> Position {
        self.shared.front.load().position()
    }

    /// Whether the log can be read, and when it last confirmed its end.
    pub fn status(&self) -> Status {
        let mut status = self.shared.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            status.trouble = Some("the thread that follows the log has panicked, which is a bug".to_owned());
        }
        status
    }
}

impl Drop for Blocklist {
    fn drop(&mut self) {
        drop(self.stop.take());
        let deadline = Instant::now() + STOP_TIMEOUT;
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() {
            if Instant::now() > deadline {
                return; // The thread ends by itself when its call returns.
            }
            thread::sleep(Duration::from_millis(1));
        }
        let _joined = thread.join();
    }
}

/// The thread's side: changes the copy that is not read, publishes it, and brings the other one up to date.
struct Writer {
    shared: Arc<Shared>,
    back: Fold,
    contact: Contact,
}

impl Writer {
    fn run(mut self, log: &dyn Log, reader: Box<dyn CommandReader>, stopped: &Receiver<()>) {
        let mut reader = Some(reader);
        let mut backoff = Backoff::default();
        loop {
            let outcome = match &mut reader {
                Some(reader) => reader.read(POLL),
                None => log.commands(self.back.position()).map(|reopened| {
                    reader = Some(reopened);
                    Batch::default()
                }),
            };
            let wait = match outcome {
                Ok(batch) => {
                    self.fold(&batch.records);
                    if self.note(&batch) {
                        backoff = Backoff::default();
                    }
                    Duration::ZERO
                }
                Err(error) => {
                    reader = None;
                    let delay = backoff.delay();
                    let seconds = delay.as_secs();
                    warn!("cannot read the log, keeping the last state: {error}; retrying in {seconds} s");
                    self.status(|status| status.trouble = Some(error.to_string()));
                    delay
                }
            };
            if stopped.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Folds `records` into both copies. Readers see either none or all of them.
    fn fold(&mut self, records: &[Record]) {
        let mut next_offset = self.back.position().next_offset;
        let mut new = Vec::with_capacity(records.len());
        for record in records {
            // A record that is delivered twice counts once.
            if record.offset >= next_offset {
                next_offset = record.offset + 1;
                new.push(read(record));
            }
        }
        if new.is_empty() {
            return;
        }
        let rejected = fold_all(&mut self.back, &new);
        self.status(|status| status.rejected += rejected);
        if rejected > 0 {
            warn!("skipped {rejected} records that cannot be read");
        }
        let mut front = self.shared.front.swap(Arc::new(std::mem::take(&mut self.back)));
        // Readers may still hold the old copy, but no new ones come.
        let mut wait = READER_POLL;
        let mut retired = loop {
            match Arc::try_unwrap(front) {
                Ok(fold) => break fold,
                Err(shared) => front = shared,
            }
            thread::sleep(wait);
            wait = (2 * wait).min(LONGEST_READER_POLL);
        };
        fold_all(&mut retired, &new);
        self.back = retired;
    }

    /// Notes what a read said about the log, and returns whether the log is well.
    fn note(&mut self, batch: &Batch) -> bool {
        let is_well = batch.trouble.is_none() && (batch.contact.is_some() || !batch.records.is_empty());
        self.contact.note(batch.contact, clocks());
        let last_contact = self.contact.time();
        self.status(|status| {
            status.last_contact = last_contact;
            if is_well && status.trouble.take().is_some() {
                info!("the blocklist reads its log again");
            }
            if batch.trouble.is_some() {
                status.trouble.clone_from(&batch.trouble);
            }
        });
        is_well
    }

    fn status<R>(&self, change: impl FnOnce(&mut Status) -> R) -> R {
        change(&mut self.shared.status.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A record that was read once, for both copies.
struct ReadRecord {
    offset: u64,
    hash: RecordHash,
    /// `None` if the record is rejected.
    effect: Option<Effect>,
}

fn read(record: &Record) -> ReadRecord {
    ReadRecord { offset: record.offset, hash: record.hash(), effect: record.effect().ok() }
}

/// Returns how many of the records were rejected.
fn fold_all(fold: &mut Fold, records: &[ReadRecord]) -> u64 {
    let mut edits = Edits::default();
    let mut rejected = 0;
    for ReadRecord { offset, hash, effect } in records {
        fold.advance(*offset, *hash);
        let is_folded = effect.as_ref().is_some_and(|effect| fold.apply_effect(effect, &mut edits).is_ok());
        rejected += u64::from(!is_folded);
        edits.clear();
    }
    rejected
}
