//! `edgefold init`

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::CliError;
use super::log_args::LogArgs;
use super::output::{self, Format};

const EXAMPLES: &str = "\
Examples:
  edgefold init
  edgefold init --log kafka://broker-1:9092,broker-2:9092/edgefold

On Kafka this creates the topics PREFIX.commands and PREFIX.ranges.";

/// Create the log, or check an existing one
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct InitArgs {
    /// The output format; raw is as human, and JSON is an array of the lines
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    log: LogArgs,
}

impl InitArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let report = self.log.open()?.init()?;
        output::print(|out| match self.output {
            Format::Human | Format::Raw => report.iter().try_for_each(|line| writeln!(out, "{line}")),
            Format::Json => output::json_array(out, report.into_iter().map(Value::String)),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
