//! The messages of the xDS protocol, with the fields that are used, and as few copies as possible.
//!
//! To compile the whole API takes a minute of a core, and its `Any` would copy a resource for each proxy. Tests play a client that is built on
//! the whole API.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::session::{Names, Protocol, Request};
use crate::ship::ecds::{EXTENSION_CONFIG, field, joined, length};

/// `envoy.config.core.v3.Node`
#[derive(Clone, Eq, Message, PartialEq)]
pub(super) struct Node {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) cluster: String,
}

/// `google.rpc.Status`
#[derive(Clone, Eq, Message, PartialEq)]
pub(super) struct RpcStatus {
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

/// `envoy.service.discovery.v3.DiscoveryRequest`: the state of the world.
#[derive(Clone, Eq, Message, PartialEq)]
pub(super) struct DiscoveryRequest {
    #[prost(string, tag = "1")]
    version_info: String,
    #[prost(message, optional, tag = "2")]
    node: Option<Node>,
    #[prost(string, repeated, tag = "3")]
    resource_names: Vec<String>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    response_nonce: String,
    #[prost(message, optional, tag = "6")]
    error_detail: Option<RpcStatus>,
}

impl From<DiscoveryRequest> for Request {
    fn from(request: DiscoveryRequest) -> Self {
        let names = Names::All { names: request.resource_names, version: request.version_info };
        Self {
            node: request.node.map(|node| (node.id, node.cluster)),
            type_url: request.type_url,
            nonce: request.response_nonce,
            error: request.error_detail.map(|status| status.message),
            names,
        }
    }
}

/// `envoy.service.discovery.v3.DeltaDiscoveryRequest`
#[derive(Clone, Eq, Message, PartialEq)]
pub(super) struct DeltaDiscoveryRequest {
    #[prost(message, optional, tag = "1")]
    node: Option<Node>,
    #[prost(string, tag = "2")]
    type_url: String,
    #[prost(string, repeated, tag = "3")]
    resource_names_subscribe: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    resource_names_unsubscribe: Vec<String>,
    #[prost(map = "string, string", tag = "5")]
    initial_resource_versions: HashMap<String, String>,
    #[prost(string, tag = "6")]
    response_nonce: String,
    #[prost(message, optional, tag = "7")]
    error_detail: Option<RpcStatus>,
}

impl From<DeltaDiscoveryRequest> for Request {
    fn from(request: DeltaDiscoveryRequest) -> Self {
        let names = Names::Changes {
            subscribe: request.resource_names_subscribe,
            unsubscribe: request.resource_names_unsubscribe,
            has: request.initial_resource_versions,
        };
        Self {
            node: request.node.map(|node| (node.id, node.cluster)),
            type_url: request.type_url,
            nonce: request.response_nonce,
            error: request.error_detail.map(|status| status.message),
            names,
        }
    }
}

/// A `DiscoveryResponse` without its resource.
#[derive(Clone, Eq, Message, PartialEq)]
struct DiscoveryResponse {
    #[prost(string, tag = "1")]
    version_info: String,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
}

/// A `DeltaDiscoveryResponse` without its resource.
#[derive(Clone, Eq, Message, PartialEq)]
struct DeltaDiscoveryResponse {
    #[prost(string, tag = "1")]
    system_version_info: String,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
}

/// A `Resource` without what it contains.
#[derive(Clone, Eq, Message, PartialEq)]
struct Resource {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "3")]
    name: String,
}

/// The field of the resource in both responses, and of the `Any` in a `Resource`.
const RESOURCES: u32 = 2;

/// A gRPC message with one resource, in parts. Those of `any`, an encoded `Any`, are shared with other streams where they are large: fields of
/// a message may come in any order, so the resource comes last.
pub(super) fn response(protocol: Protocol, nonce: u64, name: &str, version: &str, any: Vec<Bytes>) -> Vec<Bytes> {
    let (version, type_url, nonce) = (version.to_owned(), EXTENSION_CONFIG.to_owned(), nonce.to_string());
    let (head, resource) = match protocol {
        Protocol::Sotw => (DiscoveryResponse { version_info: version, type_url, nonce }.encode_to_vec(), any),
        Protocol::Delta => {
            let head = DeltaDiscoveryResponse { system_version_info: version.clone(), type_url, nonce };
            let resource: Bytes = Resource { version, name: name.to_owned() }.encode_to_vec().into();
            (head.encode_to_vec(), [vec![resource], field(RESOURCES, any)].concat())
        }
    };
    let message = [vec![head.into()], field(RESOURCES, resource)].concat();
    // The prefix of gRPC: whether it is compressed, and its length.
    let mut prefix = BytesMut::with_capacity(5);
    prefix.put_u8(0);
    prefix.put_u32(u32::try_from(length(&message)).unwrap_or(u32::MAX));
    joined([vec![prefix.freeze()], message].concat())
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3 as discovery;
    use envoy_types::pb::google::protobuf::Any;

    use super::*;

    #[test]
    fn a_response_is_what_the_whole_envoy_api_decodes() {
        let any = Any { type_url: EXTENSION_CONFIG.to_owned(), value: vec![7; 100_000] };
        let encoded = Bytes::from(any.encode_to_vec());
        let body = |protocol| {
            let parts = response(protocol, 3, "my.list", "9", vec![encoded.clone()]);
            assert!(parts.len() == 2 && parts[1].as_ptr() == encoded.as_ptr(), "it is not copied");
            let message = parts.concat();
            let (prefix, message) = message.split_first_chunk::<5>().unwrap();
            assert_eq!((prefix[0], u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize), (0, message.len()));
            message.to_vec()
        };
        let sotw = discovery::DiscoveryResponse::decode(&body(Protocol::Sotw)[..]).unwrap();
        let expected = discovery::DiscoveryResponse {
            version_info: "9".to_owned(),
            resources: vec![any.clone()],
            type_url: EXTENSION_CONFIG.to_owned(),
            nonce: "3".to_owned(),
            ..Default::default()
        };
        assert_eq!(sotw, expected);
        let delta = discovery::DeltaDiscoveryResponse::decode(&body(Protocol::Delta)[..]).unwrap();
        let resource = discovery::Resource {
            name: "my.list".to_owned(),
            version: "9".to_owned(),
            resource: Some(any),
            ..Default::default()
        };
        let expected = discovery::DeltaDiscoveryResponse {
            system_version_info: "9".to_owned(),
            resources: vec![resource],
            type_url: EXTENSION_CONFIG.to_owned(),
            nonce: "3".to_owned(),
            ..Default::default()
        };
        assert_eq!(delta, expected);
    }
}
