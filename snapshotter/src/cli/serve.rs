//! `edgefold serve`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgGroup, Args};
use edgefold::parse_ttl;
use edgefold_snapshot::Settings;

use super::CliError;
use super::log_args::LogArgs;
use super::settings_args::named;
use super::snapshot_args::SnapshotContentArgs;
use crate::serve::{ServeConfig, serve};
use crate::ship::ecds::FailurePolicy;

const EXAMPLES: &str = "\
Examples:
  edgefold serve --ecds-file /var/lib/edgefold/edgefold.pb
  edgefold serve --ecds-file /var/lib/edgefold/edgefold.pb --base-ecds-file /var/lib/edgefold/edgefold-base.pb
  edgefold serve --ecds-file /var/lib/edgefold/edgefold.pb --mode shadow --admin 127.0.0.1:9464

Run as many as you like on one log: all of them ship. One of them writes the view, the cache that makes startup fast, and another \
takes over if it goes away. Stops cleanly on SIGINT and SIGTERM.";

/// Follow the log, and ship a snapshot of all lists to Envoy at each change
#[derive(Args, Debug)]
#[command(
    after_help = EXAMPLES,
    group(ArgGroup::new("to").required(true).multiple(true).args(["ecds_file", "network_ecds_file"]))
)]
pub(super) struct ServeArgs {
    /// Ship the HTTP filter to this file, which Envoy watches; its name must end in .pb
    #[arg(long, value_name = "FILE", value_parser = ecds_path)]
    ecds_file: Option<PathBuf>,
    /// Ship the network filter, which refuses connections, to this file; its name must end in .pb
    #[arg(long, value_name = "FILE", value_parser = ecds_path)]
    network_ecds_file: Option<PathBuf>,
    /// Ship large lists as a base, to this file, and what has changed since then to the others, which are then small; its name must end
    /// in .pb. Envoy must read this file too, as in the examples. The module is put beside it
    #[arg(long, value_name = "FILE", value_parser = ecds_path)]
    base_ecds_file: Option<PathBuf>,
    /// Where Envoy sees the folder of --base-ecds-file, if at another path, as in a container
    #[arg(long, value_name = "FOLDER", requires = "base_ecds_file")]
    envoy_folder: Option<String>,
    /// Serve metrics for Prometheus at http://IP:PORT/metrics, as in 127.0.0.1:9464, and answer /live and /ready for probes
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
    /// Write the address of the admin server to this file; useful with port 0
    #[arg(long, value_name = "FILE", requires = "admin")]
    admin_address_path: Option<PathBuf>,
    /// What Envoy does if the filter crashes: restart it, and answer 503 while that fails (fail-reload), answer 503
    /// (fail-closed), or let requests pass (fail-open)
    #[arg(long, value_name = "POLICY", default_value = "fail-reload", value_parser = named::<FailurePolicy>())]
    failure_policy: FailurePolicy,
    /// Wait at least this long between two shipments, as in 500ms or 1s. The first change after a quiet time is shipped at once, and
    /// later ones are collected
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = interval)]
    min_interval: Duration,
    /// Only follow and ship: never write the view, so that no right to write to the log is needed. Another `serve` must keep the view
    #[arg(long)]
    no_view: bool,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    content: SnapshotContentArgs,
}

/// As a ttl, but zero and milliseconds are allowed.
fn interval(text: &str) -> Result<Duration, String> {
    let millis = text.strip_suffix("ms").and_then(|millis| millis.parse().ok()).map(Duration::from_millis);
    match (text, millis) {
        ("0" | "0s", _) => Ok(Duration::ZERO),
        (_, Some(millis)) => Ok(millis),
        _ => parse_ttl(text).map_err(|_| "write whole numbers with ms, s, m, h, d or w, as in 500ms or 1m".to_owned()),
    }
}

/// Envoy picks the parser of a file by its extension.
fn ecds_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension() {
        Some(extension) if extension == "pb" => Ok(path),
        _ => Err("Envoy reads a file as binary protobuf only if its name ends in .pb".to_owned()),
    }
}

impl ServeArgs {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let settings = self.content.settings.read()?;
        self.check(&settings).map_err(|what| CliError::Usage(what.to_owned()))?;
        let config = ServeConfig {
            name: self.content.name,
            epoch: self.content.epoch,
            settings,
            http_file: self.ecds_file,
            network_file: self.network_ecds_file,
            base_file: self.base_ecds_file,
            envoy_folder: self.envoy_folder,
            failure_policy: self.failure_policy,
            min_interval: self.min_interval,
            keeps_view: !self.no_view,
            admin: self.admin,
            admin_address_path: self.admin_address_path,
        };
        serve(Arc::from(self.log.open()?), config)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Checks that each setting has a filter that it applies to.
    fn check(&self, settings: &Settings) -> Result<(), &'static str> {
        let Settings { refusal, client_address, tag_header, .. } = settings;
        let quarter = settings.freshness.map(|freshness| Duration::from_millis(freshness.max_age / 4));
        if quarter.is_some_and(|quarter| self.min_interval > quarter) {
            return Err(
                "--min-interval must be at most a quarter of --max-age: that is how often a new snapshot is due, and without one \
                 everything gets stale",
            );
        }
        let files = [&self.ecds_file, &self.network_ecds_file, &self.base_ecds_file].map(Option::as_ref);
        let mut files: Vec<&PathBuf> = files.into_iter().flatten().collect();
        files.sort();
        if files.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(
                "--ecds-file, --network-ecds-file and --base-ecds-file must be different files: one file holds one resource",
            );
        }
        let default = Settings::default();
        let only_http = (refusal, client_address, tag_header);
        if self.ecds_file.is_none() && only_http != (&default.refusal, &default.client_address, &default.tag_header) {
            return Err(
                "--status, --body, --content-type, --header, --client-address and --tag-header apply to the HTTP filter: add \
                 --ecds-file",
            );
        }
        Ok(())
    }
}
