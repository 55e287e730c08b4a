//! What the subcommands have in common that append commands.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use edgefold::{
    Action, Command, Error, Fold, Follower, ListName, Log, LogTime, MAX_SKEW, NewCommand, Term, now, parse_ttl,
};
use serde_json::json;
use tracing::warn;

use super::CliError;
use super::admin_args::WaitArgs;
use super::difference::print_differences;
use super::interrupts::Interrupts;
use super::output::{self, Format};
use crate::answers::difference::{self, Known};
use crate::answers::guard::{self, You, check_room};

/// The end of the help of each of them.
pub(super) const APPENDS: &str = "\
Prints the offset and the text of each command, separated by a tab, once the log has them. With -o json, that is an array of objects with \
offset and text.

Without --force, a command is refused if it would block more than a /8 of IPv4 or a /16 of IPv6, or the address that you are connected from \
over SSH (SSH_CLIENT, which sudo removes). So is one that blocks what a list exempts.

Exit status: 0 if everything was appended (and, with --wait, confirmed), 2 if what is not printed was not, 3 if it may have been, 4 if \
everything was appended, but not every proxy has confirmed it, 64 for a usage error.";

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
    /// Print what would change, and append nothing
    #[arg(long, conflicts_with = "wait")]
    pub(super) dry_run: bool,
    /// Append what is probably a mistake, too
    #[arg(long)]
    force: bool,
    /// The output format
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    pub(super) output: Format,
    #[command(flatten)]
    pub(super) wait: WaitArgs,
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

    /// What the log says now, as far as it is needed to check the commands. If it cannot be read, which takes a right of its own, commands
    /// are appended all the same.
    ///
    /// # Errors
    /// With --dry-run, those of the log.
    pub(super) fn state(&self, log: &dyn Log, list: &ListName) -> Result<Option<Fold>, CliError> {
        if self.force && !self.dry_run && list.is_default() {
            return Ok(None);
        }
        match Follower::load(log) {
            Ok(follower) => Ok(Some(follower.fold)),
            Err(error) if self.dry_run => Err(error.into()),
            Err(error) => {
                warn!("the log cannot be read, so the commands are not checked: {error}");
                Ok(None)
            }
        }
    }

    /// Appends a command for each action, and prints their offsets. `before` is what the log says now, if it is known.
    pub(super) fn append(
        &self,
        log: &dyn Log,
        before: Option<&Fold>,
        actions: &[Action],
        time: LogTime,
    ) -> Result<ExitCode, CliError> {
        let commands = self.commands(actions, time)?;
        if self.dry_run {
            return self.print_what_would_change(before, actions, time);
        }
        self.check(before, actions)?;
        if !self.force
            && let Some(why) = guard::in_vain(before, actions, now())
        {
            return Err(CliError::Guarded { why });
        }
        match Interrupts::new()?.append(log, &commands, &CliError::Interrupted) {
            Ok(offsets) => {
                let next_offset = offsets.iter().max().map_or(0, |last| last + 1);
                self.print_appended(&offsets.into_iter().zip(&commands).collect::<Vec<_>>())?;
                Ok(self.wait.wait(next_offset).into())
            }
            Err(Error::Partly { outcomes, why }) => {
                let appended: Vec<(u64, &NewCommand)> = outcomes
                    .iter()
                    .zip(&commands)
                    .filter_map(|(outcome, command)| Some((outcome.offset()?, command)))
                    .collect();
                // The error says more than that they cannot be printed.
                let _printed = self.print_appended(&appended);
                Err(CliError::Log(Error::Partly { outcomes, why }))
            }
            Err(error @ Error::Unacknowledged(_)) => Err(CliError::Log(error)),
            Err(error) => Err(CliError::NotAppended(error)),
        }
    }

    /// The commands for actions.
    pub(super) fn commands(&self, actions: &[Action], time: LogTime) -> Result<Vec<NewCommand>, CliError> {
        let mut longest = 0;
        let command = |action: &Action| {
            let (origin, reason) = (self.origin.clone(), self.reason.clone());
            let text = Command { action: action.clone(), origin, reason }.to_string();
            // Readers would reject a reason that is empty, too long or has control characters: keep it out of the log. It is the same for
            // all commands, so only a longer one can be wrong where one before it is not.
            if text.len() > longest {
                longest = text.len();
                Command::parse(&text).map_err(|error| CliError::Usage(error.to_string()))?;
            }
            Ok(NewCommand { time, text })
        };
        actions.iter().map(command).collect()
    }

    /// Refuses what every reader would reject, and what is probably a mistake, unless it is forced.
    pub(super) fn check(&self, before: Option<&Fold>, actions: &[Action]) -> Result<(), CliError> {
        check_room(before, actions).map_err(|name| CliError::TooManyLists { name })?;
        if self.force {
            return Ok(());
        }
        match guard::objection(before, actions, now(), you()) {
            Some(why) => Err(CliError::Guarded { why }),
            None => Ok(()),
        }
    }

    fn print_what_would_change(
        &self,
        before: Option<&Fold>,
        actions: &[Action],
        time: LogTime,
    ) -> Result<ExitCode, CliError> {
        check_room(before, actions).map_err(|name| CliError::TooManyLists { name })?;
        let (none, now) = (Fold::default(), now());
        let before = before.unwrap_or(&none);
        let after = difference::after(before, actions, time);
        let differences = difference::between_folds((before, now), (&after, now), Known::ALL, |_| true);
        output::print(|out| print_differences(&differences, self.output, "nothing would change", out))?;
        let objection =
            guard::objection(Some(before), actions, now, you()).or_else(|| guard::in_vain(Some(before), actions, now));
        if let Some(why) = objection.filter(|_| !self.force) {
            output::say(&format!("without --force it would be refused: {why}"));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn print_appended(&self, appended: &[(u64, &NewCommand)]) -> Result<(), CliError> {
        let printed = output::print(|out| match self.output {
            Format::Json => {
                let json = appended.iter().map(|(offset, command)| json!({ "offset": offset, "text": command.text }));
                output::json_array(out, json)
            }
            Format::Human | Format::Raw => {
                appended.iter().try_for_each(|(offset, command)| writeln!(out, "{offset}\t{}", command.text))
            }
        });
        printed.map_err(CliError::after_append)
    }
}

/// The address that an operator is connected from over SSH.
fn you() -> Option<You> {
    let client = env::var("SSH_CLIENT").ok()?;
    let address = client.split_whitespace().next()?;
    // An IPv6 address of the same network has a zone after it.
    let address = address.split('%').next()?.parse().ok()?;
    Some(You { address, connected: "from which you are connected (SSH_CLIENT)" })
}
