//! The lists as they are now: a fold that follows the log on a thread of its own while somebody looks at the page.
//!
//! It is apart from the fold that ships, which never waits for anybody, and it costs nothing while nobody looks.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::{Duration, Instant};

use edgefold::{AppendedCommand, Checkpoints, Edits, Error, Fold, Log, LogTime, Record, now};
use serde_json::Value;
use tokio::sync::watch;
use tracing::{error, warn};

use crate::answers::rejects;
use crate::retry::Retry;

/// How long the thread goes on when nobody looks any more.
const IDLE: Duration = Duration::from_secs(600);
/// How long to wait for commands before looking for ends.
const POLL: Duration = Duration::from_millis(100);
/// How many rejected records are kept.
const MOST_REJECTS: usize = 100;
/// How many of the last commands are kept.
const MOST_RECENT: usize = 12;

/// Follows the log while somebody looks.
#[derive(Clone)]
pub(super) struct Present(Arc<Shared>);

struct Shared {
    log: Arc<dyn Log>,
    checkpoints: Arc<Checkpoints>,
    /// Forgets what else is known of the log.
    forget: Box<dyn Fn() + Send + Sync>,
    state: RwLock<State>,
    /// Counts the changes of what the page shows.
    changes: watch::Sender<u64>,
    /// Those who look until they are dropped.
    lookers: AtomicUsize,
    thread: Mutex<Thread>,
}

struct Thread {
    is_running: bool,
    looked_at: Instant,
}

/// What is known of the log.
#[derive(Default)]
pub(super) struct State {
    /// All commands up to the end that the log had, once [`State::is_complete`].
    pub(super) fold: Fold,
    /// Whether the end has been reached. Until then the fold is of a moment in the past.
    pub(super) is_complete: bool,
    /// The offset from which on rejected records are known.
    pub(super) rejects_from: u64,
    /// How many there are.
    pub(super) rejected: u64,
    /// The last of them, the newest first.
    pub(super) rejects: VecDeque<Value>,
    /// The last commands, the newest first.
    pub(super) recent: VecDeque<AppendedCommand>,
    /// The offset after the last command of the log, as far as is known.
    pub(super) end: u64,
    /// When the log last confirmed that it had nothing more.
    pub(super) contact: Option<LogTime>,
    /// Why the log cannot be read at the moment.
    pub(super) trouble: Option<String>,
}

/// Keeps the thread running.
pub(super) struct Looker(Arc<Shared>);

impl Present {
    /// `forget` is called when all that is known of the log is wrong, because it is another one, or when nobody looks any more.
    pub(super) fn new(
        log: Arc<dyn Log>,
        checkpoints: Arc<Checkpoints>,
        forget: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let thread = Mutex::new(Thread { is_running: false, looked_at: Instant::now() });
        let (state, changes) = (RwLock::default(), watch::Sender::new(0));
        let (forget, lookers) = (Box::new(forget), AtomicUsize::new(0));
        Self(Arc::new(Shared { log, checkpoints, forget, state, changes, lookers, thread }))
    }

    /// What is known now. It starts to follow the log if it does not yet.
    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.wake();
        self.0.state()
    }

    /// Whoever wants to know of changes. It starts to follow the log if it does not yet, and goes on until the looker is dropped.
    pub(super) fn watch(&self) -> (watch::Receiver<u64>, Looker) {
        self.0.lookers.fetch_add(1, Ordering::Relaxed);
        self.wake();
        (self.0.changes.subscribe(), Looker(Arc::clone(&self.0)))
    }

    fn wake(&self) {
        let mut thread = self.0.thread();
        thread.looked_at = Instant::now();
        if !thread.is_running {
            let shared = Arc::clone(&self.0);
            match thread::Builder::new().name("page".to_owned()).spawn(move || shared.run()) {
                Ok(_runs) => thread.is_running = true,
                Err(error) => warn!("cannot start the thread that follows the log for the page: {error}"),
            }
        }
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        self.0.lookers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Follows until nobody looks any more.
    fn run(&self) {
        let mut retry = Retry::default();
        loop {
            let trouble = match panic::catch_unwind(AssertUnwindSafe(|| self.follow(&mut retry))) {
                Ok(Ok(())) => None,
                Ok(Err(error)) => {
                    if matches!(error, Error::OtherLog { .. } | Error::Gone { .. }) {
                        self.checkpoints.clear();
                        self.forget();
                    }
                    Some(error.to_string())
                }
                Err(_panic) => {
                    error!("following the log for the page has panicked, which is a bug: it starts again");
                    self.forget();
                    Some("a bug of edgefold".to_owned())
                }
            };
            if let Some(trouble) = trouble {
                self.change(|state| state.trouble = Some(trouble));
                self.tell();
                thread::sleep(retry.failed(Instant::now()));
            }
            if self.is_idle(&self.thread()) {
                // The fold may be large.
                self.forget();
                // Somebody may have come meanwhile, and found this thread running.
                let mut thread = self.thread();
                if self.is_idle(&thread) {
                    thread.is_running = false;
                    return;
                }
            }
        }
    }

    fn follow(&self, retry: &mut Retry) -> Result<(), Error> {
        if self.state().fold.position().next_offset == 0
            && let Some(fold) = self.checkpoints.newest()
        {
            self.change(|state| {
                *state = State { rejects_from: fold.position().next_offset, fold, ..State::default() };
            });
        }
        let mut reader = self.log.commands(self.state().fold.position())?;
        self.change(|state| state.end = reader.end());
        let mut seen = now();
        while !self.is_idle(&self.thread()) {
            let batch = reader.read(POLL)?;
            let position = self.state().fold.position();
            let is_changed = self.change(|state| {
                let before = (state.is_complete, state.trouble.is_some(), state.fold.next_expiry(seen));
                let next = batch.records.last().map_or(0, |record| record.offset + 1);
                state.end = batch.end.unwrap_or(state.end).max(next);
                batch.records.iter().for_each(|record| state.apply(record));
                let next_offset = state.fold.position().next_offset;
                state.is_complete |= batch.at_end || next_offset >= reader.end();
                if batch.contact.is_some() {
                    state.contact = Some(now());
                }
                state.trouble.clone_from(&batch.trouble);
                let has_ended = before.2.is_some_and(|end| end <= now());
                !batch.records.is_empty()
                    || has_ended
                    || before.0 != state.is_complete
                    || before.1 != state.trouble.is_some()
            });
            if !batch.records.is_empty() {
                self.checkpoints.note(position, &batch.records, &self.state().fold);
            }
            if is_changed {
                self.tell();
            }
            if batch.trouble.is_none() {
                *retry = Retry::default();
            }
            seen = now();
        }
        Ok(())
    }

    fn tell(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn thread(&self) -> MutexGuard<'_, Thread> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody looks any more.
    fn is_idle(&self, thread: &Thread) -> bool {
        self.lookers.load(Ordering::Relaxed) == 0 && thread.looked_at.elapsed() >= IDLE
    }

    fn forget(&self) {
        self.change(|state| *state = State::default());
        (self.forget)();
    }
}

impl State {
    fn apply(&mut self, record: &Record) {
        let Self { fold, rejected, rejects, recent, end, .. } = self;
        if record.offset < fold.position().next_offset {
            return;
        }
        if let Err(reject) = fold.apply(record, &mut Edits::default()) {
            *rejected += 1;
            rejects.push_front(rejects::reject_json(record, true, &reject.to_string()));
            rejects.truncate(MOST_REJECTS);
        } else if record.offset + MOST_RECENT as u64 >= *end
            && let Some(command) = AppendedCommand::new(record)
        {
            recent.push_front(command);
            recent.truncate(MOST_RECENT);
        }
    }
}
