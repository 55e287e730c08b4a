//! `edgefold rebuild`

use std::process::ExitCode;

use clap::Args;

use super::log_args::LogArgs;
use super::{CliError, output};
use crate::keeper::rebuild;

const HELP: &str = "\
The view is a cache of the folded ranges that makes startup fast. A running `edgefold serve` can then no longer \
write the view, and takes over again later.";

/// Rewrite the view of ranges from the commands
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(super) struct RebuildArgs {
    #[command(flatten)]
    log: LogArgs,
}

impl RebuildArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let log = self.log.open()?;
        log.check()?;
        let (_writer, follower) = rebuild(&*log)?;
        let (fold, offset) = (&follower.fold, follower.fold.position().next_offset);
        let ranges: usize = fold.lists().iter().map(|list| list.blocks().count()).sum();
        output::print(|out| {
            writeln!(
                out,
                "the view now has {}, from the commands below offset {offset}",
                output::count(ranges as u64, "range")
            )
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
