//! `edgefold list`

use std::process::ExitCode;

use clap::Args;

use super::CliError;
use super::moment::MomentArgs;
use super::output::{self, Format};
use crate::log::Log;
use crate::range_text::range_text;

/// Print the ranges that are blocked now
#[derive(Args, Debug)]
pub(super) struct List {
    /// The form; raw is FIRST<TAB>LAST<TAB>UNTIL, with - for ever
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    moment: MomentArgs,
}

impl List {
    pub(super) fn run(&self, log: &dyn Log) -> Result<ExitCode, CliError> {
        let (fold, time) = self.moment.load(log)?;
        let mut ranges = fold.ranges().filter(|(_, until)| until.holds_at(time));
        output::print(|out| match self.output {
            Format::Human => ranges.try_for_each(|(range, until)| {
                writeln!(out, "{:<40} {}", range_text(range), output::until_words(until))
            }),
            Format::Raw => ranges.try_for_each(|(range, until)| {
                writeln!(out, "{}\t{}\t{}", range.first(), range.last(), output::until_raw(until))
            }),
            Format::Json => output::json_array(out, ranges.map(|(range, until)| output::range_json(range, until))),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
