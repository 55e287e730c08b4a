//! What `edgefold block` and `edgefold allow` have in common: they append a command for each range.

use std::io::ErrorKind;
use std::process::ExitCode;

use clap::Args;
use edgefold::{Action, Command, Error, IpRange, Log, LogTime, NewCommand, now};

use super::{CliError, output};

#[derive(Args, Debug)]
pub(super) struct AppendArgs {
    /// An address, a CIDR block, or first-last
    #[arg(value_name = "RANGE", required = true)]
    ranges: Vec<IpRange>,
    /// Why; for people who look at the log later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who or what issues the command, such as waf
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
    /// The time of the command, as in 2016-09-12T15:32:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<LogTime>,
}

impl AppendArgs {
    /// The time of the commands.
    pub(super) fn time(&self) -> LogTime {
        self.at.unwrap_or_else(now)
    }

    /// Appends a command for each range, and prints their offsets.
    pub(super) fn append(&self, log: &dyn Log, action: Action, time: LogTime) -> Result<ExitCode, CliError> {
        let command = |&range| {
            let (origin, reason) = (self.origin.clone(), self.reason.clone());
            let text = Command { action, range, origin, reason }.to_string();
            // Readers would reject a reason that is empty, too long or has control characters: keep it out of the log.
            Command::parse(&text).map_err(|error| CliError::Usage(error.to_string()))?;
            Ok(NewCommand { time, text })
        };
        let commands: Vec<NewCommand> = self.ranges.iter().map(command).collect::<Result<_, CliError>>()?;
        let offsets = log.append(&commands).map_err(|error| match error {
            Error::Unacknowledged(_) | Error::Partly { .. } => CliError::Log(error),
            error => CliError::NotAppended(error),
        })?;
        output::print(|out| {
            offsets.iter().zip(&commands).try_for_each(|(offset, command)| writeln!(out, "{offset}\t{}", command.text))
        })
        .map_err(|error| match error {
            CliError::Output(source) if source.kind() != ErrorKind::BrokenPipe => CliError::NotPrinted(source),
            error => error,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
