//! `edgefold inspect`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use edgefold::{ListActionText, LogTime};
use edgefold_snapshot::{ClientAddress, Freshness, Header, Named, OverlayList, Quoted, Refusal, Role, Settings};
use serde_json::{Map, Value, json};

use super::output::{self, Format};
use super::{CliError, snapshot_file};
use crate::answers::words;
use crate::ship::cut::generation_text;

const EXAMPLES: &str = "\
Examples:
  edgefold inspect /var/lib/edgefold/edgefold.pb
  edgefold inspect /var/lib/edgefold/edgefold.pb --base /var/lib/edgefold/edgefold-base.pb -o raw
  edgefold inspect snapshot.bin -o raw";

/// Print what is in a snapshot, or in an ECDS file with a snapshot
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct InspectArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The file with the base, if FILE has an overlay: print what the two add up to. Raw needs it; otherwise it makes no difference
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// The output format; human and json describe the snapshot, raw prints its ranges as FIRST<TAB>LAST<TAB>LIST
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
}

impl InspectArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let (snapshot, size) = snapshot_file::open(&self.file)?;
        let snapshot = Arc::new(snapshot);
        let layers = snapshot_file::layers(&self.file, &snapshot, self.base.as_deref())?;
        let Header { name, generation, as_of, settings, lists, .. } = snapshot.header();
        let (role, base) = match &snapshot.header().role {
            Role::Whole => ("whole", None),
            Role::Base => ("base", None),
            Role::Overlay(overlay) => ("overlay", Some(overlay.base)),
        };
        // What an overlay removes is not of interest where its base is known.
        let removals = match &snapshot.header().role {
            Role::Overlay(overlay) if self.base.is_none() => &*overlay.lists,
            _ => &[],
        };
        if self.output == Format::Raw {
            snapshot_file::check_complete(&self.file, &snapshot, self.base.as_deref())?;
        }
        let generation = generation_text(*generation);
        let as_of = LogTime::from_millis(*as_of).unwrap_or_default();
        output::print(|out| match self.output {
            Format::Human => {
                writeln!(out, "name               {}", Quoted(name))?;
                match base {
                    None => writeln!(out, "role               {role}")?,
                    Some(base) => writeln!(out, "role               {role} over {base}")?,
                }
                writeln!(out, "fingerprint        {}", snapshot.fingerprint())?;
                writeln!(out, "generation         {generation}")?;
                writeln!(out, "as of              {as_of}")?;
                writeln!(out, "file size          {size} bytes")?;
                // JSON quotes and escapes a text, so that it stays on its line.
                let settings = settings_json(settings);
                let mut settings = settings.as_object().into_iter().flatten();
                settings.try_for_each(|(name, value)| writeln!(out, "{:<18} {value}", name.replace('_', " ")))?;
                lists.iter().enumerate().try_for_each(|(index, list)| {
                    let action = words::one_line(&ListActionText(&list.action).to_string());
                    writeln!(out, "list {:<13} {action}", list.name.as_str())?;
                    let (ipv4, ipv6) = layers.ranges_of(index);
                    let bytes = list.table_bytes;
                    match removals.get(index) {
                        None if base.is_some() => writeln!(out, "{:18} {ipv4} IPv4 and {ipv6} IPv6 ranges", ""),
                        None => writeln!(out, "{:18} {ipv4} IPv4 and {ipv6} IPv6 ranges, {bytes} bytes", ""),
                        Some(removed) => {
                            let OverlayList { ipv4_ranges, ipv6_ranges, table_bytes, .. } = removed;
                            writeln!(out, "{:18} {ipv4} IPv4 and {ipv6} IPv6 ranges added, {bytes} bytes", "")?;
                            writeln!(
                                out,
                                "{:18} {ipv4_ranges} IPv4 and {ipv6_ranges} IPv6 ranges of the base removed, {table_bytes} bytes",
                                ""
                            )
                        }
                    }
                })
            }
            Format::Raw => {
                for (index, list) in lists.iter().enumerate() {
                    for range in layers.iter(index) {
                        writeln!(out, "{}\t{}\t{}", range.first(), range.last(), list.name)?;
                    }
                }
                Ok(())
            }
            Format::Json => {
                let lists = lists.iter().enumerate().map(|(index, list)| {
                    let (ipv4, ipv6) = layers.ranges_of(index);
                    let mut json = json!({
                        "name": list.name.as_str(), "does": ListActionText(&list.action).to_string(), "ipv4_ranges": ipv4,
                        "ipv6_ranges": ipv6, "table_bytes": list.table_bytes,
                    });
                    if let Some(removed) = removals.get(index) {
                        json["extends_base"] = removed.extends_base.into();
                        json["removed_ipv4_ranges"] = removed.ipv4_ranges.into();
                        json["removed_ipv6_ranges"] = removed.ipv6_ranges.into();
                    }
                    json
                });
                let lists: Vec<Value> = lists.collect();
                let mut json = json!({
                    "name": name, "role": role, "fingerprint": snapshot.fingerprint().to_string(), "generation": generation,
                    "as_of": as_of.to_string(), "file_bytes": size, "settings": settings_json(settings), "lists": lists,
                });
                if let Some(base) = base {
                    json["base"] = base.to_string().into();
                }
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
