//! A contender in its own Envoy.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use edgefold_snapshotter::ship::ecds::FilterKind;
use edgefold_tests::Envoy;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::contenders::{Contender, EcdsFilter};
use crate::list::{List, Lists, canary};
use crate::load::{Connection, DENIED};
use crate::resources::NAME;

/// The file that Envoy watches, and the one that will replace it.
const FILE: &str = "edgefold.pb";
const NEXT: &str = "next.pb";

/// A running contender.
pub(crate) struct Running {
    pub(crate) contender: Contender,
    pub(crate) list: List,
    envoy: Envoy,
    directory: TempDir,
    version: u32,
}

impl Running {
    /// Starts Envoy with the first version of the list.
    pub(crate) fn start(contender: Contender, lists: &mut Lists, concurrency: usize) -> Self {
        Self::start_under(&[], contender, lists, concurrency)
    }

    /// The same, with Envoy run by a program: see [`Envoy::start_under`].
    pub(crate) fn start_under(launcher: &[&str], contender: Contender, lists: &mut Lists, concurrency: usize) -> Self {
        let list = lists.of(contender.ranges);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE);
        let (mut filters, mut network_filters) = (Vec::new(), Vec::new());
        let mut base = None;
        if let Some(EcdsFilter { type_url, network, encode, base: encode_base }) = &contender.filter {
            fs::write(&file, encode(&list, 0, directory.path())).unwrap();
            let kind = if *network { FilterKind::Network } else { FilterKind::Http };
            let filter = discovered(&kind.resource_name(NAME), type_url, &file);
            if *network {
                network_filters.push(filter)
            } else {
                filters.push(filter)
            }
            base = encode_base.as_ref().map(|encode| {
                let file = directory.path().join("base.pb");
                fs::write(&file, encode(&list, 0, directory.path())).unwrap();
                (*type_url, file)
            });
        }
        let configuration =
            configuration(filters, network_filters, base.as_ref().map(|(kind, file)| (*kind, &**file))).to_string();
        let envoy = Envoy::start_under(launcher, directory.path(), &configuration, concurrency);
        if contender.filter.as_ref().is_some_and(|filter| !filter.network) {
            let status = Connection::open(envoy.address()).status_for(canary(0));
            assert_eq!(status, DENIED, "{} does not serve: {}", contender.name, warnings(&envoy));
        }
        Self { contender, list, envoy, directory, version: 0 }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.envoy.address()
    }

    /// Writes the next version, and returns the address that only this version blocks.
    pub(crate) fn prepare(&mut self) -> u32 {
        self.version += 1;
        let EcdsFilter { encode, .. } = self.contender.filter.as_ref().unwrap();
        fs::write(self.directory.path().join(NEXT), encode(&self.list, self.version, self.directory.path())).unwrap();
        canary(self.version)
    }

    /// Replaces the current version with the one that was written, and returns when.
    pub(crate) fn ship(&self) -> Instant {
        let [next, file] = [NEXT, FILE].map(|name| self.directory.path().join(name));
        let start = Instant::now();
        fs::rename(next, file).unwrap();
        start
    }

    /// Panics if a version shipped at `start` should have been serving for a long time by now.
    pub(crate) fn assert_recent(&self, start: Instant) {
        let is_late = start.elapsed() > Duration::from_secs(60);
        assert!(!is_late, "{} does not take the new list: {}", self.contender.name, warnings(&self.envoy));
    }

    /// The CPU seconds of all threads of Envoy so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.envoy.pid())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.envoy.pid()
    }

    /// Resident megabytes of Envoy: `VmRSS` is the current value, `VmHWM` the peak.
    pub(crate) fn megabytes(&self, field: &str) -> f64 {
        megabytes(self.envoy.pid(), field)
    }
}

/// The CPU seconds of all threads of a process so far, but for those that have ended.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanos = tasks.map(|task| {
        let text = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    nanos.sum::<u64>() as f64 * 1e-9
}

/// Resident megabytes of a process: `VmRSS` is the current value, `VmHWM` the peak.
pub(crate) fn megabytes(pid: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<f64>().unwrap() / 1024.0
}

/// A filter with this name that comes from a file.
pub(crate) fn discovered(name: &str, type_url: &str, file: &Path) -> Value {
    json!({ "name": name, "config_discovery": {
        "config_source": { "resource_api_version": "V3", "path_config_source": { "path": file } },
        "type_urls": [type_url],
    }})
}

/// The log of Envoy without its info messages.
fn warnings(envoy: &Envoy) -> String {
    let output = envoy.output();
    output.lines().filter(|line| !line.contains("][info][")).collect::<Vec<_>>().join("\n")
}

/// A configuration like `envoy/envoy.yaml`, behind one proxy and without an upstream, and with the listener for a base if there is one: its
/// type and its file.
pub(crate) fn configuration(
    mut filters: Vec<Value>,
    mut network_filters: Vec<Value>,
    base: Option<(&str, &Path)>,
) -> Value {
    let router = json!({ "name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    }});
    filters.push(router.clone());
    let base = base.map(|(type_url, file)| json!({
        "name": "edgefold-base",
        "bind_to_port": false,
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 1 } },
        "filter_chains": [{ "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "base",
            "http_filters": [discovered("edgefold-base", type_url, file), router],
            "route_config": {},
        }}]}],
    }));
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "use_remote_address": true,
        "xff_num_trusted_hops": 1,
        "http_filters": filters,
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [{
            "match": { "prefix": "/" },
            "direct_response": { "status": 200, "body": { "inline_string": "ok\n" } },
        }]}]},
    });
    network_filters.push(json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }));
    let address = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
    let ingress = json!({
        "name": "ingress",
        "address": address,
        "filter_chains": [{ "filters": network_filters }],
    });
    let listeners: Vec<Value> = [ingress].into_iter().chain(base).collect();
    json!({
        "node": { "id": "bench", "cluster": "bench" },
        "admin": { "address": address },
        "static_resources": { "listeners": listeners },
    })
}
