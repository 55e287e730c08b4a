//! `edgefold check`

use std::io::ErrorKind;
use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::CliError;
use super::moment::MomentArgs;
use super::output::{self, Format};
use crate::log::Log;
use crate::range_text::parse_address;

/// Say whether addresses are blocked now; exits 0 if none is, 1 if one is, 2 on an error
#[derive(Args, Debug)]
pub(super) struct Check {
    /// An IPv4 or IPv6 address
    #[arg(value_name = "IP", required = true, value_parser = parse_address)]
    ips: Vec<IpAddr>,
    /// The form; raw is IP<TAB>FIRST<TAB>LAST<TAB>UNTIL, with - for ever, and - three times if it is not blocked
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    moment: MomentArgs,
}

impl Check {
    pub(super) fn run(&self, log: &dyn Log) -> Result<ExitCode, CliError> {
        let (fold, time) = self.moment.load(log)?;
        let mut found = self.ips.iter().map(|&ip| (ip, fold.find(ip, time)));
        let printed = output::print(|out| match self.output {
            Format::Human => found.try_for_each(|(ip, found)| match found {
                Some((range, until)) => writeln!(out, "{ip} is blocked {}, by {range}", output::until_words(until)),
                None => writeln!(out, "{ip} is not blocked"),
            }),
            Format::Raw => found.try_for_each(|(ip, found)| match found {
                Some((range, until)) => {
                    writeln!(out, "{ip}\t{}\t{}\t{}", range.first(), range.last(), output::until_raw(until))
                }
                None => writeln!(out, "{ip}\t-\t-\t-"),
            }),
            Format::Json => output::json_array(
                out,
                found.map(|(ip, found)| {
                    let range = found.map(|(range, until)| output::range_json(range, until));
                    json!({ "ip": ip, "blocked": range.is_some(), "range": range })
                }),
            ),
        });
        match printed {
            // The verdict stands, though the reader of the output has had enough.
            Err(CliError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {}
            printed => printed?,
        }
        let blocked = self.ips.iter().any(|&ip| fold.find(ip, time).is_some());
        Ok(if blocked { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }
}
