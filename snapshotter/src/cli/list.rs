//! `edgefold list`

use std::process::ExitCode;

use clap::Args;

use super::CliError;
use super::log_args::LogArgs;
use super::moment_args::MomentArgs;
use super::output::{self, Format};

const EXAMPLES: &str = "\
Examples:
  edgefold list
  edgefold list -o raw | wc -l
  edgefold list --as-of 2026-11-22T17:00:00Z";

/// Print the blocked ranges
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListArgs {
    /// The output format; raw is FIRST<TAB>LAST<TAB>UNTIL, where - stands for forever
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    moment: MomentArgs,
    #[command(flatten)]
    log: LogArgs,
}

impl ListArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let (fold, time) = self.moment.load(&*self.log.open()?)?;
        let mut blocks = fold.blocks().filter(|block| block.until.holds_at(time));
        output::print(|out| match self.output {
            Format::Human => {
                let mut blocks = blocks.peekable();
                if blocks.peek().is_none() {
                    return writeln!(out, "nothing is blocked");
                }
                blocks.try_for_each(|block| {
                    writeln!(out, "{:<40} {}", block.range.shortest_text(), output::until_words(block.until))
                })
            }
            Format::Raw => blocks.try_for_each(|block| writeln!(out, "{}", output::block_raw(block))),
            Format::Json => output::json_array(out, blocks.map(output::block_json)),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
