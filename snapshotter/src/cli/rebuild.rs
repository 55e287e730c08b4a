//! `edgefold rebuild`

use std::process::ExitCode;

use clap::Args;

use super::{CliError, output};
use crate::keeper::rebuild;
use crate::log::Log;

/// Rewrite the view of ranges from the commands; a running `serve` may go on meanwhile
#[derive(Args, Debug)]
pub(super) struct Rebuild {}

impl Rebuild {
    pub(super) fn run(&self, log: &dyn Log) -> Result<ExitCode, CliError> {
        log.check()?;
        let (_writer, follower) = rebuild(log)?;
        let (ranges, offset) = (follower.fold.ranges().count(), follower.fold.position().next_offset);
        output::print(|out| {
            writeln!(out, "the view holds {ranges} ranges now, from the commands below offset {offset}")
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
