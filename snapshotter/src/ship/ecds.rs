//! The ECDS resource: how Envoy gets the filter and its snapshot.

use bytes::Bytes;
use edgefold_snapshot::Named;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use self::api::{
    Any, AsyncDataSource, BytesValue, DataSource, DiscoveryResponse, HttpUri, PluginConfig, RemoteDataSource,
    Specifier, TypedExtensionConfig, VmConfig, Wasm,
};

/// The type of each resource.
pub const EXTENSION_CONFIG: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
const HTTP_FILTER: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const NETWORK_FILTER: &str = "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm";
const BYTES_VALUE: &str = "type.googleapis.com/google.protobuf.BytesValue";

/// What a resource is in Envoy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FilterKind {
    /// One of the HTTP filters, which answers requests.
    Http,
    /// One of the network filters, which closes connections.
    Network,
    /// An HTTP filter that no request gets to. It only carries the base of the two others.
    Base,
}

impl FilterKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Http, Self::Network, Self::Base];

    fn type_url(self) -> &'static str {
        match self {
            Self::Http | Self::Base => HTTP_FILTER,
            Self::Network => NETWORK_FILTER,
        }
    }

    /// Its name, which is what the `root_id` of the plugin begins with. The kinds have configurations of their own, because they arrive at
    /// different times and the last one serves.
    pub fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Network => "network",
            Self::Base => "base",
        }
    }

    /// The name of the resource for the filter with this name. Over gRPC, nothing else tells them apart.
    pub fn resource_name(self, filter: &str) -> String {
        match self {
            Self::Http => filter.to_owned(),
            Self::Network => format!("{filter}-network"),
            Self::Base => format!("{filter}-base"),
        }
    }
}

/// How Envoy gets the wasm module.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Code<'a> {
    /// In the resource.
    Inline(&'static [u8]),
    /// From the file with this path, as Envoy sees it.
    File(&'a str),
    /// From an HTTP server. Envoy refuses the resource until it has fetched the module: to take it before that would leave requests
    /// without the filter.
    Remote {
        /// Where it is.
        uri: &'a str,
        /// The cluster in Envoy's configuration that has the server.
        cluster: &'a str,
        /// The SHA-256 of the module in hexadecimal.
        sha256: &'a str,
    },
}

/// How long Envoy may take to fetch the module.
const FETCH_TIMEOUT_SECONDS: i64 = 10;

/// What Envoy does if the filter crashes: `envoy.extensions.wasm.v3.FailurePolicy`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FailurePolicy {
    /// Restart the filter, and answer 503 while that fails.
    Reload = 1,
    /// Answer 503.
    Closed = 2,
    /// Let requests pass.
    Open = 3,
}

impl Named for FailurePolicy {
    const ALL: &'static [(&'static str, Self)] =
        &[("fail-reload", Self::Reload), ("fail-closed", Self::Closed), ("fail-open", Self::Open)];
}

/// A filter and its snapshot, as Envoy's extension config discovery service (ECDS) delivers them.
#[derive(Clone, Debug)]
pub struct Resource<'a> {
    /// What it is in Envoy.
    pub kind: FilterKind,
    /// The name of the filter.
    pub name: &'a str,
    /// The version of the resource.
    pub version: &'a str,
    /// Must be unique for each shipment. Envoy does not configure a plugin again with a configuration that is, as a whole, one
    /// that is still in use, for instance by an open stream. Then whatever came in between would keep serving.
    pub shipment: &'a str,
    /// The filter's wasm module. All kinds of a filter have the same, so that they share a VM and its tables.
    pub code: Code<'a>,
    /// The snapshot. Envoy unwraps it, so the filter gets exactly these bytes.
    pub snapshot: Bytes,
    /// What Envoy does if the filter crashes.
    pub failure_policy: FailurePolicy,
}

impl Resource<'_> {
    /// The encoded `DiscoveryResponse` with this resource. The snapshot and the module are copied once, into the result.
    pub fn encode(&self) -> Vec<u8> {
        DiscoveryResponse {
            version_info: self.version.to_owned(),
            resources: vec![self.any()],
            type_url: EXTENSION_CONFIG.to_owned(),
        }
        .encode_to_vec()
    }

    /// The encoded `google.protobuf.Any` with this resource, in parts: it has no version. The snapshot and the module are not copied.
    pub fn encode_parts(&self) -> Vec<Bytes> {
        let mut extension = self.any().value.unwrap_or_default();
        let mut filter = extension.typed_config.take().unwrap_or_default();
        let mut plugin = filter.value.take().unwrap_or_default().config.unwrap_or_default();
        let mut vm = plugin.vm_config.take().unwrap_or_default();
        plugin.configuration = None;
        let code = match (self.code, vm.code.take()) {
            (Code::Inline(module), _) => field(1, field(2, vec![Bytes::from_static(module)])),
            (_, code) => vec![code.unwrap_or_default().encode_to_vec().into()],
        };
        // Fields may come in any order, so those that are in parts come last.
        let vm = [vec![vm.encode_to_vec().into()], field(3, code)].concat();
        let configuration = any_in_parts(BYTES_VALUE, field(1, vec![self.snapshot.clone()]));
        let plugin = [vec![plugin.encode_to_vec().into()], field(3, vm), field(4, configuration)].concat();
        let filter = any_in_parts(self.kind.type_url(), field(1, plugin));
        let extension = [vec![extension.encode_to_vec().into()], field(2, filter)].concat();
        joined(any_in_parts(EXTENSION_CONFIG, extension))
    }

    fn any(&self) -> Any<TypedExtensionConfig> {
        let local = |specifier| AsyncDataSource {
            local: Some(DataSource { specifier: Some(specifier) }),
            ..AsyncDataSource::default()
        };
        let code = match self.code {
            Code::Inline(module) => local(Specifier::InlineBytes(Bytes::from_static(module))),
            Code::File(path) => local(Specifier::Filename(path.to_owned())),
            Code::Remote { uri, cluster, sha256 } => {
                let timeout = Some(api::Duration { seconds: FETCH_TIMEOUT_SECONDS });
                let http_uri = Some(HttpUri { uri: uri.to_owned(), cluster: cluster.to_owned(), timeout });
                let remote = Some(RemoteDataSource { http_uri, sha256: sha256.to_owned() });
                AsyncDataSource { remote, ..AsyncDataSource::default() }
            }
        };
        let vm = VmConfig {
            // Plugins with the same VM id and code share one VM on each worker: those of one name. The filter could tell
            // several lists in one VM apart, at the cost of one more call for each request.
            vm_id: self.name.to_owned(),
            runtime: "envoy.wasm.runtime.v8".to_owned(),
            nack_on_code_cache_miss: code.remote.is_some(),
            code: Some(code),
        };
        let plugin = PluginConfig {
            // Not that of the resource: the filter serves what has one name.
            name: self.name.to_owned(),
            root_id: format!("{} {}", self.kind.word(), self.shipment),
            vm_config: Some(vm),
            configuration: Some(Any::new(BYTES_VALUE, BytesValue { value: self.snapshot.clone() })),
            failure_policy: self.failure_policy as i32,
        };
        let filter = Any::new(self.kind.type_url(), Wasm { config: Some(plugin) });
        let name = self.kind.resource_name(self.name);
        Any::new(EXTENSION_CONFIG, TypedExtensionConfig { name, typed_config: Some(filter) })
    }
}

/// A field of a message, whose content is in parts.
pub fn field(tag: u32, parts: Vec<Bytes>) -> Vec<Bytes> {
    let mut head = Vec::new();
    encode_key(tag, WireType::LengthDelimited, &mut head);
    encode_varint(length(&parts) as u64, &mut head);
    [vec![head.into()], parts].concat()
}

/// The bytes of all parts.
pub fn length(parts: &[Bytes]) -> usize {
    parts.iter().map(Bytes::len).sum()
}

/// An encoded `Any` in parts.
fn any_in_parts(type_url: &str, value: Vec<Bytes>) -> Vec<Bytes> {
    let head = Any::<Wasm> { type_url: type_url.to_owned(), value: None };
    [vec![head.encode_to_vec().into()], field(2, value)].concat()
}

/// The same bytes, with small parts that follow each other put together.
pub fn joined(parts: Vec<Bytes>) -> Vec<Bytes> {
    const SMALL: usize = 4096;
    let (mut joined, mut small) = (Vec::new(), Vec::new());
    for part in parts {
        if part.len() <= SMALL {
            small.extend_from_slice(&part);
        } else {
            joined.extend((!small.is_empty()).then(|| Bytes::from(std::mem::take(&mut small))));
            joined.push(part);
        }
    }
    joined.extend((!small.is_empty()).then(|| small.into()));
    joined
}

/// The snapshot in an encoded `DiscoveryResponse`; `None` if the bytes are something else.
pub fn snapshot_in(response: &Bytes) -> Option<Bytes> {
    Some(plugin_in(response)?.configuration?.value?.value)
}

/// Whether bytes that cannot be decoded look as if they had been an encoded `DiscoveryResponse`.
///
/// So do a few bytes that start with the tag of `version_info`: the type comes after it.
pub fn is_like_a_resource(bytes: &[u8]) -> bool {
    const VERSION_INFO: u8 = 1 << 3 | 2;
    if bytes.len() < 2 * EXTENSION_CONFIG.len() && bytes.first() == Some(&VERSION_INFO) {
        return true;
    }
    let start = &bytes[..bytes.len().min(4096)];
    start.windows(EXTENSION_CONFIG.len()).any(|window| window == EXTENSION_CONFIG.as_bytes())
}

/// The shipment of an encoded `DiscoveryResponse`; `None` if the bytes are something else.
pub fn shipment_in(response: &Bytes) -> Option<String> {
    plugin_in(response)?.root_id.split_once(' ').map(|(_kind, shipment)| shipment.to_owned())
}

fn plugin_in(response: &Bytes) -> Option<PluginConfig> {
    let response = DiscoveryResponse::decode(response.clone()).ok()?;
    let filter = response.resources.into_iter().next()?.value?.typed_config?;
    if ![HTTP_FILTER, NETWORK_FILTER].contains(&filter.type_url.as_str()) {
        return None;
    }
    filter.value?.config
}

/// The few messages of the Envoy API that are shipped, with the fields that are set. To compile the whole API takes a minute
/// of a core, and a generated [`Any`](api::Any) would be encoded on its own, with a copy of the snapshot at each level. A test
/// compares the result with the whole API.
mod api {
    use std::fmt::Debug;

    use bytes::Bytes;
    use prost::{Message, Oneof};

    /// A `google.protobuf.Any` whose content has a known type: an embedded message is encoded like the bytes of one.
    #[derive(Clone, Message)]
    pub(super) struct Any<M: Message + Default + Debug> {
        #[prost(string, tag = "1")]
        pub(super) type_url: String,
        #[prost(message, optional, tag = "2")]
        pub(super) value: Option<M>,
    }

    impl<M: Message + Default + Debug> Any<M> {
        pub(super) fn new(type_url: &str, value: M) -> Self {
            Self { type_url: type_url.to_owned(), value: Some(value) }
        }
    }

    #[derive(Clone, Message)]
    pub(super) struct DiscoveryResponse {
        #[prost(string, tag = "1")]
        pub(super) version_info: String,
        #[prost(message, repeated, tag = "2")]
        pub(super) resources: Vec<Any<TypedExtensionConfig>>,
        #[prost(string, tag = "4")]
        pub(super) type_url: String,
    }

    #[derive(Clone, Message)]
    pub(super) struct TypedExtensionConfig {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(message, optional, tag = "2")]
        pub(super) typed_config: Option<Any<Wasm>>,
    }

    /// The configuration of the HTTP filter, and that of the network filter.
    #[derive(Clone, Message)]
    pub(super) struct Wasm {
        #[prost(message, optional, tag = "1")]
        pub(super) config: Option<PluginConfig>,
    }

    #[derive(Clone, Message)]
    pub(super) struct PluginConfig {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) root_id: String,
        #[prost(message, optional, tag = "3")]
        pub(super) vm_config: Option<VmConfig>,
        #[prost(message, optional, tag = "4")]
        pub(super) configuration: Option<Any<BytesValue>>,
        #[prost(int32, tag = "7")]
        pub(super) failure_policy: i32,
    }

    #[derive(Clone, Message)]
    pub(super) struct VmConfig {
        #[prost(string, tag = "1")]
        pub(super) vm_id: String,
        #[prost(string, tag = "2")]
        pub(super) runtime: String,
        #[prost(message, optional, tag = "3")]
        pub(super) code: Option<AsyncDataSource>,
        #[prost(bool, tag = "6")]
        pub(super) nack_on_code_cache_miss: bool,
    }

    #[derive(Clone, Message)]
    pub(super) struct AsyncDataSource {
        #[prost(message, optional, tag = "1")]
        pub(super) local: Option<DataSource>,
        #[prost(message, optional, tag = "2")]
        pub(super) remote: Option<RemoteDataSource>,
    }

    #[derive(Clone, Message)]
    pub(super) struct RemoteDataSource {
        #[prost(message, optional, tag = "1")]
        pub(super) http_uri: Option<HttpUri>,
        #[prost(string, tag = "2")]
        pub(super) sha256: String,
    }

    #[derive(Clone, Message)]
    pub(super) struct HttpUri {
        #[prost(string, tag = "1")]
        pub(super) uri: String,
        #[prost(string, tag = "2")]
        pub(super) cluster: String,
        #[prost(message, optional, tag = "3")]
        pub(super) timeout: Option<Duration>,
    }

    #[derive(Clone, Message)]
    pub(super) struct Duration {
        #[prost(int64, tag = "1")]
        pub(super) seconds: i64,
    }

    #[derive(Clone, Message)]
    pub(super) struct DataSource {
        #[prost(oneof = "Specifier", tags = "1, 2")]
        pub(super) specifier: Option<Specifier>,
    }

    #[derive(Clone, Oneof)]
    pub(super) enum Specifier {
        #[prost(string, tag = "1")]
        Filename(String),
        #[prost(bytes = "bytes", tag = "2")]
        InlineBytes(Bytes),
    }

    #[derive(Clone, Message)]
    pub(super) struct BytesValue {
        #[prost(bytes = "bytes", tag = "1")]
        pub(super) value: Bytes,
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3 as core;
    use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm as HttpWasm;
    use envoy_types::pb::envoy::extensions::filters::network::wasm::v3::Wasm as NetworkWasm;
    use envoy_types::pb::envoy::extensions::wasm::v3 as wasm;
    use envoy_types::pb::envoy::service::discovery::v3 as discovery;
    use envoy_types::pb::google::protobuf::{Any, Duration};

    use super::*;

    fn resource(kind: FilterKind, code: Code<'static>, failure_policy: FailurePolicy) -> Resource<'static> {
        let snapshot = Bytes::from_static(b"snapshot");
        Resource { kind, name: "my.list", version: "7", shipment: "a b", code, snapshot, failure_policy }
    }

    /// The same resource by the whole Envoy API.
    fn by_the_whole_api(kind: FilterKind, code: Code<'_>, failure_policy: wasm::FailurePolicy) -> Vec<u8> {
        let local = |specifier| {
            let local = core::DataSource { specifier: Some(specifier), ..Default::default() };
            core::async_data_source::Specifier::Local(local)
        };
        let specifier = match code {
            Code::Inline(module) => local(core::data_source::Specifier::InlineBytes(module.to_vec())),
            Code::File(path) => local(core::data_source::Specifier::Filename(path.to_owned())),
            Code::Remote { uri, cluster, sha256 } => {
                let http_uri = core::HttpUri {
                    uri: uri.to_owned(),
                    timeout: Some(Duration { seconds: 10, nanos: 0 }),
                    http_upstream_type: Some(core::http_uri::HttpUpstreamType::Cluster(cluster.to_owned())),
                };
                core::async_data_source::Specifier::Remote(core::RemoteDataSource {
                    http_uri: Some(http_uri),
                    sha256: sha256.to_owned(),
                    ..Default::default()
                })
            }
        };
        let vm = wasm::VmConfig {
            vm_id: "my.list".to_owned(),
            runtime: "envoy.wasm.runtime.v8".to_owned(),
            code: Some(core::AsyncDataSource { specifier: Some(specifier) }),
            nack_on_code_cache_miss: matches!(code, Code::Remote { .. }),
            ..Default::default()
        };
        let plugin = wasm::PluginConfig {
            name: "my.list".to_owned(),
            root_id: format!("{} a b", format!("{kind:?}").to_lowercase()),
            vm: Some(wasm::plugin_config::Vm::VmConfig(vm)),
            configuration: Some(Any { type_url: BYTES_VALUE.to_owned(), value: b"snapshot".to_vec().encode_to_vec() }),
            failure_policy: failure_policy.into(),
            ..Default::default()
        };
        let value = match kind {
            FilterKind::Http | FilterKind::Base => HttpWasm { config: Some(plugin) }.encode_to_vec(),
            FilterKind::Network => NetworkWasm { config: Some(plugin) }.encode_to_vec(),
        };
        let filter = Any { type_url: kind.type_url().to_owned(), value };
        let name = match kind {
            FilterKind::Http => "my.list",
            FilterKind::Network => "my.list-network",
            FilterKind::Base => "my.list-base",
        };
        let extension = core::TypedExtensionConfig { name: name.to_owned(), typed_config: Some(filter) };
        discovery::DiscoveryResponse {
            version_info: "7".to_owned(),
            type_url: EXTENSION_CONFIG.to_owned(),
            resources: vec![Any { type_url: EXTENSION_CONFIG.to_owned(), value: extension.encode_to_vec() }],
            ..Default::default()
        }
        .encode_to_vec()
    }

    /// What is in a resource, by the whole Envoy API: the names of the resource and the type, and the plugin.
    fn plugin_of(any: &Any) -> (String, String, wasm::PluginConfig) {
        assert_eq!(any.type_url, EXTENSION_CONFIG);
        let core::TypedExtensionConfig { name, typed_config } = Message::decode(&any.value[..]).unwrap();
        let Any { type_url, value } = typed_config.unwrap();
        // The two filters have the same fields.
        (name, type_url, HttpWasm::decode(&value[..]).unwrap().config.unwrap())
    }

    fn plugin_of_response(response: &Bytes) -> (String, String, wasm::PluginConfig) {
        plugin_of(&discovery::DiscoveryResponse::decode(response.clone()).unwrap().resources[0])
    }

    #[test]
    fn large_parts_are_shared() {
        let module: &[u8] = Box::leak(vec![7; 10_000].into_boxed_slice());
        let snapshot = Bytes::from(vec![8; 10_000]);
        let resource = Resource {
            snapshot: snapshot.clone(),
            code: Code::Inline(module),
            ..resource(FilterKind::Http, Code::Inline(b""), FailurePolicy::Reload)
        };
        let parts = resource.encode_parts();
        let pointers: Vec<_> = parts.iter().map(|part| part.as_ptr()).collect();
        assert!(pointers.contains(&module.as_ptr()) && pointers.contains(&snapshot.as_ptr()) && parts.len() == 4);
    }

    #[test]
    fn a_resource_is_what_the_whole_envoy_api_encodes_and_can_be_read_back() {
        let remote = Code::Remote { uri: "http://edgefold/module.wasm", cluster: "edgefold", sha256: "0f" };
        let codes = [Code::Inline(b"module"), Code::File("/folder/module.wasm"), remote];
        let kinds = [FilterKind::Http, FilterKind::Network, FilterKind::Base];
        for (kind, code) in kinds.into_iter().flat_map(|kind| codes.map(|code| (kind, code))) {
            for (policy, theirs) in [
                (FailurePolicy::Reload, wasm::FailurePolicy::FailReload),
                (FailurePolicy::Closed, wasm::FailurePolicy::FailClosed),
                (FailurePolicy::Open, wasm::FailurePolicy::FailOpen),
            ] {
                let response = Bytes::from(resource(kind, code, policy).encode());
                assert_eq!(response, by_the_whole_api(kind, code, theirs));
                let parts = resource(kind, code, policy).encode_parts().concat();
                assert_eq!(plugin_of(&Any::decode(&parts[..]).unwrap()), plugin_of_response(&response));
                assert_eq!(snapshot_in(&response).as_deref(), Some(&b"snapshot"[..]));
                assert_eq!(shipment_in(&response).as_deref(), Some("a b"));
            }
        }
        let other = Bytes::from_static(b"EDGEFOLD");
        assert_eq!((snapshot_in(&other), shipment_in(&other)), (None, None));
    }
}
