//! Who takes part: a name, what is blocked, and the filter that blocks it.

use std::fs;
use std::path::PathBuf;

use edgefold::ecds;
use edgefold_table::OpenConnections;
use envoy_types::pb::envoy::extensions::wasm::v3::FailurePolicy;

use crate::list::List;
use crate::{resources, sdk_filter};

pub(crate) const EMPTY: &str = "empty chain";
/// Who the others are compared with.
pub(crate) const NATIVE: &str = "RBAC, IP matcher, 1k";
pub(crate) const SDK: &str = "plain SDK filter, 1k";

/// Someone who takes part.
pub(crate) struct Contender {
    pub(crate) name: String,
    /// How many are blocked.
    pub(crate) ranges: usize,
    /// `None` for the empty chain.
    pub(crate) filter: Option<Filter>,
    /// Whether denied requests are measured too.
    pub(crate) denied: bool,
}

/// A filter that Envoy gets by ECDS.
pub(crate) struct Filter {
    pub(crate) type_url: &'static str,
    /// Whether it is among the network filters, where no address of X-Forwarded-For is seen, and none of a request blocked.
    pub(crate) network: bool,
    /// The encoded `DiscoveryResponse` with one version of a list.
    pub(crate) resource: Resource,
}

type Resource = Box<dyn Fn(&List, u32) -> Vec<u8>>;

impl Filter {
    fn new(type_url: &'static str, resource: impl Fn(&List, u32) -> Vec<u8> + 'static) -> Self {
        Self { type_url, network: false, resource: Box::new(resource) }
    }
}

/// The filter that edgefold ships.
fn edgefold() -> Filter {
    Filter::new(resources::WASM, |list, version| {
        edgefold_resource(ecds::Filter::Http, OpenConnections::Keep, list, version)
    })
}

/// The same among the network filters.
fn edgefold_network(open_connections: OpenConnections) -> Filter {
    let resource =
        move |list: &List, version| edgefold_resource(ecds::Filter::Network, open_connections, list, version);
    Filter { network: true, ..Filter::new(resources::NETWORK_WASM, resource) }
}

fn edgefold_resource(filter: ecds::Filter, open_connections: OpenConnections, list: &List, version: u32) -> Vec<u8> {
    let (name, policy) = (resources::NAME, FailurePolicy::FailClosed);
    let (snapshot, version) = (list.snapshot(version), version.to_string());
    ecds::discovery_response(filter, name, &version, &version, &snapshot, open_connections, policy)
}

/// Another wasm module, configured with the same snapshot.
fn module(module: Vec<u8>) -> Filter {
    Filter::new(resources::WASM, move |list, version| resources::wasm(version, &module, list.snapshot(version)))
}

/// RBAC by the matcher API.
fn rbac_matcher() -> Filter {
    Filter::new(resources::RBAC, |list, version| resources::rbac_matcher(version, &list.version(version)))
}

fn rbac_principals() -> Filter {
    Filter::new(resources::RBAC, |list, version| resources::rbac_principals(version, &list.version(version)))
}

fn lua() -> Filter {
    Filter::new(resources::LUA, |list, version| resources::lua(version, &list.version(version)))
}

fn contender(name: &str, ranges: usize, filter: Option<Filter>, denied: bool) -> Contender {
    Contender { name: name.to_owned(), ranges, filter, denied }
}

/// Those whose reloads are timed.
pub(crate) fn reloaded() -> [Contender; 3] {
    [
        contender("edgefold, 100k", 100_000, Some(edgefold()), false),
        contender("edgefold, 1M", 1_000_000, Some(edgefold()), false),
        contender("RBAC, IP matcher, 100k", 100_000, Some(rbac_matcher()), false),
    ]
}

/// Who is reloaded for long.
pub(crate) fn soaked() -> Contender {
    contender("edgefold, 1M", 1_000_000, Some(edgefold()), false)
}

/// Those whose cost is measured; `modules` are those of the command line.
pub(crate) fn all(modules: &[PathBuf]) -> Vec<Contender> {
    let sdk_filter = module(fs::read(sdk_filter::build()).unwrap());
    let further = modules.iter().map(|path| {
        let name = format!("{}, 1k", path.file_stem().unwrap().display());
        contender(&name, 1_000, Some(module(fs::read(path).unwrap())), true)
    });
    [
        contender(EMPTY, 0, None, false),
        // A control: it shows what differences mean nothing.
        contender("empty chain, once more", 0, None, false),
        contender("edgefold, 1k", 1_000, Some(edgefold()), true),
        contender("edgefold, 1M", 1_000_000, Some(edgefold()), true),
        contender("edgefold, 10M", 10_000_000, Some(edgefold()), false),
        contender("edgefold, network, 1k", 1_000, Some(edgefold_network(OpenConnections::Keep)), false),
        contender("edgefold, network, recheck, 1k", 1_000, Some(edgefold_network(OpenConnections::Recheck)), false),
        contender(SDK, 1_000, Some(sdk_filter), true),
        contender(NATIVE, 1_000, Some(rbac_matcher()), true),
        contender("RBAC, IP matcher, 100k", 100_000, Some(rbac_matcher()), false),
        // As CIDR blocks they are almost 262,144, which is as many as its trie takes.
        contender("RBAC, IP matcher, 190k", 190_000, Some(rbac_matcher()), false),
        contender("RBAC, principals, 1k", 1_000, Some(rbac_principals()), false),
        contender("Lua, 1k", 1_000, Some(lua()), false),
    ]
    .into_iter()
    .chain(further)
    .collect()
}
