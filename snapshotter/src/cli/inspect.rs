//! `edgefold inspect`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use edgefold_table::{Header, NoAddress, Snapshot};
use serde_json::json;

use super::CliError;
use super::output::{self, Format};
use crate::ecds::snapshot_in;
use crate::snapshot::generation_text;
use crate::time::LogTime;

/// Read a snapshot, or an ECDS file with one in it
#[derive(Args, Debug)]
pub(super) struct Inspect {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The form; human and json say what the snapshot is, raw prints its ranges as FIRST<TAB>LAST
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
}

impl Inspect {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let bytes = std::fs::read(&self.file).map_err(CliError::file(&self.file))?;
        let size = bytes.len();
        let bytes = snapshot_in(&bytes).unwrap_or(bytes);
        let path = self.file.clone();
        let snapshot = Snapshot::open(bytes).map_err(|source| CliError::NoSnapshot { path, source })?;
        let Header { list, generation, as_of, ipv4_ranges, ipv6_ranges, settings } = snapshot.header();
        let generation = generation_text(*generation);
        let as_of = LogTime::from_millis(*as_of).unwrap_or_default();
        let no_address = match settings.no_address {
            NoAddress::Allow => "allow",
            NoAddress::Deny => "deny",
        };
        output::print(|out| match self.output {
            Format::Human => {
                writeln!(out, "list         {list}")?;
                writeln!(out, "generation   {generation}")?;
                writeln!(out, "as of        {as_of}")?;
                writeln!(out, "IPv4 ranges  {ipv4_ranges}")?;
                writeln!(out, "IPv6 ranges  {ipv6_ranges}")?;
                writeln!(out, "no address   {no_address}")?;
                writeln!(out, "file size    {size} bytes")
            }
            Format::Raw => {
                let mut ranges = snapshot.table().iter();
                ranges.try_for_each(|range| writeln!(out, "{}\t{}", range.first(), range.last()))
            }
            Format::Json => {
                let json = json!({
                    "list": list, "generation": generation, "as_of": as_of.to_string(), "ipv4_ranges": ipv4_ranges,
                    "ipv6_ranges": ipv6_ranges, "no_address": no_address, "file_bytes": size,
                });
                writeln!(out, "{json}")
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
