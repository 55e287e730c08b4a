//! The contenders: a name, how many ranges are blocked, and the filter that blocks them.

use std::fs;
use std::path::{self, Path, PathBuf};

use edgefold_snapshot::{Fingerprint, OpenConnections, SnapshotFile};
use edgefold_snapshotter::modules;
use edgefold_snapshotter::replace::replace_file;
use edgefold_snapshotter::ship::ecds::{Code, FailurePolicy, FilterHost, FilterKind, Payload, Resource};
use edgefold_snapshotter::ship::snapshot_files::MOST_INLINE_BYTES;

use crate::list::List;
use crate::resources;

pub(crate) const EMPTY: &str = "empty chain";
/// The contenders that the others are compared with.
pub(crate) const MATCHER: &str = "RBAC, IP matcher, 1k";
pub(crate) const WASM: &str = "edgefold, 1k";
pub(crate) const PORTABLE: &str = "portable module, 1k";

/// A contender.
pub(crate) struct Contender {
    pub(crate) name: String,
    /// The number of ranges to block.
    pub(crate) ranges: usize,
    /// `None` for the empty chain.
    pub(crate) filter: Option<EcdsFilter>,
    /// Whether to measure denied requests too.
    pub(crate) denied: bool,
}

/// A filter that Envoy gets by ECDS.
pub(crate) struct EcdsFilter {
    pub(crate) type_url: &'static str,
    /// Whether it is a network filter. Those do not see X-Forwarded-For, so no request is blocked.
    pub(crate) network: bool,
    pub(crate) encode: Encode,
    /// Encodes the resource with its base; `None` if it has none.
    pub(crate) base: Option<Encode>,
}

/// Encodes the `DiscoveryResponse` with one version of a list. In this folder is what it names.
type Encode = Box<dyn Fn(&List, u32, &Path) -> Vec<u8>>;

impl EcdsFilter {
    fn http(type_url: &'static str, encode: impl Fn(&List, u32, &Path) -> Vec<u8> + 'static) -> Self {
        Self { type_url, network: false, encode: Box::new(encode), base: None }
    }
}

/// The wasm filter, as a crash closes it.
pub(crate) const IN_WASM: FilterHost = FilterHost::Wasm(FailurePolicy::Closed);
/// Where the dynamic module is, for all Envoys.
const NATIVE_MODULE: &str = "target/bench/edgefold-filter.so";

/// The filter that edgefold ships.
fn edgefold() -> EcdsFilter {
    edgefold_in(IN_WASM)
}

/// The same as a dynamic module.
fn edgefold_native() -> EcdsFilter {
    edgefold_in(FilterHost::Native)
}

fn edgefold_in(host: FilterHost) -> EcdsFilter {
    EcdsFilter::http(FilterKind::Http.type_url(host), move |list, version, folder| {
        resource(host, FilterKind::Http, OpenConnections::Keep, list.snapshot(version), version, folder)
    })
}

/// The same as a network filter.
fn edgefold_network(open_connections: OpenConnections) -> EcdsFilter {
    EcdsFilter {
        type_url: FilterKind::Network.type_url(IN_WASM),
        network: true,
        encode: Box::new(move |list, version, folder| {
            resource(IN_WASM, FilterKind::Network, open_connections, list.snapshot(version), version, folder)
        }),
        base: None,
    }
}

/// The same with all ranges but this many in a base, and those in an overlay over it.
fn edgefold_pair(host: FilterHost, overlay: usize) -> EcdsFilter {
    let (kind, keep) = (FilterKind::Http, OpenConnections::Keep);
    EcdsFilter {
        base: Some(Box::new(move |list, version, folder| {
            resource(host, FilterKind::Base, keep, list.snapshot_as_pair(version, overlay).0, version, folder)
        })),
        ..EcdsFilter::http(FilterKind::Http.type_url(host), move |list, version, folder| {
            resource(host, kind, keep, list.snapshot_as_pair(version, overlay).1, version, folder)
        })
    }
}

/// The same with the ranges dealt out to this many lists.
fn edgefold_lists(count: usize) -> EcdsFilter {
    EcdsFilter::http(FilterKind::Http.type_url(IN_WASM), move |list, version, folder| {
        let snapshot = list.snapshot_of_lists(version, count);
        resource(IN_WASM, FilterKind::Http, OpenConnections::Keep, snapshot, version, folder)
    })
}

fn resource(
    host: FilterHost,
    kind: FilterKind,
    open_connections: OpenConnections,
    snapshot: Vec<u8>,
    version: u32,
    folder: &Path,
) -> Vec<u8> {
    // As serve does.
    let snapshot = if host == FilterHost::Native && snapshot.len() > MOST_INLINE_BYTES {
        // Two are enough: one that Envoy has, and the next.
        let path = folder.join(format!("{}-{}.snapshot", kind.word(), version % 2));
        replace_file(&path, &snapshot).unwrap();
        let fingerprint = Fingerprint::of(&snapshot).unwrap();
        Payload::File(SnapshotFile { path: path.to_str().unwrap().to_owned(), fingerprint })
    } else {
        Payload::Inline(snapshot.into())
    };
    let version = &version.to_string();
    let module = path::absolute(NATIVE_MODULE).unwrap();
    let code = match host {
        FilterHost::Wasm(_) => Code::Inline(modules::module_for(host, open_connections)),
        FilterHost::Native => Code::File(module.to_str().unwrap()),
    };
    Resource { kind, name: resources::NAME, version, shipment: version, host, code, snapshot }.encode()
}

/// Writes the dynamic module to where the resources say it is. With a rename, since an Envoy of another run may have the file
/// mapped, and would be ended by a bus error where it is cut short.
pub(crate) fn write_native_module() {
    fs::create_dir_all(Path::new(NATIVE_MODULE).parent().unwrap()).unwrap();
    replace_file(Path::new(NATIVE_MODULE), modules::NATIVE_FILTER).unwrap();
}

/// Another wasm module, configured with the same snapshot.
fn module(module: Vec<u8>) -> EcdsFilter {
    EcdsFilter::http(FilterKind::Http.type_url(IN_WASM), move |list, version, _| {
        resources::wasm(version, &module, list.snapshot(version))
    })
}

/// RBAC with the matcher API.
fn rbac_matcher() -> EcdsFilter {
    EcdsFilter::http(resources::RBAC, |list, version, _| resources::rbac_matcher(version, &list.version(version)))
}

fn rbac_principals() -> EcdsFilter {
    EcdsFilter::http(resources::RBAC, |list, version, _| resources::rbac_principals(version, &list.version(version)))
}

fn lua() -> EcdsFilter {
    EcdsFilter::http(resources::LUA, |list, version, _| resources::lua(version, &list.version(version)))
}

fn contender(name: &str, ranges: usize, filter: Option<EcdsFilter>, denied: bool) -> Contender {
    Contender { name: name.to_owned(), ranges, filter, denied }
}

/// The contenders whose reloads are timed.
pub(crate) fn reloaded() -> [Contender; 6] {
    let native = FilterHost::Native;
    [
        contender("edgefold, 100k", 100_000, Some(edgefold()), false),
        contender("edgefold, 1M", 1_000_000, Some(edgefold()), false),
        contender("edgefold native, 100k", 100_000, Some(edgefold_native()), false),
        contender("edgefold native, 1M", 1_000_000, Some(edgefold_native()), false),
        contender("edgefold native, 1M, an overlay of 100", 1_000_000, Some(edgefold_pair(native, 100)), false),
        contender("RBAC, IP matcher, 100k", 100_000, Some(rbac_matcher()), false),
    ]
}

/// The contenders of the soak.
pub(crate) fn soaked() -> [Contender; 2] {
    [
        contender("edgefold, 1M", 1_000_000, Some(edgefold()), false),
        contender("edgefold native, 1M", 1_000_000, Some(edgefold_native()), false),
    ]
}

/// The contenders whose instructions are counted.
pub(crate) fn counted() -> Vec<Contender> {
    let native = FilterHost::Native;
    vec![
        contender(EMPTY, 0, None, false),
        contender(MATCHER, 1_000, Some(rbac_matcher()), true),
        contender(WASM, 1_000, Some(edgefold()), true),
        contender("edgefold native, 1k", 1_000, Some(edgefold_native()), true),
        contender("edgefold native, 1M", 1_000_000, Some(edgefold_native()), true),
        contender(
            "edgefold native, 1M, of which 10k in an overlay",
            1_000_000,
            Some(edgefold_pair(native, 10_000)),
            false,
        ),
        contender("edgefold native, 10M", 10_000_000, Some(edgefold_native()), false),
    ]
}

/// The contenders whose memory is measured with several workers.
pub(crate) fn remembered() -> [Contender; 3] {
    [
        contender(EMPTY, 0, None, false),
        contender("edgefold, 10M", 10_000_000, Some(edgefold()), false),
        contender("edgefold native, 10M", 10_000_000, Some(edgefold_native()), false),
    ]
}

/// The contenders whose cost is measured. `modules` are the additional ones from the command line.
pub(crate) fn all(modules: &[PathBuf]) -> Vec<Contender> {
    let further = modules.iter().map(|path| {
        let name = format!("{}, 1k", path.file_stem().unwrap().display());
        contender(&name, 1_000, Some(module(fs::read(path).unwrap())), true)
    });
    [
        contender(EMPTY, 0, None, false),
        // A control, which shows the size of the noise.
        contender("empty chain, again", 0, None, false),
        contender(WASM, 1_000, Some(edgefold()), true),
        contender("edgefold, 1M", 1_000_000, Some(edgefold()), true),
        contender("edgefold, 1M, of which 10k in an overlay", 1_000_000, Some(edgefold_pair(IN_WASM, 10_000)), true),
        contender("edgefold, 10M", 10_000_000, Some(edgefold()), false),
        contender("edgefold native, 1k", 1_000, Some(edgefold_native()), true),
        contender("edgefold native, 1M", 1_000_000, Some(edgefold_native()), true),
        contender(
            "edgefold native, 1M, of which 10k in an overlay",
            1_000_000,
            Some(edgefold_pair(FilterHost::Native, 10_000)),
            false,
        ),
        contender("edgefold native, 10M", 10_000_000, Some(edgefold_native()), false),
        // Lists of 100k ranges each, none of which has the client.
        contender("edgefold, 1 list of 100k", 100_000, Some(edgefold_lists(1)), false),
        contender("edgefold, 2 lists of 100k", 200_000, Some(edgefold_lists(2)), false),
        contender("edgefold, 4 lists of 100k", 400_000, Some(edgefold_lists(4)), false),
        contender("edgefold, 8 lists of 100k", 800_000, Some(edgefold_lists(8)), false),
        contender("edgefold, network, 1k", 1_000, Some(edgefold_network(OpenConnections::Keep)), false),
        contender("edgefold, network, recheck, 1k", 1_000, Some(edgefold_network(OpenConnections::Recheck)), false),
        contender(PORTABLE, 1_000, Some(module(modules::PORTABLE_FILTER.to_vec())), true),
        contender(MATCHER, 1_000, Some(rbac_matcher()), true),
        contender("RBAC, IP matcher, 100k", 100_000, Some(rbac_matcher()), false),
        // These are almost 262,144 CIDR blocks, the limit of its trie.
        contender("RBAC, IP matcher, 190k", 190_000, Some(rbac_matcher()), false),
        contender("RBAC, principals, 1k", 1_000, Some(rbac_principals()), false),
        contender("Lua, 1k", 1_000, Some(lua()), false),
    ]
    .into_iter()
    .chain(further)
    .collect()
}
