//! `edgefold list`

use std::process::ExitCode;
use std::slice;

use clap::Args;
use edgefold::ListName;

use super::CliError;
use super::log_args::LogArgs;
use super::moment_args::MomentArgs;
use super::output::{self, Format};
use crate::answers::words;

const EXAMPLES: &str = "\
Examples:
  edgefold list
  edgefold list --list tor-exits
  edgefold list -o raw | wc -l
  edgefold list --as-of 2026-11-22T17:00:00Z";

/// Print the ranges on all lists, or on one
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListArgs {
    /// Only this list
    #[arg(long, value_name = "NAME")]
    list: Option<ListName>,
    /// The output format; raw is FIRST<TAB>LAST<TAB>UNTIL for one list, the default list unless --list names another, where - stands
    /// for forever
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    moment: MomentArgs,
    #[command(flatten)]
    log: LogArgs,
}

impl ListArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let (fold, time) = self.moment.load(&self.log)?;
        let lists = match (self.list, self.output) {
            (Some(name), _) => slice::from_ref(output::list(&fold, &name)?),
            (None, Format::Raw) => slice::from_ref(fold.default_list()),
            (None, _) => fold.lists(),
        };
        let mut blocks = lists.iter().flat_map(|list| {
            list.blocks().filter(|block| block.until.holds_at(time)).map(|block| (list.name(), block))
        });
        // A name on each line only helps if there are several.
        let width =
            if let [_] = lists { 0 } else { lists.iter().map(|list| list.name().as_str().len()).max().unwrap_or(0) };
        output::print(|out| match self.output {
            Format::Human => {
                let mut blocks = blocks.peekable();
                if blocks.peek().is_none() {
                    return writeln!(out, "nothing is listed");
                }
                blocks.try_for_each(|(name, block)| {
                    if width > 0 {
                        write!(out, "{:<width$} ", name.as_str())?;
                    }
                    writeln!(out, "{:<40} {}", block.range.shortest_text(), words::until_words(block.until))
                })
            }
            Format::Raw => blocks.try_for_each(|(_, block)| writeln!(out, "{}", output::block_raw(block))),
            Format::Json => output::json_array(
                out,
                blocks.map(|(name, block)| {
                    let mut json = words::block_json(block);
                    json["list"] = name.as_str().into();
                    json
                }),
            ),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
