//! A real Envoy with the configurations that users copy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::edgefold::Edgefold;
use crate::http::{Client, Upstream};
use crate::process::Process;
use crate::{tool, workspace};

/// What may differ from an example.
#[derive(Clone, Copy, Debug)]
pub struct EnvoyOptions {
    /// The example in `envoy/`.
    pub example: &'static str,
    /// `xff_num_trusted_hops`, unless it is to be as in the example.
    pub trusted_hops: Option<u32>,
    /// The port to listen on; a free one if 0.
    pub port: u16,
    /// The port of the admin interface; a free one if 0.
    pub admin_port: u16,
    /// Text of the example, each with what stands in its place.
    pub edits: &'static [(&'static str, &'static str)],
}

impl Default for EnvoyOptions {
    fn default() -> Self {
        Self { example: "envoy.yaml", trusted_hops: None, port: 0, admin_port: 0, edits: &[] }
    }
}

/// A running Envoy in front of an upstream of its own.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    address: SocketAddr,
    admin: Client,
    socket: PathBuf,
    _upstream: Option<Upstream>,
}

impl Envoy {
    /// Starts Envoy with the snapshot at `ecds_file`, and waits until it listens. Its files go to `directory`.
    pub fn start(directory: &Path, ecds_file: &Path, options: EnvoyOptions) -> Self {
        let upstream = Upstream::start();
        let socket = directory.join("envoy.sock");
        // Beside its port, the listener is given a Unix domain socket: a client there has no IP address.
        let and_socket = format!("additional_addresses: [{{ address: {{ pipe: {{ path: {} }} }} }}]", socket.display());
        let example = workspace().join("envoy").join(options.example);
        let mut configuration = std::fs::read_to_string(&example).expect("an example");
        let mut replace = |shipped: &str, here: &str| {
            assert_eq!(configuration.matches(shipped).count(), 1, "{shipped:?} in {}", options.example);
            configuration = configuration.replace(shipped, here);
        };
        for (shipped, here) in options.edits {
            replace(shipped, here);
        }
        if options.example != "envoy-network.yaml" {
            replace("/var/lib/edgefold/edgefold.pb }", &format!("{} }}", ecds_file.display()));
        }
        if options.example != "envoy.yaml" {
            let network_ecds_file = Edgefold::network_ecds_file_beside(ecds_file);
            replace("/var/lib/edgefold/edgefold-network.pb }", &format!("{} }}", network_ecds_file.display()));
        }
        replace("name: ingress\n", &format!("name: ingress\n    {and_socket}\n"));
        replace("port_value: 9901", &format!("port_value: {}", options.admin_port));
        replace("port_value: 10000", &format!("port_value: {}", options.port));
        replace("port_value: 8080", &format!("port_value: {}", upstream.address().port()));
        if let Some(hops) = options.trusted_hops {
            replace("xff_num_trusted_hops: 0", &format!("xff_num_trusted_hops: {hops}"));
        }
        Self { socket, _upstream: Some(upstream), ..Self::start_with(directory, &configuration, 2) }
    }

    /// Starts Envoy with a configuration of the caller's in YAML and so many worker threads, and waits until its first
    /// listener listens. Its files go to `directory`.
    pub fn start_with(directory: &Path, configuration: &str, concurrency: usize) -> Self {
        let path = directory.join("envoy.yaml");
        std::fs::write(&path, configuration).expect("Envoy's configuration");
        let admin_path = directory.join("envoy-admin-address");
        // One of an Envoy that was here before would be taken for this one's.
        let _absent = std::fs::remove_file(&admin_path);
        let mut command = Command::new(tool("bin/envoy"));
        command.arg("--config-path").arg(&path).arg("--admin-address-path").arg(&admin_path);
        command.args(["--disable-hot-restart", "--log-level", "info", "--concurrency", &concurrency.to_string()]);
        // The access log is there at once.
        command.args(["--file-flush-interval-msec", "20"]);
        let mut process = Process::start("Envoy", &mut command, &directory.join("envoy.log"));
        let admin: SocketAddr = process.wait_for("its admin address", || {
            std::fs::read_to_string(&admin_path).ok().and_then(|text| text.trim().parse().ok())
        });
        let client = Client::new(admin, Ipv4Addr::LOCALHOST.into());
        process.wait_for("to be live", || client.text("ready").filter(|text| text.trim() == "LIVE"));
        let address = process.wait_for("its listener", || {
            let listeners: Value = serde_json::from_str(&client.text("listeners?format=json")?).ok()?;
            let socket = listeners.pointer("/listener_statuses/0/local_address/socket_address")?.clone();
            let ip: IpAddr = socket.get("address")?.as_str()?.parse().ok()?;
            Some(SocketAddr::new(ip, socket.get("port_value")?.as_u64()?.try_into().ok()?))
        });
        Self { process, address, admin: client, socket: PathBuf::new(), _upstream: None }
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client that connects over the Unix domain socket, and so has no IP address.
    pub fn client_without_address(&self) -> Client {
        Client::over_socket(&self.socket)
    }

    /// A client that connects from `source`.
    pub fn client(&self, source: &str) -> Client {
        Client::new(self.address, source.parse().expect("an address"))
    }

    /// What its admin interface gives for a path, such as `stats/prometheus`.
    pub fn admin(&self, path: &str) -> String {
        self.admin.text(path).expect("an answer of the admin interface")
    }

    /// The value of a metric of a list, as Prometheus gets it.
    pub fn metric(&self, name: &str, list: &str) -> Option<u64> {
        let wanted = format!("edgefold_filter_{name}{{edgefold_list=\"{list}\"}} ");
        let text = self.admin("stats/prometheus");
        text.lines().find_map(|line| line.strip_prefix(&wanted)).map(|value| value.parse().expect("a whole number"))
    }

    /// What it has said so far, with its access log.
    pub fn output(&self) -> String {
        self.process.output()
    }
}
