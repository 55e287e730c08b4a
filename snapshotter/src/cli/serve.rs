//! `edgefold serve`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgGroup, Args};
use edgefold_snapshot::{ClientAddress, OpenConnections, Refusal, Settings};

use super::CliError;
use super::log_args::LogArgs;
use super::settings_args::named;
use super::snapshot_args::SnapshotContentArgs;
use crate::serve::{ServeConfig, serve};
use crate::ship::ecds::FailurePolicy;

const EXAMPLES: &str = "\
Examples:
  edgefold serve --ecds-file /var/lib/edgefold/edgefold.pb
  edgefold serve --ecds-file /var/lib/edgefold/edgefold.pb --mode shadow --admin 127.0.0.1:9464

Run as many as you like on one log: all of them ship. One of them writes the view, the cache that makes startup fast, and another \
takes over if it goes away. Stops cleanly on SIGINT and SIGTERM.";

/// Follow the log, and ship a snapshot to Envoy at each change
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
    /// Serve metrics for Prometheus at http://ADDR/metrics, as in 127.0.0.1:9464
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
    /// Write the address of the admin server to this file; useful with port 0
    #[arg(long, value_name = "FILE", requires = "admin")]
    admin_address_path: Option<PathBuf>,
    /// What Envoy does if the filter crashes: restart it, and answer 503 while that fails (fail-reload), answer 503
    /// (fail-closed), or let requests pass (fail-open)
    #[arg(long, value_name = "POLICY", default_value = "fail-reload", value_parser = named::<FailurePolicy>())]
    failure_policy: FailurePolicy,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    content: SnapshotContentArgs,
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
            list: self.content.name,
            settings,
            http_file: self.ecds_file,
            network_file: self.network_ecds_file,
            failure_policy: self.failure_policy,
            admin: self.admin,
            admin_address_path: self.admin_address_path,
        };
        serve(Arc::from(self.log.open()?), config)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Checks that each setting has a filter that it applies to.
    fn check(&self, settings: &Settings) -> Result<(), &'static str> {
        let Settings { refusal, client_address, open_connections, .. } = settings;
        if self.ecds_file == self.network_ecds_file {
            return Err("--ecds-file and --network-ecds-file must be different files: one file holds one resource");
        }
        if self.network_ecds_file.is_none() && *open_connections != OpenConnections::default() {
            return Err("--open-connections applies to the network filter: add --network-ecds-file");
        }
        if self.ecds_file.is_none() && (*refusal != Refusal::default() || *client_address != ClientAddress::default()) {
            return Err(
                "--status, --body, --content-type, --header and --client-address apply to the HTTP filter: add --ecds-file",
            );
        }
        Ok(())
    }
}
