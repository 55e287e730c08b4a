//! `edgefold inspect`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use edgefold_table::{
    ClientAddress, Freshness, Header, Mode, NoAddress, OpenConnections, Quoted, Refusal, Settings, Snapshot, WhenStale,
};
use serde_json::{Map, Value, json};

use super::CliError;
use super::output::{self, Format};
use crate::ecds::snapshot_in;
use crate::range_text::range_text;
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
        output::print(|out| match self.output {
            Format::Human => {
                writeln!(out, "list               {}", Quoted(list))?;
                writeln!(out, "generation         {generation}")?;
                writeln!(out, "as of              {as_of}")?;
                writeln!(out, "IPv4 ranges        {ipv4_ranges}")?;
                writeln!(out, "IPv6 ranges        {ipv6_ranges}")?;
                writeln!(out, "file size          {size} bytes")?;
                // Each in a line; a text with its quotes, so that it stays in one.
                let settings = json_of(settings);
                let mut settings = settings.as_object().into_iter().flatten();
                settings.try_for_each(|(name, value)| writeln!(out, "{:<18} {value}", name.replace('_', " ")))
            }
            Format::Raw => {
                let mut ranges = snapshot.table().iter();
                ranges.try_for_each(|range| writeln!(out, "{}\t{}", range.first(), range.last()))
            }
            Format::Json => {
                let json = json!({
                    "list": list, "generation": generation, "as_of": as_of.to_string(), "ipv4_ranges": ipv4_ranges,
                    "ipv6_ranges": ipv6_ranges, "file_bytes": size, "settings": json_of(settings),
                });
                writeln!(out, "{json}")
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The settings as in a file of them, but for the age, which is in seconds and beside the moment that it is counted from.
fn json_of(settings: &Settings) -> Value {
    let Settings { mode, refusal, client_address, no_address, freshness, open_connections } = settings;
    let Refusal { status, body, content_type, headers } = refusal;
    let headers: Map<_, _> = headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let mut json = json!({
        "mode": match mode {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
        },
        "status": status, "body": body, "content_type": content_type, "headers": headers,
        "no_address": match no_address {
            NoAddress::Allow => "allow",
            NoAddress::Deny => "deny",
        },
        "open_connections": match open_connections {
            OpenConnections::Keep => "keep",
            OpenConnections::Recheck => "recheck",
        },
    });
    match client_address {
        ClientAddress::Envoy => json["client_address"] = "envoy".into(),
        ClientAddress::Connection => json["client_address"] = "connection".into(),
        ClientAddress::Header { name, trusted_hops, trusted_proxies } => {
            json["client_address"] = format!("header:{name}").into();
            json["trusted_hops"] = (*trusted_hops).into();
            json["trusted_proxies"] = trusted_proxies.iter().map(|&range| range_text(range)).collect();
        }
    }
    if let Some(Freshness { cut_at, max_age, when_stale }) = freshness {
        json["max_age_seconds"] = (max_age / 1000).into();
        json["fresh_from"] = LogTime::from_millis(*cut_at).unwrap_or(LogTime::LAST).to_string().into();
        json["when_stale"] = match when_stale {
            WhenStale::Keep => "keep".into(),
            WhenStale::Deny => "deny".into(),
        };
    }
    json
}
