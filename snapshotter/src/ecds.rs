//! Ships snapshots to Envoy: as one ECDS resource with the filter in it, in a file that is replaced by a rename.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use edgefold_table::OpenConnections;
use envoy_types::pb::envoy::config::core::v3::{
    AsyncDataSource, DataSource, TypedExtensionConfig, async_data_source, data_source,
};
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm as HttpWasm;
use envoy_types::pb::envoy::extensions::filters::network::wasm::v3::Wasm as NetworkWasm;
use envoy_types::pb::envoy::extensions::wasm::v3::{FailurePolicy, PluginConfig, VmConfig, plugin_config};
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;

/// The filter, as build.rs built it.
pub static FILTER_WASM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgefold_filter.wasm"));
/// The filter that looks a connection's address up again whenever bytes come over it.
pub static RECHECK_WASM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgefold_filter_recheck.wasm"));

const EXTENSION_CONFIG: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
const HTTP_FILTER: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const NETWORK_FILTER: &str = "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm";
const BYTES_VALUE: &str = "type.googleapis.com/google.protobuf.BytesValue";

/// Where in Envoy the filter is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Filter {
    /// Among the HTTP filters, where it answers requests.
    Http,
    /// Among the network filters, where it closes connections.
    Network,
}

/// The `DiscoveryResponse` that carries `snapshot` and the filter to Envoy as the ECDS resource `name`, encoded.
///
/// Envoy unwraps the `BytesValue`: the filter gets the snapshot's bytes alone. `shipment` is to be another for each shipment:
/// Envoy configures no plugin with what is, all in all, a configuration that something still uses, such as an open stream, and
/// what came in between would serve on.
pub fn discovery_response(
    filter: Filter,
    name: &str,
    version: &str,
    shipment: &str,
    snapshot: &[u8],
    open_connections: OpenConnections,
    failure_policy: FailurePolicy,
) -> Vec<u8> {
    // Both kinds of filter have the same module, so that they share a VM and its table.
    let module = match open_connections {
        OpenConnections::Keep => FILTER_WASM,
        OpenConnections::Recheck => RECHECK_WASM,
    };
    // The two kinds have configurations of their own: they come at different times, and the last one serves.
    let root_id = match filter {
        Filter::Http => format!("http {shipment}"),
        Filter::Network => format!("network {shipment}"),
    };
    let plugin = PluginConfig { root_id, ..plugin(name, module, snapshot, failure_policy) };
    let typed_config = match filter {
        Filter::Http => {
            let filter = HttpWasm { config: Some(plugin) };
            Any { type_url: HTTP_FILTER.to_owned(), value: filter.encode_to_vec() }
        }
        Filter::Network => {
            let filter = NetworkWasm { config: Some(plugin) };
            Any { type_url: NETWORK_FILTER.to_owned(), value: filter.encode_to_vec() }
        }
    };
    let extension = TypedExtensionConfig { name: name.to_owned(), typed_config: Some(typed_config) };
    DiscoveryResponse {
        version_info: version.to_owned(),
        type_url: EXTENSION_CONFIG.to_owned(),
        resources: vec![Any { type_url: EXTENSION_CONFIG.to_owned(), value: extension.encode_to_vec() }],
        ..Default::default()
    }
    .encode_to_vec()
}

fn plugin(name: &str, module: &[u8], snapshot: &[u8], failure_policy: FailurePolicy) -> PluginConfig {
    let code =
        DataSource { specifier: Some(data_source::Specifier::InlineBytes(module.to_vec())), ..Default::default() };
    let vm = VmConfig {
        // Plugins with the same id and code share one VM on each worker: those of one list. The filter would tell several
        // lists in one VM apart, by one more call for each request.
        vm_id: name.to_owned(),
        runtime: "envoy.wasm.runtime.v8".to_owned(),
        code: Some(AsyncDataSource { specifier: Some(async_data_source::Specifier::Local(code)) }),
        ..Default::default()
    };
    PluginConfig {
        name: name.to_owned(),
        vm: Some(plugin_config::Vm::VmConfig(vm)),
        configuration: Some(Any { type_url: BYTES_VALUE.to_owned(), value: snapshot.to_vec().encode_to_vec() }),
        failure_policy: failure_policy.into(),
        ..Default::default()
    }
}

/// The snapshot in an encoded `DiscoveryResponse`; `None` if the bytes are something else.
pub fn snapshot_in(response: &[u8]) -> Option<Vec<u8>> {
    Vec::<u8>::decode(plugin_in(response)?.configuration?.value.as_slice()).ok()
}

/// The shipment of an encoded `DiscoveryResponse`; `None` if the bytes are something else.
pub fn shipment_in(response: &[u8]) -> Option<String> {
    plugin_in(response)?.root_id.split_once(' ').map(|(_kind, shipment)| shipment.to_owned())
}

fn plugin_in(response: &[u8]) -> Option<PluginConfig> {
    let response = DiscoveryResponse::decode(response).ok()?;
    let extension = TypedExtensionConfig::decode(response.resources.first()?.value.as_slice()).ok()?;
    let filter = extension.typed_config?;
    match filter.type_url.as_str() {
        HTTP_FILTER => HttpWasm::decode(filter.value.as_slice()).ok()?.config,
        NETWORK_FILTER => NetworkWasm::decode(filter.value.as_slice()).ok()?.config,
        _ => None,
    }
}

/// Puts `bytes` at `path` at once: whoever opens the file finds the old content or the new, whole, and after a power cut
/// too. Envoy watches for the rename, and for nothing else.
///
/// # Errors
/// Those of the file system; the old content is there then.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // In the same directory, since a rename does not cross file systems.
    let mut file = tempfile::Builder::new().prefix(".edgefold-").tempfile_in(directory)?;
    // Readable for an Envoy of another user, whatever the umask.
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_can_be_read_back() {
        for filter in [Filter::Http, Filter::Network] {
            for open in [OpenConnections::Keep, OpenConnections::Recheck] {
                let response =
                    discovery_response(filter, "edgefold", "7", "a b", b"snapshot", open, FailurePolicy::FailClosed);
                assert_eq!(snapshot_in(&response).as_deref(), Some(&b"snapshot"[..]));
                assert_eq!(shipment_in(&response).as_deref(), Some("a b"));
            }
        }
        assert_eq!((snapshot_in(b"EDGEFOLD"), shipment_in(b"EDGEFOLD")), (None, None));
        assert!(FILTER_WASM.starts_with(b"\0asm") && RECHECK_WASM.starts_with(b"\0asm"));
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edgefold.pb");
        for content in [&b"old"[..], b"new"] {
            replace_file(&path, content).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
        assert!(replace_file(&directory.path().join("missing/edgefold.pb"), b"").is_err());
    }
}
