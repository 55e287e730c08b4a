//! `edgefold block` and `edgefold allow`: append commands to the log.

use std::io::ErrorKind;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use edgefold_table::IpRange;

use super::{CliError, output};
use crate::clock::now;
use crate::command::{Action, Command, Term, parse_ttl};
use crate::log::{Log, LogError, NewCommand};
use crate::range_text::parse_range;
use crate::time::LogTime;

/// Block ranges: append BLACKLIST commands to the log
#[derive(Args, Debug)]
pub(super) struct Block {
    #[command(flatten)]
    what: What,
    /// Block for so long, as in 4h or 1h30m; without --ttl and --until, for ever
    #[arg(long, value_name = "DURATION", value_parser = parse_ttl, conflicts_with = "until")]
    ttl: Option<Duration>,
    /// Block until then
    #[arg(long, value_name = "TIME", value_parser = LogTime::parse)]
    until: Option<LogTime>,
}

/// Let ranges pass: append WHITELIST commands to the log
#[derive(Args, Debug)]
pub(super) struct Allow {
    #[command(flatten)]
    what: What,
}

#[derive(Args, Debug)]
struct What {
    /// An address, a CIDR block, or first-last
    #[arg(value_name = "RANGE", required = true, value_parser = parse_range)]
    ranges: Vec<IpRange>,
    /// Why, for whoever asks later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who says so, as in waf
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
    /// The time of the command, as in 2016-09-12T15:32:00Z; now if not given
    #[arg(long, value_name = "TIME", value_parser = LogTime::parse)]
    at: Option<LogTime>,
}

impl Block {
    pub(super) fn run(&self, log: &dyn Log) -> Result<ExitCode, CliError> {
        let time = self.what.at.unwrap_or_else(now);
        let term = match (self.ttl, self.until) {
            (_, Some(until)) if until <= time => {
                return Err(CliError::Usage(format!(
                    "--until {until} is not after the command's time {time}: it would block nothing"
                )));
            }
            (Some(ttl), _) if time.checked_add(ttl).is_none() => {
                return Err(CliError::Usage(format!(
                    "--ttl leads past the year 9999 from {time}: leave it out to block for ever"
                )));
            }
            (_, Some(until)) => Term::Until(until),
            (Some(ttl), None) => Term::Ttl(ttl),
            (None, None) => Term::Forever,
        };
        self.what.append(log, Action::Blacklist(term), time)
    }
}

impl Allow {
    pub(super) fn run(&self, log: &dyn Log) -> Result<ExitCode, CliError> {
        self.what.append(log, Action::Whitelist, self.what.at.unwrap_or_else(now))
    }
}

impl What {
    fn append(&self, log: &dyn Log, action: Action, time: LogTime) -> Result<ExitCode, CliError> {
        let command = |&range| {
            let (origin, reason) = (self.origin.clone(), self.reason.clone());
            let text = Command { action, range, origin, reason }.to_string();
            // What a reader would reject must not get into the log: a reason that is too long, empty or garbled.
            Command::parse(&text).map_err(|error| CliError::Usage(error.to_string()))?;
            Ok(NewCommand { time, text })
        };
        let commands: Vec<NewCommand> = self.ranges.iter().map(command).collect::<Result<_, CliError>>()?;
        let offsets = log.append(&commands).map_err(|error| match error {
            LogError::Unacknowledged(_) | LogError::Partly { .. } => CliError::Log(error),
            error => CliError::NotAppended(error),
        })?;
        output::print(|out| {
            offsets.iter().zip(&commands).try_for_each(|(offset, command)| writeln!(out, "{offset}\t{}", command.text))
        })
        .map_err(|error| match error {
            CliError::Output(source) if source.kind() != ErrorKind::BrokenPipe => CliError::Unprinted(source),
            error => error,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
