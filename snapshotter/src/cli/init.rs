//! `edgefold init`

use std::process::ExitCode;

use clap::Args;

use super::{CliError, output};
use crate::log::Log;

/// Create the log, or check one that is there
#[derive(Args, Debug)]
pub(super) struct Init {}

impl Init {
    pub(super) fn run(&self, log: &dyn Log) -> Result<ExitCode, CliError> {
        let report = log.init()?;
        output::print(|out| report.iter().try_for_each(|line| writeln!(out, "{line}")))?;
        Ok(ExitCode::SUCCESS)
    }
}
