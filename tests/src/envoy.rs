//! A real Envoy with the configurations that users copy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::edgefold::Host;
use crate::http::{Client, Upstream};
use crate::process::Process;
use crate::{eventually, tool, workspace};

/// One of the examples in `envoy/`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Example {
    /// The HTTP filter.
    Http,
    /// The HTTP filter behind proxies, whose addresses are known.
    BehindProxies,
    /// The network filter.
    Network,
    /// Both filters.
    Both,
}

impl Example {
    fn file_name(self) -> &'static str {
        match self {
            Self::Http => "envoy.yaml",
            Self::BehindProxies => "envoy-behind-proxies.yaml",
            Self::Network => "envoy-network.yaml",
            Self::Both => "envoy-both.yaml",
        }
    }
}

/// An example, and how the configuration differs from it.
#[derive(Clone, Copy, Debug)]
pub struct EnvoyOptions {
    /// The example.
    pub example: Example,
    /// Replaces `xff_num_trusted_hops` if given.
    pub trusted_hops: Option<u32>,
    /// The port to listen on; a free one if 0.
    pub port: u16,
    /// The port of the admin interface; a free one if 0.
    pub admin_port: u16,
    /// Texts of the example, each with its replacement.
    pub edits: &'static [(&'static str, &'static str)],
}

impl EnvoyOptions {
    /// The HTTP filter, as in the example.
    pub const HTTP: Self = Self { example: Example::Http, trusted_hops: None, port: 0, admin_port: 0, edits: &[] };
    /// The HTTP filter behind one trusted proxy: the last entry of X-Forwarded-For is the client.
    pub const BEHIND_A_PROXY: Self = Self { trusted_hops: Some(1), ..Self::HTTP };
    /// The network filter, as in the example.
    pub const NETWORK: Self = Self { example: Example::Network, ..Self::HTTP };
    /// Both filters, the HTTP filter behind one trusted proxy.
    pub const BOTH: Self = Self { example: Example::Both, ..Self::BEHIND_A_PROXY };
}

/// How an Envoy of a fleet gets its snapshots.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Xds {
    /// A stream for each resource.
    DeltaEcds,
    /// The same, with the state of the world.
    SotwEcds,
    /// One stream for all resources, as in the example.
    DeltaAds,
    /// The same, with the state of the world.
    SotwAds,
}

/// An Envoy of a fleet, by the example `envoy-xds.yaml`. A client behind one trusted proxy is the last entry of X-Forwarded-For.
#[derive(Clone, Copy, Debug)]
pub struct FleetOptions<'a> {
    /// The id of its node.
    pub id: &'a str,
    /// How it gets snapshots.
    pub xds: Xds,
    /// The replicas of `serve`, two in the example.
    pub replicas: &'a [SocketAddr],
    /// The folder with `ca.crt`, `client.crt` and `client.key`; `None` for no TLS.
    pub tls: Option<&'a Path>,
}

/// The files that Envoy watches.
#[derive(Clone, Debug)]
pub(crate) struct EcdsFiles {
    /// Those of the HTTP filter, of the network filter, and of the base of both.
    pub(crate) http: PathBuf,
    pub(crate) network: PathBuf,
    pub(crate) base: PathBuf,
}

/// Gives metrics of dynamic modules the names of the wasm filter's for Prometheus.
const NAMES_OF_METRICS: &str = "\
layered_runtime:
  layers:
  - name: edgefold
    static_layer: { envoy.reloadable_features.dynamic_modules_strip_custom_stat_prefix: true }
";

/// A configuration of Envoy for a host of the filter, made from one for the wasm filter. docs/filter.md tells users what to change.
pub fn for_host(host: Host, configuration: &str) -> String {
    match host {
        Host::Wasm => configuration.to_owned(),
        Host::Native => {
            let configuration = configuration
                .replace("filters.http.wasm.v3.Wasm", "filters.http.dynamic_modules.v3.DynamicModuleFilter")
                .replace(
                    "filters.network.wasm.v3.Wasm",
                    "filters.network.dynamic_modules.v3.DynamicModuleNetworkFilter",
                );
            format!("{configuration}\n{NAMES_OF_METRICS}")
        }
    }
}

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    address: SocketAddr,
    admin: Client,
    rest: Rest,
}

/// What must outlive the process.
#[derive(Debug, Default)]
struct Rest {
    socket: PathBuf,
    _upstream: Option<Upstream>,
    _files: Option<TempDir>,
    _directory: Option<Arc<TempDir>>,
}

impl Envoy {
    /// Starts Envoy with an example, in front of an upstream of its own, and waits until it listens. Its files go to a new
    /// folder in `directory`.
    #[track_caller]
    pub(crate) fn start(directory: &Arc<TempDir>, host: Host, ecds: &EcdsFiles, options: EnvoyOptions) -> Self {
        let EnvoyOptions { example, trusted_hops, port, admin_port, edits } = options;
        let files = files_in(directory);
        let upstream = Upstream::start();
        let socket = files.path().join("envoy.sock");
        let path = workspace().join("envoy");
        let (path, host) = match (example, host) {
            (Example::Http, Host::Native) => (path.join("envoy-native.yaml"), None),
            _ => (path.join(example.file_name()), Some(host)),
        };
        let configuration = std::fs::read_to_string(&path).expect("an example");
        let configuration = host.map_or(configuration.clone(), |host| for_host(host, &configuration));
        // Edits are about the listener of clients.
        let (listener, rest) = configuration.split_once("\n  # Carries the base").expect("the listener of the base");
        let (base, clusters) = rest.split_once("\n  clusters:\n").expect("the clusters");
        let mut configuration = format!("{listener}\n  clusters:\n{clusters}");
        let mut replace = |shipped: &str, here: &str| {
            assert_eq!(configuration.matches(shipped).count(), 1, "{shipped:?} in {}", path.display());
            configuration = configuration.replace(shipped, here);
        };
        for (shipped, here) in edits {
            replace(shipped, here);
        }
        if example != Example::Network {
            replace("/var/lib/edgefold/edgefold.pb }", &format!("{} }}", ecds.http.display()));
        }
        if matches!(example, Example::Network | Example::Both) {
            replace("/var/lib/edgefold/edgefold-network.pb }", &format!("{} }}", ecds.network.display()));
        }
        // Beside its port, the listener of clients gets a Unix domain socket: a client there has no IP address.
        let and_socket = format!("additional_addresses: [{{ address: {{ pipe: {{ path: {} }} }} }}]", socket.display());
        replace("name: ingress\n", &format!("name: ingress\n    {and_socket}\n"));
        replace("port_value: 9901", &format!("port_value: {admin_port}"));
        replace("port_value: 10000", &format!("port_value: {port}"));
        replace("port_value: 8080", &format!("port_value: {}", upstream.address().port()));
        if let Some(hops) = trusted_hops {
            replace("xff_num_trusted_hops: 0", &format!("xff_num_trusted_hops: {hops}"));
        }
        // Without a base, the example says to leave its listener out.
        if ecds.base.exists() {
            let base = base.replace("/var/lib/edgefold/edgefold-base.pb", &ecds.base.display().to_string());
            replace("\n  clusters:\n", &format!("\n  # Carries the base{base}\n  clusters:\n"));
        }
        let envoy = Self::start_with(files.path(), &configuration, 2);
        let rest =
            Rest { socket, _upstream: Some(upstream), _files: Some(files), _directory: Some(Arc::clone(directory)) };
        Self { rest, ..envoy }
    }

    /// Starts Envoy as one of a fleet, in front of an upstream of its own, and waits until it listens.
    #[track_caller]
    pub(crate) fn start_over_xds(directory: &Arc<TempDir>, host: Host, options: FleetOptions<'_>) -> Self {
        let FleetOptions { id, xds, replicas, tls } = options;
        let files = files_in(directory);
        let upstream = Upstream::start();
        let path = workspace().join("envoy/envoy-xds.yaml");
        let mut configuration = for_host(host, &std::fs::read_to_string(&path).expect("the example"));
        let mut replace = |count: usize, shipped: &str, here: &str| {
            assert_eq!(configuration.matches(shipped).count(), count, "{shipped:?} in {}", path.display());
            configuration = configuration.replace(shipped, here);
        };
        replace(1, "id: edge-1", &format!("id: {id}"));
        replace(1, "port_value: 9901", "port_value: 0");
        replace(1, "port_value: 10000", "port_value: 0");
        replace(1, "port_value: 8080", &format!("port_value: {}", upstream.address().port()));
        replace(1, "xff_num_trusted_hops: 0", "xff_num_trusted_hops: 1");
        replace(1, "type: STRICT_DNS", "type: STATIC");
        // Every test has to notice sooner that a host is cut off.
        replace(1, "{ interval: 30s, timeout: 10s }", "{ interval: 1s, timeout: 1s }");
        let endpoint = |host: &str, port: u16| {
            format!("- endpoint: {{ address: {{ socket_address: {{ address: {host}, port_value: {port} }} }} }}")
        };
        replace(1, &format!("        {} # yours\n", endpoint("edgefold-2.example.com", 18000)), "");
        let endpoints: Vec<String> =
            replicas.iter().map(|replica| endpoint(&replica.ip().to_string(), replica.port())).collect();
        let endpoints = endpoints.join("\n        ");
        replace(1, &endpoint("edgefold-1.example.com", 18000), &endpoints);
        let (dynamic, statics) = ("dynamic_resources:\n", "static_resources:\n");
        let (head, rest) = configuration.split_once(dynamic).expect("ADS");
        let (ads, rest) = rest.split_once(statics).expect("static resources");
        let config = if matches!(xds, Xds::SotwEcds | Xds::SotwAds) {
            assert_eq!(ads.matches("DELTA_GRPC").count(), 1);
            ads.replace("DELTA_GRPC", "GRPC")
        } else {
            ads.to_owned()
        };
        configuration = match xds {
            Xds::DeltaAds | Xds::SotwAds => format!("{head}{dynamic}{config}{statics}{rest}"),
            Xds::DeltaEcds | Xds::SotwEcds => {
                // A stream of its own for each resource, to the same service.
                let source = config.trim().replace("ads_config:", "api_config_source:");
                let source = source.replace('\n', "\n              ");
                assert_eq!(rest.matches("ads: {}").count(), 2);
                format!("{head}{statics}{}", rest.replace("ads: {}", &source))
            }
        };
        match tls {
            Some(tls) => {
                assert_eq!(configuration.matches("/etc/edgefold/").count(), 3);
                configuration = configuration.replace("/etc/edgefold/", &format!("{}/", tls.display()));
            }
            None => {
                let (before, _tls) = configuration.split_once("    transport_socket:\n").expect("TLS");
                let (_, upstream) = configuration.split_once("  - name: upstream\n").expect("the upstream");
                configuration = format!("{before}  - name: upstream\n{upstream}");
            }
        }
        let envoy = Self::start_with(files.path(), &configuration, 2);
        let rest = Rest {
            _upstream: Some(upstream),
            _files: Some(files),
            _directory: Some(Arc::clone(directory)),
            ..Rest::default()
        };
        Self { rest, ..envoy }
    }

    /// Starts Envoy with a configuration of the caller's (YAML), and waits until its first listener listens. Its files go to a
    /// new folder in `directory`.
    #[track_caller]
    pub(crate) fn start_in(directory: &Arc<TempDir>, configuration: &str) -> Self {
        let files = files_in(directory);
        let envoy = Self::start_with(files.path(), configuration, 2);
        let rest = Rest { _files: Some(files), _directory: Some(Arc::clone(directory)), ..Rest::default() };
        Self { rest, ..envoy }
    }

    /// Starts Envoy with a configuration of the caller's (YAML) and this number of worker threads, and waits until its first
    /// listener listens. Its files go to `directory`.
    #[track_caller]
    pub fn start_with(directory: &Path, configuration: &str, concurrency: usize) -> Self {
        Self::start_under(&[], directory, configuration, concurrency)
    }

    /// The same, run by a program that replaces itself by it: its name and its arguments.
    #[track_caller]
    pub fn start_under(launcher: &[&str], directory: &Path, configuration: &str, concurrency: usize) -> Self {
        let path = directory.join("envoy.yaml");
        std::fs::write(&path, configuration).expect("Envoy's configuration");
        let admin_path = directory.join("envoy-admin-address");
        // That of an Envoy that ran here before would be taken for this one's.
        let _absent = std::fs::remove_file(&admin_path);
        let envoy = tool("bin/envoy");
        let mut command = match launcher {
            [] => Command::new(envoy),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(envoy);
                command
            }
        };
        command.arg("--config-path").arg(&path).arg("--admin-address-path").arg(&admin_path);
        command.args(["--disable-hot-restart", "--log-level", "info", "--concurrency", &concurrency.to_string()]);
        // By default, access log lines are written every 10 seconds.
        command.args(["--file-flush-interval-msec", "20"]);
        let mut process = Process::start("Envoy", &mut command, &directory.join("envoy.log"));
        let admin: SocketAddr = process.wait_for("its admin address", || {
            std::fs::read_to_string(&admin_path).ok().and_then(|text| text.trim().parse().ok())
        });
        let admin = Client::new(admin, Ipv4Addr::LOCALHOST.into());
        process.wait_for("to be live", || admin.text("ready").filter(|text| text.trim() == "LIVE"));
        let address = process.wait_for("its listener", || {
            let listeners: Value = serde_json::from_str(&admin.text("listeners?format=json")?).ok()?;
            let socket = listeners.pointer("/listener_statuses/0/local_address/socket_address")?.clone();
            let ip: IpAddr = socket.get("address")?.as_str()?.parse().ok()?;
            Some(SocketAddr::new(ip, socket.get("port_value")?.as_u64()?.try_into().ok()?))
        });
        Self { process, address, admin, rest: Rest::default() }
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client that connects from `source`.
    pub fn client(&self, source: &str) -> Client {
        Client::new(self.address, source.parse().expect("an address"))
    }

    /// A client that connects over the Unix domain socket, and so has no IP address.
    pub fn client_without_address(&self) -> Client {
        Client::over_socket(&self.rest.socket)
    }

    /// What its admin interface returns for a path, such as `stats/prometheus`. It does not answer while Envoy loads a large snapshot.
    pub fn admin(&self, path: &str) -> String {
        eventually("an answer of the admin interface", || self.admin.text(path))
    }

    /// The URL of its admin interface.
    pub fn admin_url(&self) -> String {
        self.admin.url().to_owned()
    }

    /// The value of a metric of the filter with this name, as Prometheus sees it.
    pub fn metric(&self, name: &str, filter: &str) -> Option<u64> {
        self.prometheus(&format!("edgefold_filter_{name}{{edgefold_filter=\"{filter}\"}} "))
    }

    /// The value of a metric of one list of the filter `edgefold`, as Prometheus sees it.
    pub fn list_metric(&self, name: &str, list: &str) -> Option<u64> {
        let labels = format!("{{edgefold_filter=\"edgefold\",edgefold_list=\"{list}\"}}");
        self.prometheus(&format!("edgefold_filter_list_{name}{labels} "))
    }

    fn prometheus(&self, metric: &str) -> Option<u64> {
        let text = self.admin("stats/prometheus");
        text.lines().find_map(|line| line.strip_prefix(metric)).map(|value| value.parse().expect("a whole number"))
    }

    /// What it has logged so far, including its access log.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Waits for a line of its log or access log with these words. Only for tests of the line itself.
    #[track_caller]
    pub fn wait_for_log_line(&self, words: &str) {
        eventually(&format!("a log line with {words:?}"), || self.output().contains(words).then_some(()));
    }
}

/// A connection manager with the HTTP filter of this name from `ecds_file`, which answers each request that passes with 200. One line of YAML, for
/// configurations that no example has.
pub fn http_manager(name: &str, ecds_file: &Path) -> String {
    let http = "type.googleapis.com/envoy.extensions.filters.http";
    let edgefold = json!({ "name": name, "config_discovery": {
        "config_source": { "resource_api_version": "V3", "path_config_source": { "path": ecds_file } },
        "type_urls": [format!("{http}.wasm.v3.Wasm")],
    }});
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": format!("{http}.router.v3.Router") },
    });
    let routes = json!([{ "match": { "prefix": "/" }, "direct_response": { "status": 200 } }]);
    let manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": format!("type.googleapis.com/{manager}"),
        "stat_prefix": "ingress",
        "use_remote_address": true,
        "http_filters": [edgefold, router],
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }] },
    }})
    .to_string()
}

/// A folder for the files of one Envoy: several may run beside each other.
fn files_in(directory: &TempDir) -> TempDir {
    tempfile::Builder::new().prefix("envoy-").tempdir_in(directory.path()).expect("a folder")
}
