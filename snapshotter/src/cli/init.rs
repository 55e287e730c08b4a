//! `edgefold init`

use std::process::ExitCode;

use clap::Args;

use super::log_args::LogArgs;
use super::{CliError, output};

const EXAMPLES: &str = "\
Examples:
  edgefold init
  edgefold init --log kafka://broker-1:9092,broker-2:9092/edgefold

On Kafka this creates the topics PREFIX.commands and PREFIX.ranges.";

/// Create the log, or check an existing one
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct InitArgs {
    #[command(flatten)]
    log: LogArgs,
}

impl InitArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let report = self.log.open()?.init()?;
        output::print(|out| report.iter().try_for_each(|line| writeln!(out, "{line}")))?;
        Ok(ExitCode::SUCCESS)
    }
}
