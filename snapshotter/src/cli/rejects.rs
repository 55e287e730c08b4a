//! `edgefold rejects`

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use edgefold::{Edits, Fold, Record, each_command};

use super::CliError;
use super::log_args::LogArgs;
use super::output::{self, Format};
use crate::answers::rejects::{complaint, reject_json, text};
use crate::answers::words;

const EXAMPLES: &str = "\
Examples:
  edgefold rejects
  edgefold rejects -o json";

/// List the records that are not valid commands, and why: every reader skips them. Also list valid commands whose key is not a time:
/// every reader uses their timestamp instead
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct RejectsArgs {
    /// The output format; raw is OFFSET<TAB>TIME<TAB>TEXT<TAB>REASON, where - stands for no time, and control characters and backslashes
    /// are escaped
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    log: LogArgs,
}

impl RejectsArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let log = self.log.open()?;
        let mut read = Ok(());
        output::print(|out| {
            let mut printed = Ok(());
            let mut count = 0_u64;
            // Whether there is room for another list depends on all commands before.
            let (mut fold, mut edits) = (Fold::default(), Edits::default());
            // Nothing is collected: there may be any number of them, of any length.
            read = each_command(&*log, |record| {
                let rejected = fold.apply(record, &mut edits);
                edits.clear();
                if let Some(reason) = complaint(record, rejected.as_ref().err()) {
                    printed = self.print(out, count == 0, record, rejected.is_err(), &reason);
                    count += 1;
                }
                printed.is_ok()
            });
            printed?;
            // Not all was read: the output must not look complete.
            if read.is_err() {
                return Ok(());
            }
            match (self.output, count) {
                (Format::Json, 0) => writeln!(out, "[]"),
                (Format::Json, _) => writeln!(out, "\n]"),
                (Format::Human, 0) => writeln!(out, "every record of the log is a valid command"),
                _ => Ok(()),
            }
        })?;
        read?;
        Ok(ExitCode::SUCCESS)
    }

    fn print(
        &self,
        out: &mut dyn Write,
        is_first: bool,
        record: &Record,
        rejected: bool,
        reason: &str,
    ) -> io::Result<()> {
        let (offset, line) = (record.offset, || words::one_line(&text(record)));
        let time = record.time().map(|time| time.to_string());
        match self.output {
            Format::Human => {
                let time = time.as_deref().unwrap_or("no time");
                writeln!(out, "{offset}  {time}  {}\n    {reason}", line())
            }
            Format::Raw => {
                let time = time.as_deref().unwrap_or("-");
                writeln!(out, "{offset}\t{time}\t{}\t{}", line(), words::one_line(reason))
            }
            Format::Json => {
                let json = reject_json(record, rejected, reason);
                write!(out, "{}\n  {json}", if is_first { "[" } else { "," })
            }
        }
    }
}
