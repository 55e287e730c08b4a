//! A resource whose snapshot is in JSON, not bytes: what Istio passes on, and what people write into Envoy's configuration.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_modules::v3::DynamicModuleFilter;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::google::protobuf::{Any, Struct, Value, value};
use prost::Message;

/// In which message the JSON is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Json {
    /// A `Struct`, as in Envoy's own configuration.
    Struct,
    /// A text, to which Istio turns what a `WasmPlugin` has under `pluginConfig`.
    Text,
}

/// The resource in `shipped` with this snapshot in JSON in place of its own.
pub(crate) fn with_json(shipped: &[u8], json: Json, snapshot: &[u8]) -> Vec<u8> {
    let base64 = STANDARD.encode(snapshot);
    let (kind, value) = match json {
        Json::Struct => {
            let text = Value { kind: Some(value::Kind::StringValue(base64)) };
            ("Struct", Struct { fields: [("snapshot".to_owned(), text)].into() }.encode_to_vec())
        }
        Json::Text => ("StringValue", format!("{{\"snapshot\":\"{base64}\"}}").encode_to_vec()),
    };
    let configuration = Any { type_url: format!("type.googleapis.com/google.protobuf.{kind}"), value };
    let mut response = DiscoveryResponse::decode(shipped).unwrap();
    let mut extension = TypedExtensionConfig::decode(&*response.resources[0].value).unwrap();
    let filter = extension.typed_config.as_mut().unwrap();
    if filter.type_url.ends_with(".Wasm") {
        let mut wasm = Wasm::decode(&*filter.value).unwrap();
        wasm.config.as_mut().unwrap().configuration = Some(configuration);
        filter.value = wasm.encode_to_vec();
    } else {
        let mut native = DynamicModuleFilter::decode(&*filter.value).unwrap();
        native.filter_config = Some(configuration);
        filter.value = native.encode_to_vec();
    }
    response.resources[0].value = extension.encode_to_vec();
    response.encode_to_vec()
}
