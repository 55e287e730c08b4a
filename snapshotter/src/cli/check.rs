//! `edgefold check`

use std::io::ErrorKind;
use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;
use edgefold::parse_address;
use serde_json::json;

use super::CliError;
use super::log_args::LogArgs;
use super::moment_args::MomentArgs;
use super::output::{self, Format};

const EXAMPLES: &str = "\
Examples:
  edgefold check 10.0.0.7
  edgefold check 10.0.0.7 2001:db8::1 -o json
  edgefold check 10.0.0.7 --as-of 2026-11-22T17:00:00Z

Exit status: 0 if no address is blocked, 1 if one is, 2 on an error, 64 if an address is not valid.";

/// Say whether addresses are blocked
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct CheckArgs {
    /// An IPv4 or IPv6 address
    #[arg(value_name = "IP", required = true, value_parser = parse_address)]
    ips: Vec<IpAddr>,
    /// The output format; raw is IP<TAB>FIRST<TAB>LAST<TAB>UNTIL, where UNTIL is - for forever, and all three are - if the address is not blocked
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    moment: MomentArgs,
    #[command(flatten)]
    log: LogArgs,
}

impl CheckArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let (fold, time) = self.moment.load(&*self.log.open()?)?;
        let mut found = self.ips.iter().map(|&ip| (ip, fold.find(ip, time)));
        let printed = output::print(|out| match self.output {
            Format::Human => found.try_for_each(|(ip, found)| match found {
                Some(block) => {
                    writeln!(out, "{ip} is blocked {}, by {}", output::until_words(block.until), block.range)
                }
                None => writeln!(out, "{ip} is not blocked"),
            }),
            Format::Raw => found.try_for_each(|(ip, found)| match found {
                Some(block) => writeln!(out, "{ip}\t{}", output::block_raw(block)),
                None => writeln!(out, "{ip}\t-\t-\t-"),
            }),
            Format::Json => output::json_array(
                out,
                found.map(|(ip, found)| {
                    let range = found.map(output::block_json);
                    json!({ "ip": ip, "blocked": range.is_some(), "range": range })
                }),
            ),
        });
        match printed {
            // The verdict stands even if nobody reads all of the output.
            Err(CliError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {}
            printed => printed?,
        }
        let blocked = self.ips.iter().any(|&ip| fold.find(ip, time).is_some());
        Ok(if blocked { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }
}
