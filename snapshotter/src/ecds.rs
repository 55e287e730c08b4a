//! Ships snapshots to Envoy: as one ECDS resource with the filter in it, in a file that is replaced by a rename.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use envoy_types::pb::envoy::config::core::v3::{
    AsyncDataSource, DataSource, TypedExtensionConfig, async_data_source, data_source,
};
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::wasm::v3::{FailurePolicy, PluginConfig, VmConfig, plugin_config};
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;

/// The filter, as build.rs built it.
pub static FILTER_WASM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgefold_filter.wasm"));

const EXTENSION_CONFIG: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
const WASM_FILTER: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const BYTES_VALUE: &str = "type.googleapis.com/google.protobuf.BytesValue";

/// The `DiscoveryResponse` that carries `snapshot` and the filter to Envoy as the ECDS resource `name`, encoded.
///
/// Envoy unwraps the `BytesValue`: the filter gets the snapshot's bytes alone.
pub fn discovery_response(name: &str, version: &str, snapshot: Vec<u8>, failure_policy: FailurePolicy) -> Vec<u8> {
    let code =
        DataSource { specifier: Some(data_source::Specifier::InlineBytes(FILTER_WASM.to_vec())), ..Default::default() };
    let vm = VmConfig {
        // Plugins with the same id and code share one VM on each worker.
        vm_id: "edgefold".to_owned(),
        runtime: "envoy.wasm.runtime.v8".to_owned(),
        code: Some(AsyncDataSource { specifier: Some(async_data_source::Specifier::Local(code)) }),
        ..Default::default()
    };
    let plugin = PluginConfig {
        name: name.to_owned(),
        vm: Some(plugin_config::Vm::VmConfig(vm)),
        configuration: Some(Any { type_url: BYTES_VALUE.to_owned(), value: snapshot.encode_to_vec() }),
        failure_policy: failure_policy.into(),
        ..Default::default()
    };
    let filter = Wasm { config: Some(plugin) };
    let typed_config = Some(Any { type_url: WASM_FILTER.to_owned(), value: filter.encode_to_vec() });
    let extension = TypedExtensionConfig { name: name.to_owned(), typed_config };
    DiscoveryResponse {
        version_info: version.to_owned(),
        type_url: EXTENSION_CONFIG.to_owned(),
        resources: vec![Any { type_url: EXTENSION_CONFIG.to_owned(), value: extension.encode_to_vec() }],
        ..Default::default()
    }
    .encode_to_vec()
}

/// The snapshot in an encoded `DiscoveryResponse`; `None` if the bytes are something else.
pub fn snapshot_in(response: &[u8]) -> Option<Vec<u8>> {
    let response = DiscoveryResponse::decode(response).ok()?;
    let extension = TypedExtensionConfig::decode(response.resources.first()?.value.as_slice()).ok()?;
    let filter = Wasm::decode(extension.typed_config?.value.as_slice()).ok()?;
    Vec::<u8>::decode(filter.config?.configuration?.value.as_slice()).ok()
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
        let response = discovery_response("edgefold", "7", b"snapshot".to_vec(), FailurePolicy::FailClosed);
        assert_eq!(snapshot_in(&response).as_deref(), Some(&b"snapshot"[..]));
        assert_eq!(snapshot_in(b"EDGEFOLD"), None);
        assert!(FILTER_WASM.starts_with(b"\0asm"));
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
