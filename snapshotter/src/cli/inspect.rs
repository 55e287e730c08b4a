//! `edgefold inspect`

use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use edgefold::{ListActionText, LogTime};
use edgefold_snapshot::{ClientAddress, Freshness, Header, ListHeader, Named, Quoted, Refusal, Settings, Snapshot};
use edgefold_table::Table;
use serde_json::{Map, Value, json};

use super::CliError;
use super::output::{self, Format};
use crate::ship::cut::generation_text;
use crate::ship::ecds::{is_like_a_resource, snapshot_in};

const EXAMPLES: &str = "\
Examples:
  edgefold inspect /var/lib/edgefold/edgefold.pb
  edgefold inspect snapshot.bin -o raw";

/// Print what is in a snapshot, or in an ECDS file with a snapshot
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct InspectArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The output format; human and json describe the snapshot, raw prints its ranges as FIRST<TAB>LAST<TAB>LIST
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
}

impl InspectArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let bytes = Bytes::from(std::fs::read(&self.file).map_err(CliError::file(&self.file))?);
        let size = bytes.len();
        let path = self.file.clone();
        let snapshot = match snapshot_in(&bytes) {
            _ if bytes.is_empty() => return Err(CliError::EmptyFile { path }),
            Some(snapshot) => Snapshot::open(snapshot),
            None if is_like_a_resource(&bytes) => return Err(CliError::DamagedResource { path }),
            None => Snapshot::open(bytes),
        };
        let snapshot = snapshot.map_err(|source| CliError::NotASnapshot { path, source: Box::new(source) })?;
        let Header { name, generation, as_of, settings, lists, .. } = snapshot.header();
        let generation = generation_text(*generation);
        let as_of = LogTime::from_millis(*as_of).unwrap_or_default();
        output::print(|out| match self.output {
            Format::Human => {
                writeln!(out, "name               {}", Quoted(name))?;
                writeln!(out, "generation         {generation}")?;
                writeln!(out, "as of              {as_of}")?;
                writeln!(out, "file size          {size} bytes")?;
                // JSON quotes and escapes a text, so that it stays on its line.
                let settings = settings_json(settings);
                let mut settings = settings.as_object().into_iter().flatten();
                settings.try_for_each(|(name, value)| writeln!(out, "{:<18} {value}", name.replace('_', " ")))?;
                lists.iter().try_for_each(|list| {
                    let ListHeader { name, action, ipv4_ranges, ipv6_ranges, table_bytes } = list;
                    let action = output::one_line(&ListActionText(action).to_string());
                    writeln!(out, "list {:<13} {action}", name.as_str())?;
                    writeln!(out, "{:18} {ipv4_ranges} IPv4 and {ipv6_ranges} IPv6 ranges, {table_bytes} bytes", "")
                })
            }
            Format::Raw => {
                for (index, list) in lists.iter().enumerate() {
                    for range in snapshot.table(index).iter().flat_map(Table::iter) {
                        writeln!(out, "{}\t{}\t{}", range.first(), range.last(), list.name)?;
                    }
                }
                Ok(())
            }
            Format::Json => {
                let lists: Vec<Value> = lists
                    .iter()
                    .map(|ListHeader { name, action, ipv4_ranges, ipv6_ranges, table_bytes }| {
                        json!({
                            "name": name.as_str(), "does": ListActionText(action).to_string(), "ipv4_ranges": ipv4_ranges,
                            "ipv6_ranges": ipv6_ranges, "table_bytes": table_bytes,
                        })
                    })
                    .collect();
                let json = json!({
                    "name": name, "generation": generation, "as_of": as_of.to_string(), "file_bytes": size,
                    "settings": settings_json(settings), "lists": lists,
                });
                writeln!(out, "{json}")
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The settings as in a settings file, except that the maximum age is in seconds, with the moment from which it counts.
fn settings_json(settings: &Settings) -> Value {
    let Settings { mode, refusal, client_address, no_address, freshness, open_connections, tag_header } = settings;
    let Refusal { status, body, content_type, headers } = refusal;
    let headers: Map<_, _> = headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let mut json = json!({
        "mode": mode.name(), "status": status, "body": body, "content_type": content_type, "headers": headers,
        "no_address": no_address.name(), "open_connections": open_connections.name(),
        "tag_header": tag_header,
    });
    match client_address {
        ClientAddress::Envoy => json["client_address"] = "envoy".into(),
        ClientAddress::Connection => json["client_address"] = "connection".into(),
        ClientAddress::Header { name, trusted_hops, trusted_proxies } => {
            json["client_address"] = format!("header:{name}").into();
            json["trusted_hops"] = (*trusted_hops).into();
            json["trusted_proxies"] = trusted_proxies.0.iter().map(|range| range.shortest_text()).collect();
        }
    }
    if let Some(Freshness { cut_at, max_age, when_stale }) = freshness {
        json["max_age_seconds"] = (max_age / 1000).into();
        json["fresh_from"] = LogTime::from_millis(*cut_at).unwrap_or(LogTime::LAST).to_string().into();
        json["when_stale"] = when_stale.name().into();
    }
    json
}
