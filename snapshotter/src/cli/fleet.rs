//! `edgefold fleet`

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::CliError;
use super::admin_args::{AdminArgs, Proxy};
use super::output::{self, Format};
use crate::answers::words;

const EXAMPLES: &str = "\
Examples:
  edgefold fleet
  edgefold fleet --admin-url http://edgefold-1:9464,http://edgefold-2:9464 -o json

Exit status: 0 if every proxy enforces everything that is shipped to it, 1 if one does not, 2 on an error.";

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Print the proxies that are connected to `serve --xds`, and what each of them enforces
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct FleetArgs {
    /// The output format; raw is NODE<TAB>CLUSTER<TAB>ADDRESS<TAB>CONNECTED AT<TAB>ENFORCES BELOW<TAB>OF, where - stands for nothing.
    /// JSON is what `/fleet` of each admin server returns (see docs/admin.md), and
    /// the server as admin_url
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    admin: AdminArgs,
}

impl FleetArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let (mut fleets, mut errors) = (Vec::new(), Vec::new());
        for (url, fleet) in self.admin.fleets("/fleet", PATIENCE) {
            match fleet {
                Ok(fleet) => fleets.push((url, fleet)),
                Err(error) => errors.push(error),
            }
        }
        let mut rows: Vec<(&Proxy, u64)> =
            fleets.iter().flat_map(|(_, fleet)| fleet.proxies.iter().map(|proxy| (proxy, fleet.next_offset))).collect();
        rows.sort_by_key(|(proxy, _)| (&proxy.cluster, &proxy.node, &proxy.address));
        output::print(|out| {
            if self.output == Format::Json {
                return output::json_array(out, fleets.iter().map(|(url, fleet)| fleet.json(url)));
            }
            if rows.is_empty() && errors.is_empty() && self.output == Format::Human {
                return writeln!(out, "no proxy is connected");
            }
            let width = rows.iter().map(|(proxy, _)| proxy.name().len()).max().unwrap_or(0);
            rows.iter().try_for_each(|(proxy, next_offset)| match self.output {
                Format::Raw => {
                    let below = proxy.enforces_below.map_or("-".to_owned(), |below| below.to_string());
                    let Proxy { node, cluster, address, connected_at, .. } = proxy;
                    let (node, cluster) = (words::one_line(node), words::one_line(cluster));
                    writeln!(out, "{node}\t{cluster}\t{address}\t{connected_at}\t{below}\t{next_offset}")
                }
                _ => {
                    let cluster = words::one_line(&proxy.cluster);
                    let state = proxy.state(*next_offset);
                    writeln!(out, "{:<width$}  {cluster}  {state}  (connected {})", proxy.name(), proxy.connected_at)?;
                    proxy.resources.iter().try_for_each(|resource| {
                        let version = words::one_line(resource.version.as_deref().unwrap_or("nothing yet"));
                        let at = resource.accepted_at.as_ref().map(|at| format!(", accepted {at}")).unwrap_or_default();
                        writeln!(out, "  {}: {version}{at}", resource.name)
                    })
                }
            })
        })?;
        // What is known of the others is printed all the same.
        if let Some(last) = errors.pop() {
            errors.iter().for_each(|error| output::complain(error));
            return Err(last);
        }
        let is_behind = |(proxy, of): &(&Proxy, u64)| {
            proxy.should_enforce() && proxy.enforces_below.is_none_or(|below| below < *of)
        };
        Ok(if rows.iter().any(is_behind) { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }
}
