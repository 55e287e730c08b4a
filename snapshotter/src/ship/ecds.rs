//! The ECDS resource: how Envoy gets the filter and its snapshot.

use std::fmt::Debug;

use bytes::Bytes;
use edgefold_snapshot::{Named, SnapshotFile};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use self::api::{
    Any, AsyncDataSource, BytesValue, DataSource, DiscoveryResponse, DynamicModuleConfig, DynamicModuleFilter, HttpUri,
    PluginConfig, RawAny, RawExtension, RawResponse, RemoteDataSource, Specifier, TypedExtensionConfig, VmConfig, Wasm,
};

/// The type of each resource.
pub const EXTENSION_CONFIG: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
const HTTP_WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const NETWORK_WASM: &str = "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm";
const HTTP_NATIVE: &str = "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter";
const NETWORK_NATIVE: &str =
    "type.googleapis.com/envoy.extensions.filters.network.dynamic_modules.v3.DynamicModuleNetworkFilter";
/// The types of the HTTP filter, by what runs it.
pub const HTTP_FILTERS: [&str; 2] = [HTTP_WASM, HTTP_NATIVE];
/// The types of the network filter.
pub const NETWORK_FILTERS: [&str; 2] = [NETWORK_WASM, NETWORK_NATIVE];
const BYTES_VALUE: &str = "type.googleapis.com/google.protobuf.BytesValue";
const STRING_VALUE: &str = "type.googleapis.com/google.protobuf.StringValue";

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

    /// The type of the filter's configuration, which Envoy's configuration names in `type_urls`.
    pub fn type_url(self, host: FilterHost) -> &'static str {
        match (self, host) {
            (Self::Http | Self::Base, FilterHost::Wasm(_)) => HTTP_WASM,
            (Self::Network, FilterHost::Wasm(_)) => NETWORK_WASM,
            (Self::Http | Self::Base, FilterHost::Native) => HTTP_NATIVE,
            (Self::Network, FilterHost::Native) => NETWORK_NATIVE,
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

/// What runs the filter in Envoy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FilterHost {
    /// Envoy's wasm VM.
    Wasm(FailurePolicy),
    /// Envoy itself, which loads the filter as a dynamic module. There is no VM that could crash.
    Native,
}

/// How Envoy gets the module.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Code<'a> {
    /// In the resource. Envoy takes no dynamic module that way.
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

/// How the filter gets its snapshot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Payload {
    /// In the resource. Envoy unwraps it, so the filter gets exactly these bytes.
    Inline(Bytes),
    /// From a file of its own, which the dynamic module reads itself: Envoy keeps several copies of each resource.
    File(SnapshotFile),
}

/// How long Envoy may take to fetch the module.
const FETCH_TIMEOUT_SECONDS: i64 = 10;

/// What the metrics of a dynamic module begin with. They have the names of the wasm filter's, so dashboards and `stats_tags` fit both.
const METRICS_NAMESPACE: &str = "wasmcustom";

/// What Envoy does if the wasm filter crashes: `envoy.extensions.wasm.v3.FailurePolicy`.
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
    /// What runs the filter.
    pub host: FilterHost,
    /// The filter's module. All kinds of a filter have the same, so that they share a VM and its tables.
    pub code: Code<'a>,
    /// The snapshot. Only a dynamic module can have it in a file.
    pub snapshot: Payload,
}

impl Resource<'_> {
    /// The encoded `DiscoveryResponse` with this resource. The snapshot and the module are copied once, into the result.
    pub fn encode(&self) -> Vec<u8> {
        match self.host {
            FilterHost::Wasm(failure_policy) => self.response(self.wasm(failure_policy)),
            FilterHost::Native => self.response(self.native()),
        }
    }

    fn response<M: Message + Default + Debug>(&self, filter: M) -> Vec<u8> {
        DiscoveryResponse {
            version_info: self.version.to_owned(),
            resources: vec![Any::new(EXTENSION_CONFIG, self.extension(Some(Any::new(self.type_url(), filter))))],
            type_url: EXTENSION_CONFIG.to_owned(),
        }
        .encode_to_vec()
    }

    /// The encoded `google.protobuf.Any` with this resource, in parts: it has no version. The snapshot and the module are not copied.
    pub fn encode_parts(&self) -> Vec<Bytes> {
        // Fields may come in any order, so those that are in parts come last.
        let Any { type_url, value } = self.configuration();
        let value = value.map(|content| content.value).unwrap_or_default();
        let configuration = any_in_parts(&type_url, field(1, vec![value]));
        let filter = match self.host {
            FilterHost::Wasm(failure_policy) => {
                let mut plugin = self.wasm(failure_policy).config.unwrap_or_default();
                let mut vm = plugin.vm_config.take().unwrap_or_default();
                plugin.configuration = None;
                let code = match (self.code, vm.code.take()) {
                    (Code::Inline(module), _) => field(1, field(2, vec![Bytes::from_static(module)])),
                    (_, code) => vec![code.unwrap_or_default().encode_to_vec().into()],
                };
                let vm = [vec![vm.encode_to_vec().into()], field(3, code)].concat();
                field(1, [vec![plugin.encode_to_vec().into()], field(3, vm), field(4, configuration)].concat())
            }
            FilterHost::Native => {
                let filter = DynamicModuleFilter { filter_config: None, ..self.native() };
                [vec![filter.encode_to_vec().into()], field(3, configuration)].concat()
            }
        };
        let extension = self.extension::<Wasm>(None).encode_to_vec().into();
        let filter = any_in_parts(self.type_url(), filter);
        joined(any_in_parts(EXTENSION_CONFIG, [vec![extension], field(2, filter)].concat()))
    }

    fn type_url(&self) -> &'static str {
        self.kind.type_url(self.host)
    }

    fn extension<M: Message + Default + Debug>(&self, typed_config: Option<Any<M>>) -> TypedExtensionConfig<M> {
        TypedExtensionConfig { name: self.kind.resource_name(self.name), typed_config }
    }

    /// Tells kinds and shipments apart.
    fn id(&self) -> String {
        format!("{} {}", self.kind.word(), self.shipment)
    }

    fn wasm(&self, failure_policy: FailurePolicy) -> Wasm {
        let code = self.data_source();
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
            root_id: self.id(),
            vm_config: Some(vm),
            configuration: Some(self.configuration()),
            failure_policy: failure_policy as i32,
        };
        Wasm { config: Some(plugin) }
    }

    fn native(&self) -> DynamicModuleFilter {
        let module = self.data_source();
        let dynamic_module_config = DynamicModuleConfig {
            // Envoy finds the module by `module`, and only without that by its name.
            name: self.id(),
            // It has state of the process, and a worker may still be in it.
            do_not_close: true,
            metrics_namespace: METRICS_NAMESPACE.to_owned(),
            nack_on_cache_miss: module.remote.is_some(),
            module: Some(module),
        };
        DynamicModuleFilter {
            dynamic_module_config: Some(dynamic_module_config),
            // As above: not that of the resource.
            filter_name: self.name.to_owned(),
            filter_config: Some(self.configuration()),
        }
    }

    fn configuration(&self) -> Any<BytesValue> {
        match &self.snapshot {
            Payload::Inline(snapshot) => Any::new(BYTES_VALUE, BytesValue { value: snapshot.clone() }),
            // Text, so that whoever asks Envoy for its configuration can read it. It is encoded like bytes.
            Payload::File(file) => Any::new(STRING_VALUE, BytesValue { value: file.to_configuration().into() }),
        }
    }

    fn data_source(&self) -> AsyncDataSource {
        let local = |specifier| AsyncDataSource {
            local: Some(DataSource { specifier: Some(specifier) }),
            ..AsyncDataSource::default()
        };
        match self.code {
            Code::Inline(module) => local(Specifier::InlineBytes(Bytes::from_static(module))),
            Code::File(path) => local(Specifier::Filename(path.to_owned())),
            Code::Remote { uri, cluster, sha256 } => {
                let timeout = Some(api::Duration { seconds: FETCH_TIMEOUT_SECONDS });
                let http_uri = Some(HttpUri { uri: uri.to_owned(), cluster: cluster.to_owned(), timeout });
                let remote = Some(RemoteDataSource { http_uri, sha256: sha256.to_owned() });
                AsyncDataSource { remote, ..AsyncDataSource::default() }
            }
        }
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

/// The snapshot in an encoded `DiscoveryResponse`; `None` if the bytes are something else, or it is in a file of its own.
pub fn snapshot_in(response: &Bytes) -> Option<Bytes> {
    match payload_in(response)? {
        Payload::Inline(snapshot) => Some(snapshot),
        Payload::File(_) => None,
    }
}

/// What an encoded `DiscoveryResponse` has for the filter; `None` if the bytes are something else.
pub fn payload_in(response: &Bytes) -> Option<Payload> {
    let configuration = filter_in(response)?.1?.value?.value;
    let file = if is_native(response)? { SnapshotFile::named_in(&configuration).ok()? } else { None };
    Some(file.map_or(Payload::Inline(configuration), Payload::File))
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
    filter_in(response)?.0.split_once(' ').map(|(_kind, shipment)| shipment.to_owned())
}

/// Whether an encoded `DiscoveryResponse` has a dynamic module; `None` if the bytes are something else.
pub fn is_native(response: &Bytes) -> Option<bool> {
    match raw_filter_in(response)?.type_url.as_str() {
        HTTP_WASM | NETWORK_WASM => Some(false),
        HTTP_NATIVE | NETWORK_NATIVE => Some(true),
        _ => None,
    }
}

/// The [id](Resource::id) and the configuration of a filter for whichever host.
fn filter_in(response: &Bytes) -> Option<(String, Option<Any<BytesValue>>)> {
    let filter = raw_filter_in(response)?.value;
    if is_native(response)? {
        let filter = DynamicModuleFilter::decode(filter).ok()?;
        Some((filter.dynamic_module_config?.name, filter.filter_config))
    } else {
        let plugin = Wasm::decode(filter).ok()?.config?;
        Some((plugin.root_id, plugin.configuration))
    }
}

/// The path of the module that an encoded `DiscoveryResponse` names, as Envoy sees it; `None` if it names no file.
pub fn module_in(response: &Bytes) -> Option<String> {
    let filter = raw_filter_in(response)?.value;
    let module = if is_native(response)? {
        DynamicModuleFilter::decode(filter).ok()?.dynamic_module_config?.module
    } else {
        Wasm::decode(filter).ok()?.config?.vm_config?.code
    };
    match module?.local?.specifier? {
        Specifier::Filename(path) => Some(path),
        Specifier::InlineBytes(_) => None,
    }
}

fn raw_filter_in(response: &Bytes) -> Option<RawAny> {
    let resource = RawResponse::decode(response.clone()).ok()?.resources.into_iter().next()?;
    RawExtension::decode(resource.value).ok()?.typed_config
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

    /// An [`Any`] whose content has any type.
    #[derive(Clone, Message)]
    pub(super) struct RawAny {
        #[prost(string, tag = "1")]
        pub(super) type_url: String,
        #[prost(bytes = "bytes", tag = "2")]
        pub(super) value: Bytes,
    }

    /// A [`DiscoveryResponse`] with resources of any type.
    #[derive(Clone, Message)]
    pub(super) struct RawResponse {
        #[prost(message, repeated, tag = "2")]
        pub(super) resources: Vec<RawAny>,
    }

    /// A [`TypedExtensionConfig`] of any type.
    #[derive(Clone, Message)]
    pub(super) struct RawExtension {
        #[prost(message, optional, tag = "2")]
        pub(super) typed_config: Option<RawAny>,
    }

    #[derive(Clone, Message)]
    pub(super) struct DiscoveryResponse<M: Message + Default + Debug> {
        #[prost(string, tag = "1")]
        pub(super) version_info: String,
        #[prost(message, repeated, tag = "2")]
        pub(super) resources: Vec<Any<TypedExtensionConfig<M>>>,
        #[prost(string, tag = "4")]
        pub(super) type_url: String,
    }

    #[derive(Clone, Message)]
    pub(super) struct TypedExtensionConfig<M: Message + Default + Debug> {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(message, optional, tag = "2")]
        pub(super) typed_config: Option<Any<M>>,
    }

    /// The configuration of the HTTP filter, and that of the network filter, as dynamic modules.
    #[derive(Clone, Message)]
    pub(super) struct DynamicModuleFilter {
        #[prost(message, optional, tag = "1")]
        pub(super) dynamic_module_config: Option<DynamicModuleConfig>,
        #[prost(string, tag = "2")]
        pub(super) filter_name: String,
        #[prost(message, optional, tag = "3")]
        pub(super) filter_config: Option<Any<BytesValue>>,
    }

    #[derive(Clone, Message)]
    pub(super) struct DynamicModuleConfig {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(bool, tag = "3")]
        pub(super) do_not_close: bool,
        #[prost(string, tag = "5")]
        pub(super) metrics_namespace: String,
        #[prost(message, optional, tag = "6")]
        pub(super) module: Option<AsyncDataSource>,
        #[prost(bool, tag = "7")]
        pub(super) nack_on_cache_miss: bool,
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
    use bytes::Bytes;
    use edgefold_snapshot::{Fingerprint, SnapshotFile};
    use envoy_types::pb::envoy::config::core::v3 as core;
    use envoy_types::pb::envoy::extensions::dynamic_modules::v3::DynamicModuleConfig;
    use envoy_types::pb::envoy::extensions::filters::http::dynamic_modules::v3::DynamicModuleFilter as HttpNative;
    use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm as HttpWasm;
    use envoy_types::pb::envoy::extensions::filters::network::dynamic_modules::v3::DynamicModuleNetworkFilter as NetworkNative;
    use envoy_types::pb::envoy::extensions::filters::network::wasm::v3::Wasm as NetworkWasm;
    use envoy_types::pb::envoy::extensions::wasm::v3 as wasm;
    use envoy_types::pb::envoy::service::discovery::v3 as discovery;
    use envoy_types::pb::google::protobuf::{Any, Duration};
    use prost::Message;

    use super::{
        BYTES_VALUE, Code, EXTENSION_CONFIG, FailurePolicy, FilterHost, FilterKind, HTTP_NATIVE, HTTP_WASM,
        NETWORK_NATIVE, NETWORK_WASM, Payload, Resource, STRING_VALUE, is_native, module_in, payload_in, shipment_in,
        snapshot_in,
    };

    fn resource(kind: FilterKind, code: Code<'static>, host: FilterHost) -> Resource<'static> {
        let snapshot = Payload::Inline(Bytes::from_static(b"snapshot"));
        Resource { kind, name: "my.list", version: "7", shipment: "a b", host, code, snapshot }
    }

    /// Where the module is, by the whole Envoy API.
    fn module_by_the_whole_api(code: Code<'_>) -> core::AsyncDataSource {
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
        core::AsyncDataSource { specifier: Some(specifier) }
    }

    /// The snapshot, by the whole Envoy API.
    fn configuration_by_the_whole_api() -> Any {
        Any { type_url: BYTES_VALUE.to_owned(), value: b"snapshot".to_vec().encode_to_vec() }
    }

    /// The wasm filter, by the whole Envoy API.
    fn wasm_by_the_whole_api(kind: FilterKind, code: Code<'_>, failure_policy: wasm::FailurePolicy) -> Any {
        let vm = wasm::VmConfig {
            vm_id: "my.list".to_owned(),
            runtime: "envoy.wasm.runtime.v8".to_owned(),
            code: Some(module_by_the_whole_api(code)),
            nack_on_code_cache_miss: matches!(code, Code::Remote { .. }),
            ..Default::default()
        };
        let plugin = wasm::PluginConfig {
            name: "my.list".to_owned(),
            root_id: format!("{} a b", format!("{kind:?}").to_lowercase()),
            vm: Some(wasm::plugin_config::Vm::VmConfig(vm)),
            configuration: Some(configuration_by_the_whole_api()),
            failure_policy: failure_policy.into(),
            ..Default::default()
        };
        match kind {
            FilterKind::Http | FilterKind::Base => any(HTTP_WASM, &HttpWasm { config: Some(plugin) }),
            FilterKind::Network => any(NETWORK_WASM, &NetworkWasm { config: Some(plugin) }),
        }
    }

    /// The dynamic module, by the whole Envoy API.
    fn native_by_the_whole_api(kind: FilterKind, code: Code<'_>) -> Any {
        let config = DynamicModuleConfig {
            name: format!("{} a b", format!("{kind:?}").to_lowercase()),
            do_not_close: true,
            metrics_namespace: "wasmcustom".to_owned(),
            module: Some(module_by_the_whole_api(code)),
            nack_on_cache_miss: matches!(code, Code::Remote { .. }),
            ..Default::default()
        };
        let (dynamic_module_config, filter_name) = (Some(config), "my.list".to_owned());
        let filter_config = Some(configuration_by_the_whole_api());
        let terminal_filter = false;
        match kind {
            FilterKind::Http | FilterKind::Base => {
                any(HTTP_NATIVE, &HttpNative { dynamic_module_config, filter_name, filter_config, terminal_filter })
            }
            FilterKind::Network => any(
                NETWORK_NATIVE,
                &NetworkNative { dynamic_module_config, filter_name, filter_config, terminal_filter },
            ),
        }
    }

    fn any(type_url: &str, message: &impl Message) -> Any {
        Any { type_url: type_url.to_owned(), value: message.encode_to_vec() }
    }

    /// The resource with this filter, by the whole Envoy API.
    fn by_the_whole_api(kind: FilterKind, filter: Any) -> Vec<u8> {
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

    /// What is in a resource, by the whole Envoy API: the names of the resource and the type, and the filter.
    fn filter_of(any: &Any) -> (String, String, String) {
        assert_eq!(any.type_url, EXTENSION_CONFIG);
        let core::TypedExtensionConfig { name, typed_config } = Message::decode(&any.value[..]).unwrap();
        let Any { type_url, value } = typed_config.unwrap();
        // The HTTP filter and the network filter have the same fields.
        let filter = if type_url.ends_with(".Wasm") {
            format!("{:?}", HttpWasm::decode(&value[..]).unwrap())
        } else {
            format!("{:?}", HttpNative::decode(&value[..]).unwrap())
        };
        (name, type_url, filter)
    }

    fn filter_of_response(response: &Bytes) -> (String, String, String) {
        filter_of(&discovery::DiscoveryResponse::decode(response.clone()).unwrap().resources[0])
    }

    #[test]
    fn large_parts_are_shared() {
        let module: &[u8] = Box::leak(vec![7; 10_000].into_boxed_slice());
        let snapshot = Bytes::from(vec![8; 10_000]);
        let resource = Resource {
            snapshot: Payload::Inline(snapshot.clone()),
            code: Code::Inline(module),
            ..resource(FilterKind::Http, Code::Inline(b""), FilterHost::Wasm(FailurePolicy::Reload))
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
            let by_policy = [
                (FailurePolicy::Reload, wasm::FailurePolicy::FailReload),
                (FailurePolicy::Closed, wasm::FailurePolicy::FailClosed),
                (FailurePolicy::Open, wasm::FailurePolicy::FailOpen),
            ];
            let by_policy =
                by_policy.map(|(policy, theirs)| (FilterHost::Wasm(policy), wasm_by_the_whole_api(kind, code, theirs)));
            for (host, theirs) in
                by_policy.into_iter().chain([(FilterHost::Native, native_by_the_whole_api(kind, code))])
            {
                let response = Bytes::from(resource(kind, code, host).encode());
                assert_eq!(response, by_the_whole_api(kind, theirs));
                let parts = resource(kind, code, host).encode_parts().concat();
                assert_eq!(filter_of(&Any::decode(&parts[..]).unwrap()), filter_of_response(&response));
                assert_eq!(snapshot_in(&response).as_deref(), Some(&b"snapshot"[..]));
                assert_eq!(shipment_in(&response).as_deref(), Some("a b"));
                assert_eq!(is_native(&response), Some(host == FilterHost::Native));
                let path = if let Code::File(path) = code { Some(path) } else { None };
                assert_eq!(module_in(&response).as_deref(), path);
            }
        }
        let other = Bytes::from_static(b"EDGEFOLD");
        assert_eq!(payload_in(&other), None);
        assert_eq!((snapshot_in(&other), shipment_in(&other)), (None, None));
    }
    #[test]
    fn a_resource_for_the_dynamic_module_may_name_the_file_with_the_snapshot() {
        let fingerprint = Fingerprint::from_text("b0cc6707ae634e46", 300).unwrap();
        let file = SnapshotFile { path: "/folder/list.snapshot".to_owned(), fingerprint };
        let text = r#"{"snapshot_file":"/folder/list.snapshot","fingerprint":"b0cc6707ae634e46","bytes":300}"#;
        let code = Code::File("/folder/module.so");
        let resource =
            Resource { snapshot: Payload::File(file.clone()), ..resource(FilterKind::Base, code, FilterHost::Native) };
        let mut theirs = HttpNative::decode(&native_by_the_whole_api(FilterKind::Base, code).value[..]).unwrap();
        theirs.filter_config = Some(Any { type_url: STRING_VALUE.to_owned(), value: text.to_owned().encode_to_vec() });
        let response = Bytes::from(resource.encode());
        assert_eq!(response, by_the_whole_api(FilterKind::Base, any(HTTP_NATIVE, &theirs)));
        assert_eq!(
            filter_of(&Any::decode(&resource.encode_parts().concat()[..]).unwrap()),
            filter_of_response(&response)
        );
        assert_eq!((payload_in(&response), snapshot_in(&response)), (Some(Payload::File(file)), None));
        assert_eq!(shipment_in(&response).as_deref(), Some("a b"));
    }
}
