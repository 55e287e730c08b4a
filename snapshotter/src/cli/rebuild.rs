//! `edgefold rebuild`

use std::process::ExitCode;

use clap::Args;
use edgefold::List;
use serde_json::json;

use super::CliError;
use super::log_args::LogArgs;
use super::output::{self, Format};
use crate::answers::words;
use crate::keeper::rebuild;

const HELP: &str = "\
The view is a cache of the folded ranges that makes startup fast. A running `edgefold serve` can then no longer \
write the view, and takes over again later.";

/// Rewrite the view of ranges from the commands
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(super) struct RebuildArgs {
    /// The output format; raw is RANGES<TAB>NEXT OFFSET
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    log: LogArgs,
}

impl RebuildArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let log = self.log.open()?;
        log.check()?;
        let (_writer, follower) = rebuild(&*log)?;
        let (fold, offset) = (&follower.fold, follower.fold.position().next_offset);
        let ranges: u64 = fold.lists().iter().map(List::len).sum();
        output::print(|out| match self.output {
            Format::Human => {
                let ranges = words::count(ranges, "range");
                writeln!(out, "the view now has {ranges}, from the commands below offset {offset}")
            }
            Format::Raw => writeln!(out, "{ranges}\t{offset}"),
            Format::Json => writeln!(out, "{}", json!({ "ranges": ranges, "next_offset": offset })),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
