//! `edgefold rejects`

use std::process::ExitCode;

use clap::Args;
use edgefold::{MAX_COMMAND_BYTES, Record, each_command};
use serde_json::json;

use super::CliError;
use super::log_args::LogArgs;
use super::output::{self, Format};

const EXAMPLES: &str = "\
Examples:
  edgefold rejects
  edgefold rejects -o json";

/// List the records that are not valid commands, and why; every reader skips them
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct RejectsArgs {
    /// The output format; raw is OFFSET<TAB>TIME<TAB>TEXT<TAB>REASON, where - stands for no time, and control characters are escaped
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    log: LogArgs,
}

/// A record that every reader skips.
struct Rejected {
    offset: u64,
    time: Option<String>,
    text: String,
    reason: String,
}

impl RejectsArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let mut rejected = Vec::new();
        each_command(&*self.log.open()?, |record| {
            if let Err(reason) = record.effect() {
                let (offset, time) = (record.offset, record.time().map(|time| time.to_string()));
                rejected.push(Rejected { offset, time, text: text(record), reason: reason.to_string() });
            }
        })?;
        output::print(|out| {
            match self.output {
            Format::Human => rejected.iter().try_for_each(|Rejected { offset, time, text, reason }| {
                let time = time.as_deref().unwrap_or("no time");
                writeln!(out, "{offset}  {time}  {}\n    {reason}", text.escape_debug())
            }),
            Format::Raw => rejected.iter().try_for_each(|Rejected { offset, time, text, reason }| {
                let time = time.as_deref().unwrap_or("-");
                writeln!(out, "{offset}\t{time}\t{}\t{}", text.escape_debug(), reason.escape_debug())
            }),
            Format::Json => output::json_array(
                out,
                rejected.iter().map(|Rejected { offset, time, text, reason }| {
                    json!({ "offset": offset, "time": time, "text": text, "reason": reason })
                }),
            ),
        }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// As much of the value as a command may have: whoever wrote it may have chosen any length.
fn text(record: &Record) -> String {
    let value = record.value.as_deref().unwrap_or_default();
    String::from_utf8_lossy(&value[..value.len().min(MAX_COMMAND_BYTES)]).into_owned()
}
