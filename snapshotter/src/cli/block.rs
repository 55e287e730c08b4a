//! `edgefold block`

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use edgefold::{Action, LogTime, Term, now, parse_ttl};
use tracing::warn;

use super::CliError;
use super::append::AppendArgs;
use super::log_args::LogArgs;

const EXAMPLES: &str = "\
Examples:
  edgefold block 10.0.0.0/24 2001:db8::/48 --ttl 4h --origin waf --reason \"credential stuffing\"
  edgefold block 192.0.2.10-192.0.2.40
  edgefold block 192.0.2.1 --until 2026-12-01T00:00:00Z

Prints the offset and the text of each command, separated by a tab, once the log has them.

Exit status: 0 if everything was appended, 2 if what is not printed was not, 3 if it may have been, 64 for a usage error.";

/// Block ranges: append BLACKLIST commands to the log
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct BlockArgs {
    #[command(flatten)]
    append: AppendArgs,
    /// Block for this long: whole numbers with s, m, h, d or w, as in 90s, 4h, 1h30m or 2w [default: forever]
    #[arg(long, value_name = "DURATION", value_parser = parse_ttl, conflicts_with = "until")]
    ttl: Option<Duration>,
    /// Block until this time
    #[arg(long, value_name = "TIME")]
    until: Option<LogTime>,
    #[command(flatten)]
    log: LogArgs,
}

impl BlockArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let time = self.append.time()?;
        let term = match (self.ttl, self.until) {
            (_, Some(until)) if until <= time => {
                return Err(CliError::Usage(format!(
                    "--until {until} is not after the command's time {time}: it would block nothing"
                )));
            }
            (Some(ttl), _) if time.checked_add(ttl).is_none() => {
                return Err(CliError::Usage(format!(
                    "--ttl leads past the year 9999 from {time}: leave it out to block forever"
                )));
            }
            (_, Some(until)) => Term::Until(until),
            (Some(ttl), None) => Term::Ttl(ttl),
            (None, None) => Term::Forever,
        };
        let end = self.until.or_else(|| time.checked_add(self.ttl?));
        if let Some(end) = end.filter(|end| *end <= now()) {
            warn!("the block has already ended, at {end}: it is appended, but blocks nothing");
        }
        self.append.append(&*self.log.open()?, Action::Blacklist(term), time)
    }
}
