//! What the subcommands have in common that append commands.

use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use clap::Args;
use edgefold::{
    Action, Command, Error, Follower, IpRange, ListName, Log, LogTime, MAX_NAMED_LISTS, MAX_SKEW, NewCommand, Term,
    now, parse_ttl,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tracing::warn;

use super::admin_args::WaitArgs;
use super::{CliError, UNKNOWN, output};

/// The end of the help of each of them.
pub(super) const APPENDS: &str = "\
Prints the offset and the text of each command, separated by a tab, once the log has them.

Exit status: 0 if everything was appended (and, with --wait, confirmed), 2 if what is not printed was not, 3 if it may have been, 4 if \
everything was appended, but not every proxy has confirmed it, 64 for a usage error.";

/// How soon a signal is noticed.
const POLL: Duration = Duration::from_millis(50);

/// What every command has.
#[derive(Args, Debug)]
pub(super) struct AppendArgs {
    /// Why; for people who look at the log later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who or what issues the command, such as waf
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
    /// The time of the command, as in 2016-09-12T15:32:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<LogTime>,
    #[command(flatten)]
    wait: WaitArgs,
}

/// The ranges that commands are about.
#[derive(Args, Debug)]
pub(super) struct RangesArgs {
    /// An address, a CIDR block, or first-last
    #[arg(value_name = "RANGE", required = true)]
    pub(super) ranges: Vec<IpRange>,
}

/// For how long ranges are put on a list.
#[derive(Args, Debug)]
pub(super) struct TermArgs {
    /// For this long: whole numbers with s, m, h, d or w, as in 90s, 4h, 1h30m or 2w [default: forever]
    #[arg(long, value_name = "DURATION", value_parser = parse_ttl, conflicts_with = "until")]
    ttl: Option<Duration>,
    /// Until this time
    #[arg(long, value_name = "TIME")]
    until: Option<LogTime>,
}

impl TermArgs {
    /// The term of commands with the time `time`.
    pub(super) fn term(&self, time: LogTime) -> Result<Term, CliError> {
        let term = match (self.ttl, self.until) {
            (_, Some(until)) if until <= time => {
                return Err(CliError::Usage(format!(
                    "--until {until} is not after the command's time {time}: it would change nothing"
                )));
            }
            (Some(ttl), _) if time.checked_add(ttl).is_none() => {
                return Err(CliError::Usage(format!(
                    "--ttl leads past the year 9999 from {time}: leave it out for no end"
                )));
            }
            (_, Some(until)) => Term::Until(until),
            (Some(ttl), None) => Term::Ttl(ttl),
            (None, None) => Term::Forever,
        };
        let end = self.until.or_else(|| time.checked_add(self.ttl?));
        if let Some(end) = end.filter(|end| *end <= now()) {
            warn!("that has already ended, at {end}: it is appended, but changes nothing");
        }
        Ok(term)
    }
}

impl AppendArgs {
    /// The time of the commands.
    pub(super) fn time(&self) -> Result<LogTime, CliError> {
        let now = now();
        match self.at {
            Some(at) if now.checked_add(MAX_SKEW).is_some_and(|latest| at > latest) => Err(CliError::Usage(format!(
                "--at {at} is more than 5 minutes ahead: every reader would reject the command. A block begins when it is appended; \
                 --ttl and --until say when it ends"
            ))),
            at => Ok(at.unwrap_or(now)),
        }
    }

    /// Appends a command for each action, and prints their offsets.
    pub(super) fn append(
        &self,
        log: &dyn Log,
        actions: impl IntoIterator<Item = Action>,
        time: LogTime,
    ) -> Result<ExitCode, CliError> {
        let command = |action| {
            let (origin, reason) = (self.origin.clone(), self.reason.clone());
            let text = Command { action, origin, reason }.to_string();
            // Readers would reject a reason that is empty, too long or has control characters: keep it out of the log.
            Command::parse(&text).map_err(|error| CliError::Usage(error.to_string()))?;
            Ok(NewCommand { time, text })
        };
        let commands: Vec<NewCommand> = actions.into_iter().map(command).collect::<Result<_, CliError>>()?;
        match append_or_be_interrupted(log, &commands)? {
            Ok(offsets) => {
                let next_offset = offsets.iter().max().map_or(0, |last| last + 1);
                print_appended(&offsets.into_iter().zip(&commands).collect::<Vec<_>>())?;
                Ok(self.wait.wait(next_offset).into())
            }
            Err(Error::Partly { outcomes, why }) => {
                let appended: Vec<(u64, &NewCommand)> = outcomes
                    .iter()
                    .zip(&commands)
                    .filter_map(|(outcome, command)| Some((outcome.offset()?, command)))
                    .collect();
                // The error says more than that they cannot be printed.
                let _printed = print_appended(&appended);
                Err(CliError::Log(Error::Partly { outcomes, why }))
            }
            Err(error @ Error::Unacknowledged(_)) => Err(CliError::Log(error)),
            Err(error) => Err(CliError::NotAppended(error)),
        }
    }
}

/// Checks that a command about this list does not create one list too many, and says whether it creates one. If the log cannot be read,
/// which takes a right of its own, the command is appended all the same.
///
/// # Errors
/// [`CliError::TooManyLists`]: every reader would reject the command.
pub(super) fn check_room(log: &dyn Log, list: &ListName) -> Result<bool, CliError> {
    if list.is_default() {
        return Ok(false);
    }
    match Follower::load(log) {
        Ok(Follower { fold, .. }) => match fold.list(list) {
            Some(_) => Ok(false),
            None if fold.lists().len() > MAX_NAMED_LISTS => Err(CliError::TooManyLists { name: *list }),
            None => Ok(true),
        },
        Err(error) => {
            warn!("it is unknown whether there is room for another list: {error}");
            Ok(false)
        }
    }
}

/// Appends on another thread, so that whoever interrupts it is told what that means.
fn append_or_be_interrupted(log: &dyn Log, commands: &[NewCommand]) -> Result<Result<Vec<u64>, Error>, CliError> {
    let interrupted = Arc::new(AtomicBool::new(false));
    // Whatever comes after the append ends at once again.
    let is_over = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, Arc::clone(&is_over)).map_err(CliError::Signal)?;
        flag::register(signal, Arc::clone(&interrupted)).map_err(CliError::Signal)?;
    }
    let _over = Over(is_over);
    let (done, outcome) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || done.send(log.append(commands)));
        loop {
            match outcome.recv_timeout(POLL) {
                Ok(outcome) => return Ok(outcome),
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Err(Error::Unacknowledged(
                        "the thread that appends has panicked, which is a bug".to_owned(),
                    )));
                }
                Err(RecvTimeoutError::Timeout) if interrupted.load(Ordering::Relaxed) => {
                    output::complain(&CliError::Interrupted);
                    // The thread waits for the log, for as long as that takes.
                    process::exit(UNKNOWN.into());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    })
}

/// Says that it is over when it is dropped.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn print_appended(appended: &[(u64, &NewCommand)]) -> Result<(), CliError> {
    let printed = output::print(|out| {
        appended.iter().try_for_each(|(offset, command)| writeln!(out, "{offset}\t{}", command.text))
    });
    printed.map_err(|error| match error {
        CliError::Output(source) => CliError::NotPrinted(source),
        error => error,
    })
}
