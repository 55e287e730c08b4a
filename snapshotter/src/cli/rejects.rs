//! `edgefold rejects`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::CliError;
use super::output::{self, Format};
use crate::command::MAX_COMMAND_BYTES;
use crate::load::each_command;
use crate::log::Log;
use crate::record::Record;

/// List the records that are no commands, and why; they are skipped
#[derive(Args, Debug)]
pub(super) struct Rejects {
    /// The form; raw is OFFSET<TAB>TIME<TAB>TEXT<TAB>REASON, with - for no time, and escapes as in \\n
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
}

/// One of them.
struct Rejected {
    offset: u64,
    time: Option<String>,
    text: String,
    reason: String,
}

impl Rejects {
    pub(super) fn run(&self, log: &dyn Log) -> Result<ExitCode, CliError> {
        let mut rejected = Vec::new();
        each_command(log, |record| {
            if let Err(reason) = record.change() {
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

/// As much of the value as a command could have: whoever wrote it may have chosen any length.
fn text(record: &Record) -> String {
    let value = record.value.as_deref().unwrap_or_default();
    String::from_utf8_lossy(&value[..value.len().min(MAX_COMMAND_BYTES)]).into_owned()
}
