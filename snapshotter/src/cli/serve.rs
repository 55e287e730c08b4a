//! `edgefold serve`

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgGroup, Args};
use edgefold::{Checkpoints, parse_ttl};
use edgefold_snapshot::{Named, Settings};

use super::CliError;
use super::log_args::LogArgs;
use super::settings_args::named;
use super::snapshot_args::SnapshotContentArgs;
use crate::api::ApiConfig;
use crate::modules::{NATIVE_FILTER, file_name};
use crate::net::TlsFiles;
use crate::serve::{ServeConfig, serve};
use crate::ship::ecds::{FailurePolicy, FilterHost};
use crate::xds::{Module, XdsConfig};

const EXAMPLES: &str = "\
Examples:
  edgefold serve --ecds-file /var/lib/edgefold/edgefold.pb
  edgefold serve --ecds-file /var/lib/edgefold/edgefold.pb --base-ecds-file /var/lib/edgefold/edgefold-base.pb
  edgefold serve --ecds-file /var/lib/edgefold/edgefold.pb --filter native
  edgefold serve --xds 0.0.0.0:18000 --tls-cert tls.crt --tls-key tls.key --tls-client-ca ca.crt
  edgefold serve --ecds-file /var/lib/edgefold/edgefold.pb --mode shadow --admin 127.0.0.1:9464

Run as many as you like on one log: all of them ship. One of them writes the view, the cache that makes startup fast, and another \
takes over if it goes away. Stops cleanly on SIGINT and SIGTERM.";

/// Follow the log, and ship a snapshot of all lists to Envoy at each change
#[derive(Args, Debug)]
#[command(
    after_help = EXAMPLES,
    group(ArgGroup::new("to").required(true).multiple(true).args(["ecds_file", "network_ecds_file", "xds"]))
)]
pub(super) struct ServeArgs {
    /// Ship the HTTP filter to this file, which Envoy watches; its name must end in .pb
    #[arg(long, value_name = "FILE", value_parser = ecds_path)]
    ecds_file: Option<PathBuf>,
    /// Ship the network filter, which refuses connections, to this file; its name must end in .pb
    #[arg(long, value_name = "FILE", value_parser = ecds_path)]
    network_ecds_file: Option<PathBuf>,
    /// Ship large lists as a base, to this file, and what has changed since then to the others, which are then small; its name must end
    /// in .pb. Envoy must read this file too, as in the examples. The module is put beside it. With --filter native, so are large snapshots
    #[arg(long, value_name = "FILE", value_parser = ecds_path)]
    base_ecds_file: Option<PathBuf>,
    /// Where Envoy sees the folder that the module and the snapshots are put in, if at another path, as in a container
    #[arg(long, value_name = "FOLDER")]
    envoy_folder: Option<String>,
    /// What runs the filter in Envoy: its wasm VM (wasm), or Envoy itself (native), where a request costs a fraction. For native, Envoy must be
    /// 1.40 or 1.41, with a configuration for it: docs/filter.md. The module is then put beside the other files
    #[arg(long, value_name = "HOST", default_value = "wasm", value_parser = named::<FilterArg>())]
    filter: FilterArg,
    /// Ship to a fleet of Envoys over gRPC: listen here for their xDS streams, as in 127.0.0.1:18000. They ask for the resources edgefold,
    /// edgefold-network and edgefold-base, as in envoy/envoy-xds.yaml
    #[arg(long, value_name = "IP:PORT", help_heading = "A fleet over gRPC")]
    xds: Option<SocketAddr>,
    /// Write the address of the xDS server to this file; useful with port 0
    #[arg(long, value_name = "FILE", requires = "xds", help_heading = "A fleet over gRPC")]
    xds_address_path: Option<PathBuf>,
    /// How Envoys get the module: from here, when they do not have it (remote), inside each resource (inline), or from a file on their
    /// host, given by its path. With --filter native, it must be a path
    #[arg(
        long,
        value_name = "remote|inline|PATH",
        requires = "xds",
        default_value = "remote", value_parser = module,
        help_heading = "A fleet over gRPC"
    )]
    xds_module: ModuleArg,
    /// The name that Envoys have for the cluster of xDS servers, from which they fetch the module
    #[arg(long, value_name = "NAME", requires = "xds", default_value = "edgefold", help_heading = "A fleet over gRPC")]
    xds_cluster: String,
    /// The xDS server of another replica, as in https://edgefold-2:18000; may be repeated. Replicas that know each other ship the same bases,
    /// so a proxy that switches replicas does not download one again. Over TLS, its certificate must be of --tls-client-ca
    #[arg(long = "xds-peer", value_name = "URL", requires = "xds", value_parser = peer_url, help_heading = "A fleet over gRPC")]
    xds_peers: Vec<String>,
    /// Take commands over HTTP: listen here for POST /commands, as in 127.0.0.1:18001. docs/admin.md says how
    #[arg(long, value_name = "IP:PORT", requires = "api_tokens", help_heading = "Commands over HTTP")]
    api: Option<SocketAddr>,
    /// The tokens of --api, and what each may append: a TOML file, which is read again when it changes
    #[arg(long, value_name = "FILE", requires = "api", help_heading = "Commands over HTTP")]
    api_tokens: Option<PathBuf>,
    /// Write the address of that server to this file; useful with port 0
    #[arg(long, value_name = "FILE", requires = "api", help_heading = "Commands over HTTP")]
    api_address_path: Option<PathBuf>,
    /// Serve a page to look at, at http://IP:PORT/, and metrics for Prometheus at /metrics, as in 127.0.0.1:9464, answer /live and /ready for
    /// probes, and say who enforces what: docs/page.md, docs/admin.md. It has no password
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
    /// Write the address of the admin server to this file; useful with port 0
    #[arg(long, value_name = "FILE", requires = "admin")]
    admin_address_path: Option<PathBuf>,
    /// A name under which browsers may ask for the page of --admin, beside IP addresses and localhost; may be repeated
    #[arg(long = "page-host", value_name = "NAME", requires = "admin")]
    page_hosts: Vec<String>,
    /// What Envoy does if the wasm filter crashes: restart it, and answer 503 while that fails (fail-reload, the default), answer 503
    /// (fail-closed), or let requests pass (fail-open)
    #[arg(long, value_name = "POLICY", value_parser = named::<FailurePolicy>())]
    failure_policy: Option<FailurePolicy>,
    /// Wait at least this long between two shipments, as in 500ms or 1s. The first change after a quiet time is shipped at once, and
    /// later ones are collected
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = interval)]
    min_interval: Duration,
    /// Only follow and ship: never write the view, so that no right to write to the log is needed. Another `serve` must keep the view
    #[arg(long)]
    no_view: bool,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    content: SnapshotContentArgs,
}

/// TLS of the servers that others connect to.
#[derive(Args, Debug)]
#[command(next_help_heading = "TLS")]
struct TlsArgs {
    /// The certificate of --xds and --api: a PEM file with the certificate, then its intermediates. It is read again when it changes, and so
    /// are the next two
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Let only clients of --xds and --api connect that have a certificate of one of these authorities, in PEM. Those of --xds-peer must have
    /// one too
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// Listen without TLS on addresses other than loopback: whoever can connect can read all lists, and whoever sees the
    /// traffic can read the tokens of --api
    #[arg(long, conflicts_with = "tls_cert")]
    plaintext: bool,
}

impl TlsArgs {
    fn files(&self) -> Option<TlsFiles> {
        let (certificate, key) = (self.tls_cert.clone()?, self.tls_key.clone()?);
        Some(TlsFiles { certificate, key, client_ca: self.tls_client_ca.clone() })
    }

    /// Checks that nobody listens to the world by accident.
    fn check(&self, flag: &str, address: SocketAddr) -> Result<(), String> {
        if address.ip().to_canonical().is_loopback() || self.tls_cert.is_some() || self.plaintext {
            return Ok(());
        }
        Err(format!(
            "{flag} {address} is not loopback: give it a certificate with --tls-cert and --tls-key, or say --plaintext if the network is \
             trusted"
        ))
    }
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

/// What runs the filter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum FilterArg {
    Wasm,
    Native,
}

impl Named for FilterArg {
    const ALL: &'static [(&'static str, Self)] = &[("wasm", Self::Wasm), ("native", Self::Native)];
}

/// How Envoys get the module.
#[derive(Clone, Debug)]
enum ModuleArg {
    Remote,
    Inline,
    File(String),
}

fn module(text: &str) -> Result<ModuleArg, String> {
    match text {
        "remote" => Ok(ModuleArg::Remote),
        "inline" => Ok(ModuleArg::Inline),
        path if path.starts_with('/') => Ok(ModuleArg::File(path.to_owned())),
        _ => Err("write remote, inline, or the path of a file, which begins with /".to_owned()),
    }
}

fn peer_url(text: &str) -> Result<String, String> {
    let host = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    match host.map(|host| host.trim_end_matches('/')) {
        Some(host) if !host.is_empty() && !host.contains('/') => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("write a URL without a path, as in https://edgefold-2:18000".to_owned()),
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
    pub(super) fn run(self: Box<Self>) -> Result<ExitCode, CliError> {
        let settings = self.content.settings.read()?;
        self.check(&settings).map_err(|what| CliError::Usage(what.to_owned()))?;
        if let Some(address) = self.xds {
            self.tls.check("--xds", address).map_err(CliError::Usage)?;
        }
        if let Some(address) = self.api {
            self.tls.check("--api", address).map_err(CliError::Usage)?;
        }
        let (tls, peers) = (self.tls.files(), self.xds_peers);
        if peers.iter().any(|url| url.starts_with("https://")) && self.tls.tls_client_ca.is_none() {
            return Err(CliError::Usage(
                "--xds-peer over TLS needs --tls-client-ca, whose authority it trusts".to_owned(),
            ));
        }
        let module = match self.xds_module {
            ModuleArg::Remote => Module::Remote { cluster: self.xds_cluster },
            ModuleArg::Inline => Module::Inline,
            ModuleArg::File(path) => Module::File(path),
        };
        let host = match self.filter {
            FilterArg::Native => FilterHost::Native,
            FilterArg::Wasm => FilterHost::Wasm(self.failure_policy.unwrap_or(FailurePolicy::Reload)),
        };
        let config = ServeConfig {
            name: self.content.name,
            epoch: self.content.epoch,
            settings,
            http_file: self.ecds_file,
            network_file: self.network_ecds_file,
            base_file: self.base_ecds_file,
            envoy_folder: self.envoy_folder,
            api: self.api.zip(self.api_tokens).map(|(address, tokens)| ApiConfig { address, tokens, tls: tls.clone() }),
            api_address_path: self.api_address_path,
            xds: self.xds.map(|address| XdsConfig { address, tls, module, peers }),
            xds_address_path: self.xds_address_path,
            host,
            min_interval: self.min_interval,
            keeps_view: !self.no_view,
            admin: self.admin,
            admin_address_path: self.admin_address_path,
            page_hosts: self.page_hosts,
            checkpoints: Checkpoints::in_memory(),
            plaintext: self.tls.plaintext,
        };
        serve(Arc::from(self.log.open()?), config)?;
        Ok(ExitCode::SUCCESS)
    }

    fn check_native(&self) -> Result<(), &'static str> {
        if NATIVE_FILTER.is_empty() {
            return Err(
                "--filter native: this edgefold was not built for Linux with glibc, so it has no dynamic module",
            );
        }
        if self.failure_policy.is_some() {
            return Err("--failure-policy is for --filter wasm: a native filter that fails always answers 503");
        }
        if self.xds.is_none() {
            return Ok(());
        }
        let ModuleArg::File(path) = &self.xds_module else {
            return Err(
                "--filter native needs --xds-module PATH: an Envoy that starts cannot get a dynamic module over xDS. Write the file with \
                 `edgefold module --native -o FOLDER`",
            );
        };
        let name = file_name(FilterHost::Native, NATIVE_FILTER);
        if Path::new(path).file_name().is_none_or(|found| found != name.as_str()) {
            return Err(
                "--xds-module: Envoy does not load another version of a dynamic module from the same path, so the file must have the name \
                 that `edgefold module --native -o FOLDER` of this edgefold gives it",
            );
        }
        Ok(())
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
        let has_files = self.ecds_file.is_some() || self.network_ecds_file.is_some();
        if self.xds.is_some() && has_files && self.base_ecds_file.is_none() {
            return Err("with --xds, files need --base-ecds-file: what is shipped to both is the same");
        }
        if self.base_ecds_file.is_some() && !has_files {
            return Err("--base-ecds-file is for those who read --ecds-file or --network-ecds-file: add one");
        }
        let is_native = self.filter == FilterArg::Native;
        if self.envoy_folder.is_some() && !has_files {
            return Err(
                "--envoy-folder is for the module that is put beside --ecds-file or --network-ecds-file: add one",
            );
        }
        if self.envoy_folder.is_some() && self.base_ecds_file.is_none() && !is_native {
            return Err("--envoy-folder is for the module that is put beside --base-ecds-file: add that");
        }
        if is_native {
            self.check_native()?;
        }
        let default = Settings::default();
        let only_http = (refusal, client_address, tag_header);
        if self.ecds_file.is_none()
            && self.xds.is_none()
            && only_http != (&default.refusal, &default.client_address, &default.tag_header)
        {
            return Err(
                "--status, --body, --content-type, --header, --client-address and --tag-header apply to the HTTP filter: add \
                 --ecds-file or --xds",
            );
        }
        Ok(())
    }
}
