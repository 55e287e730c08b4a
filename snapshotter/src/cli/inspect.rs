//! `edgefold inspect`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use edgefold_table::{ClientAddress, Header, Mode, NoAddress, OpenConnections, Refusal, Settings, Snapshot, WhenStale};
use serde_json::json;

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
                writeln!(out, "list               {list}")?;
                writeln!(out, "generation         {generation}")?;
                writeln!(out, "as of              {as_of}")?;
                writeln!(out, "IPv4 ranges        {ipv4_ranges}")?;
                writeln!(out, "IPv6 ranges        {ipv6_ranges}")?;
                writeln!(out, "file size          {size} bytes")?;
                settings_lines(settings).into_iter().try_for_each(|(name, value)| writeln!(out, "{name:<18} {value}"))
            }
            Format::Raw => {
                let mut ranges = snapshot.table().iter();
                ranges.try_for_each(|range| writeln!(out, "{}\t{}", range.first(), range.last()))
            }
            Format::Json => {
                let settings: serde_json::Map<_, _> = settings_lines(settings)
                    .into_iter()
                    .map(|(name, value)| (name.replace(' ', "_"), value.into()))
                    .collect();
                let json = json!({
                    "list": list, "generation": generation, "as_of": as_of.to_string(), "ipv4_ranges": ipv4_ranges,
                    "ipv6_ranges": ipv6_ranges, "file_bytes": size, "settings": settings,
                });
                writeln!(out, "{json}")
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Each setting by its name in a file of settings.
fn settings_lines(settings: &Settings) -> Vec<(&'static str, String)> {
    let Settings { mode, refusal, client_address, no_address, freshness, open_connections } = settings;
    let Refusal { status, body, content_type, headers } = refusal;
    let mode = match mode {
        Mode::Enforce => "enforce",
        Mode::Shadow => "shadow",
    };
    let mut lines = vec![("mode", mode.to_owned()), ("status", status.to_string()), ("body", format!("{body:?}"))];
    lines.push(("content type", content_type.clone()));
    if !headers.is_empty() {
        let headers: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        lines.push(("headers", headers.join(", ")));
    }
    match client_address {
        ClientAddress::Envoy => lines.push(("client address", "envoy".to_owned())),
        ClientAddress::Connection => lines.push(("client address", "connection".to_owned())),
        ClientAddress::Header { name, trusted_hops, trusted_proxies } => {
            lines.push(("client address", format!("header:{name}")));
            lines.push(("trusted hops", trusted_hops.to_string()));
            if !trusted_proxies.is_empty() {
                let proxies: Vec<_> = trusted_proxies.iter().map(|&range| range_text(range)).collect();
                lines.push(("trusted proxies", proxies.join(", ")));
            }
        }
    }
    let no_address = match no_address {
        NoAddress::Allow => "allow",
        NoAddress::Deny => "deny",
    };
    lines.push(("no address", no_address.to_owned()));
    if let Some(freshness) = freshness {
        let cut_at = LogTime::from_millis(freshness.cut_at).unwrap_or(LogTime::LAST);
        let when_stale = match freshness.when_stale {
            WhenStale::Keep => "keep",
            WhenStale::Deny => "deny",
        };
        lines.push(("max age", format!("{} s from {cut_at}", freshness.max_age / 1000)));
        lines.push(("when stale", when_stale.to_owned()));
    }
    let open_connections = match open_connections {
        OpenConnections::Keep => "keep",
        OpenConnections::Recheck => "recheck",
    };
    lines.push(("open connections", open_connections.to_owned()));
    lines
}
