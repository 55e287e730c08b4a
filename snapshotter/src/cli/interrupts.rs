//! Appending that can be interrupted: whoever presses Ctrl-C is told what that means.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use edgefold::{Error, Log, NewCommand};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::{CliError, UNKNOWN, output};

/// How soon a signal is noticed.
const POLL: Duration = Duration::from_millis(50);

/// Turns Ctrl-C, as long as it exists, into an error that says what that means.
pub(super) struct Interrupts {
    interrupted: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
}

impl Interrupts {
    pub(super) fn new() -> Result<Self, CliError> {
        let this = Self { interrupted: Arc::default(), is_over: Arc::default() };
        for signal in [SIGINT, SIGTERM] {
            // Whatever comes after the append ends at once again.
            flag::register_conditional_default(signal, Arc::clone(&this.is_over)).map_err(CliError::Signal)?;
            flag::register(signal, Arc::clone(&this.interrupted)).map_err(CliError::Signal)?;
        }
        Ok(this)
    }

    /// Appends on another thread, so that whoever interrupts it is told `what_it_means`.
    pub(super) fn append(
        &self,
        log: &dyn Log,
        commands: &[NewCommand],
        what_it_means: &CliError,
    ) -> Result<Vec<u64>, Error> {
        let (done, outcome) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(move || done.send(log.append(commands)));
            loop {
                if self.interrupted.load(Ordering::Relaxed) {
                    output::complain(what_it_means);
                    // The thread waits for the log, for as long as that takes.
                    process::exit(UNKNOWN.into());
                }
                match outcome.recv_timeout(POLL) {
                    Ok(outcome) => return outcome,
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(Error::Unacknowledged(
                            "the thread that appends has panicked, which is a bug".to_owned(),
                        ));
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
        })
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}
