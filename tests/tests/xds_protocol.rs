//! The xDS protocol, as <https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol> describes it, by a client that is generated from
//! Envoy's API and has nothing of ours.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

mod commands;

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::time::Duration;

use edgefold_tests::{Edgefold, Serve, eventually};
use envoy_types::pb::envoy::config::core::v3::{Node, TypedExtensionConfig};
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_client::ExtensionConfigDiscoveryServiceClient;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::rpc::Status as RpcStatus;
use prost::Message;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

const TYPE: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
const TIMEOUT: Duration = Duration::from_secs(30);

/// The four variants of the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Variant {
    SotwEcds,
    SotwAds,
    DeltaEcds,
    DeltaAds,
}

const ALL: [Variant; 4] = [Variant::SotwEcds, Variant::SotwAds, Variant::DeltaEcds, Variant::DeltaAds];
const DELTA: [Variant; 2] = [Variant::DeltaEcds, Variant::DeltaAds];
const SOTW: [Variant; 2] = [Variant::SotwEcds, Variant::SotwAds];

/// A response with the one resource in it.
#[derive(Clone, Debug, PartialEq)]
struct Got {
    nonce: String,
    version: String,
    name: String,
    resource: Any,
}

impl Got {
    fn new(nonce: String, version: String, resource: Any) -> Self {
        assert_eq!(resource.type_url, TYPE);
        let name = TypedExtensionConfig::decode(&resource.value[..]).unwrap().name;
        Self { nonce, version, name, resource }
    }
}

enum Wire {
    Sotw(UnboundedSender<DiscoveryRequest>, Streaming<DiscoveryResponse>),
    Delta(UnboundedSender<DeltaDiscoveryRequest>, Streaming<DeltaDiscoveryResponse>),
}

/// A stream of a client.
struct Client {
    runtime: Runtime,
    wire: Wire,
    /// All names, as each request of the state of the world has them.
    names: Vec<String>,
    nonces: BTreeSet<String>,
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn node() -> Option<Node> {
    Some(Node { id: "edge-1".to_owned(), cluster: "edge".to_owned(), ..Node::default() })
}

fn error(message: &str) -> Option<RpcStatus> {
    Some(RpcStatus { code: 13, message: message.to_owned(), details: Vec::new() })
}

impl Client {
    /// Opens a stream, and subscribes to `names` with the first request. It has these versions of before.
    fn connect(serve: &Serve, variant: Variant, names: &[&str], has: &[(&str, &str)]) -> Self {
        let mut client = Self::silent(serve, variant);
        client.names = texts(names);
        match &client.wire {
            Wire::Sotw(requests, _) => {
                let version_info = has.first().map_or(String::new(), |(_, version)| (*version).to_owned());
                let (node, resource_names, type_url) = (node(), client.names.clone(), TYPE.to_owned());
                let request = DiscoveryRequest { version_info, node, resource_names, type_url, ..Default::default() };
                requests.send(request).unwrap();
            }
            Wire::Delta(requests, _) => {
                let initial = has.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned()));
                requests
                    .send(DeltaDiscoveryRequest {
                        node: node(),
                        type_url: TYPE.to_owned(),
                        resource_names_subscribe: client.names.clone(),
                        initial_resource_versions: initial.collect::<HashMap<_, _>>(),
                        ..Default::default()
                    })
                    .unwrap();
            }
        }
        client
    }

    /// Opens a stream, and sends nothing.
    fn silent(serve: &Serve, variant: Variant) -> Self {
        let runtime = Runtime::new().unwrap();
        let uri = format!("http://{}", serve.xds_address());
        let wire = runtime.block_on(async {
            let channel = Channel::from_shared(uri).unwrap().connect().await.unwrap();
            let most = 64 << 20;
            let ads = || AggregatedDiscoveryServiceClient::new(channel.clone()).max_decoding_message_size(most);
            let ecds = || ExtensionConfigDiscoveryServiceClient::new(channel.clone()).max_decoding_message_size(most);
            match variant {
                Variant::SotwEcds | Variant::SotwAds => {
                    let (sender, receiver) = mpsc::unbounded_channel();
                    let requests = UnboundedReceiverStream::new(receiver);
                    let responses = if variant == Variant::SotwAds {
                        ads().stream_aggregated_resources(requests).await
                    } else {
                        ecds().stream_extension_configs(requests).await
                    };
                    Wire::Sotw(sender, responses.unwrap().into_inner())
                }
                Variant::DeltaEcds | Variant::DeltaAds => {
                    let (sender, receiver) = mpsc::unbounded_channel();
                    let requests = UnboundedReceiverStream::new(receiver);
                    let responses = if variant == Variant::DeltaAds {
                        ads().delta_aggregated_resources(requests).await
                    } else {
                        ecds().delta_extension_configs(requests).await
                    };
                    Wire::Delta(sender, responses.unwrap().into_inner())
                }
            }
        });
        Self { runtime, wire, names: Vec::new(), nonces: BTreeSet::new() }
    }

    /// The next response, or why the stream has ended.
    fn try_next(&mut self) -> Result<Got, Status> {
        fn in_time<T>(runtime: &Runtime, future: impl Future<Output = T>) -> T {
            runtime.block_on(async { tokio::time::timeout(TIMEOUT, future).await.expect("a response in time") })
        }
        let ended = || Status::ok("the stream has ended");
        let got = match &mut self.wire {
            Wire::Sotw(_, responses) => {
                let response = in_time(&self.runtime, responses.message())?.ok_or_else(ended)?;
                assert_eq!((response.type_url.as_str(), response.resources.len()), (TYPE, 1));
                Got::new(response.nonce, response.version_info, response.resources[0].clone())
            }
            Wire::Delta(_, responses) => {
                let response = in_time(&self.runtime, responses.message())?.ok_or_else(ended)?;
                assert_eq!((response.type_url.as_str(), response.resources.len()), (TYPE, 1));
                assert!(response.removed_resources.is_empty() && response.removed_resource_names.is_empty());
                let resource = response.resources[0].clone();
                let got = Got::new(response.nonce, resource.version, resource.resource.unwrap());
                assert_eq!(got.name, resource.name);
                got
            }
        };
        assert!(self.nonces.insert(got.nonce.clone()), "the nonce {} came twice", got.nonce);
        Ok(got)
    }

    #[track_caller]
    fn next(&mut self) -> Got {
        self.try_next().unwrap()
    }

    /// Answers a response: accepts it, or refuses it for a reason. The state of the world names the version `has`.
    fn answer_as(&self, nonce: &str, has: &str, refused: Option<&str>) {
        let (type_url, response_nonce) = (TYPE.to_owned(), nonce.to_owned());
        let error_detail = refused.and_then(error);
        match &self.wire {
            Wire::Sotw(requests, _) => {
                let (version_info, resource_names) = (has.to_owned(), self.names.clone());
                // The server may have ended the stream.
                let _sent = requests.send(DiscoveryRequest {
                    version_info,
                    resource_names,
                    type_url,
                    response_nonce,
                    error_detail,
                    ..Default::default()
                });
            }
            Wire::Delta(requests, _) => {
                let request = DeltaDiscoveryRequest { type_url, response_nonce, error_detail, ..Default::default() };
                let _sent = requests.send(request);
            }
        }
    }

    fn ack(&self, got: &Got) {
        self.answer_as(&got.nonce, &got.version, None);
    }

    /// Changes the subscription, in a request that answers the response `nonce`.
    fn change(&mut self, nonce: &str, subscribe: &[&str], unsubscribe: &[&str]) {
        self.names.retain(|name| !unsubscribe.contains(&name.as_str()));
        self.names.extend(texts(subscribe));
        match &self.wire {
            Wire::Sotw(..) => self.answer_as(nonce, "", None),
            Wire::Delta(requests, _) => requests
                .send(DeltaDiscoveryRequest {
                    type_url: TYPE.to_owned(),
                    resource_names_subscribe: texts(subscribe),
                    resource_names_unsubscribe: texts(unsubscribe),
                    response_nonce: nonce.to_owned(),
                    ..Default::default()
                })
                .unwrap(),
        }
    }

    /// Takes and accepts so many resources, and returns them by name.
    fn take(&mut self, count: usize) -> HashMap<String, Got> {
        let mut all = HashMap::new();
        for _ in 0..count {
            let got = self.next();
            self.ack(&got);
            all.insert(got.name.clone(), got);
        }
        assert_eq!(all.len(), count, "{:?}", all.keys());
        all
    }
}

/// A log with one block, and what serves it.
fn world() -> (Edgefold, Serve) {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.1"]);
    // With a module that has to be fetched, more is sent: a test of its own has that.
    let serve = edgefold.serve_xds(&INLINE);
    (edgefold, serve)
}

const INLINE: [&str; 2] = ["--xds-module", "inline"];

/// The offset in a version.
fn offset(got: &Got) -> u64 {
    let digits = got.version.find(|c: char| !c.is_ascii_digit()).unwrap();
    got.version[..digits].parse().unwrap()
}

#[test]
fn a_resource_comes_at_once_and_then_whenever_it_changes() {
    for variant in ALL {
        let (edgefold, serve) = world();
        let mut client = Client::connect(&serve, variant, &["edgefold"], &[]);
        let first = client.next();
        assert_eq!((first.name.as_str(), offset(&first)), ("edgefold", 1), "{variant:?}");
        client.ack(&first);
        for address in ["10.0.0.3", "10.0.0.5"] {
            edgefold.block(&[address]);
            let next = client.next();
            assert!(offset(&next) > offset(&first) && next.resource != first.resource, "{variant:?}");
            client.ack(&next);
        }
        // A command that changes nothing sends nothing: what comes next is the change after it.
        edgefold.block(&["10.0.0.5"]).block(&["10.0.0.7"]);
        assert_eq!(offset(&client.next()), 5, "{variant:?}");
    }
}

#[test]
fn only_the_error_tells_a_nack_and_what_was_refused_comes_again_with_other_bytes() {
    for variant in ALL {
        let (_edgefold, serve) = world();
        let mut client = Client::connect(&serve, variant, &["edgefold"], &[]);
        let first = client.next();
        // It names the version that it refuses, which makes no difference.
        client.answer_as(&first.nonce, &first.version, Some("I do not like it"));
        let again = client.next();
        assert_eq!(again.version, first.version, "{variant:?}");
        assert_ne!(again.resource, first.resource, "{variant:?}: Envoy skips bytes that it has just refused");
        let proxies = serve.admin("/fleet")["proxies"].clone();
        let nack = &proxies[0]["resources"][0]["nack"];
        assert_eq!((&nack["message"], &nack["times"]), (&"I do not like it".into(), &1.into()), "{variant:?}");
        assert_eq!(proxies[0]["enforces_below"], serde_json::Value::Null, "{variant:?}");
        // It names no version, which makes no difference.
        client.answer_as(&again.nonce, "", None);
        eventually("the ack", || (serve.admin("/fleet")["proxies"][0]["enforces_below"] == 1).then_some(()));
        assert!(serve.admin("/fleet")["proxies"][0]["resources"][0]["nack"].is_null());
        assert_eq!(serve.metric("edgefold_xds_nacks_total"), Some(1));
    }
}

#[test]
fn a_refused_resource_is_replaced_by_a_newer_one_at_once() {
    for variant in ALL {
        let (edgefold, serve) = world();
        let mut client = Client::connect(&serve, variant, &["edgefold"], &[]);
        let first = client.next();
        client.answer_as(&first.nonce, "", Some("no"));
        edgefold.block(&["10.0.0.3"]);
        // The same again, or the newer one, whichever came first.
        let mut next = client.next();
        if offset(&next) == 1 {
            client.ack(&next);
            next = client.next();
        }
        assert_eq!(offset(&next), 2, "{variant:?}");
    }
}

#[test]
fn a_stale_nonce_answers_nothing_but_changes_the_subscription() {
    for variant in ALL {
        let (edgefold, serve) = world();
        let mut client = Client::connect(&serve, variant, &["edgefold"], &[]);
        let first = client.next();
        client.ack(&first);
        edgefold.block(&["10.0.0.3"]);
        let second = client.next();
        // The nonce of the first response, with an error that is not about the second one.
        client.answer_as(&first.nonce, "", Some("stale"));
        client.change(&first.nonce, &["edgefold-network"], &[]);
        client.ack(&second);
        let other = client.next();
        assert_eq!((other.name.as_str(), offset(&other)), ("edgefold-network", 2), "{variant:?}");
        assert_eq!(serve.metric("edgefold_xds_nacks_total"), Some(0), "{variant:?}");
    }
}

#[test]
fn several_resources_on_a_stream_come_one_in_a_response() {
    for variant in ALL {
        let (edgefold, serve) = world();
        let names = ["edgefold", "edgefold-base", "edgefold-network"];
        let mut client = Client::connect(&serve, variant, &names, &[]);
        let all = client.take(3);
        assert!(names.iter().all(|name| all.contains_key(*name)), "{variant:?}");
        // What carries the base has not changed.
        edgefold.block(&["10.0.0.3"]);
        let changed = client.take(2);
        assert!(changed.contains_key("edgefold") && changed.contains_key("edgefold-network"), "{variant:?}");
        client.change("", &[], &["edgefold"]);
        edgefold.block(&["10.0.0.5"]);
        assert_eq!(client.next().name, "edgefold-network", "{variant:?}");
    }
}

#[test]
fn no_names_at_first_and_an_asterisk_mean_all_resources() {
    for variant in ALL {
        let (edgefold, serve) = world();
        let mut client = Client::connect(&serve, variant, &[], &[]);
        client.take(3);
        drop(client);
        let mut client = Client::connect(&serve, variant, &["*"], &[]);
        client.take(3);
        // One by name, and then no longer all of them.
        client.change("", &["edgefold"], &["*"]);
        edgefold.block(&["10.0.0.3"]);
        let next = client.next();
        assert_eq!(next.name, "edgefold", "{variant:?}");
        client.ack(&next);
        edgefold.block(&["10.0.0.5"]);
        assert_eq!(client.next().name, "edgefold", "{variant:?}");
    }
}

#[test]
fn once_a_resource_was_named_no_names_mean_none() {
    for variant in ALL {
        let (edgefold, serve) = world();
        let mut client = Client::connect(&serve, variant, &["edgefold"], &[]);
        client.take(1);
        client.change("", &[], &["edgefold"]);
        edgefold.block(&["10.0.0.3"]);
        client.change("", &["edgefold-base"], &[]);
        assert_eq!(client.next().name, "edgefold-base", "{variant:?}");
    }
}

#[test]
fn whoever_subscribes_again_gets_it_again() {
    for variant in ALL {
        let (_edgefold, serve) = world();
        let mut client = Client::connect(&serve, variant, &["edgefold"], &[]);
        let first = client.take(1)["edgefold"].clone();
        if DELTA.contains(&variant) {
            client.change("", &["edgefold"], &[]);
            let again = client.next();
            assert_eq!(again.version, first.version, "{variant:?}");
            client.ack(&again);
        }
        client.change("", &[], &["edgefold"]);
        client.change("", &["edgefold"], &[]);
        assert_eq!(client.next().version, first.version, "{variant:?}");
    }
}

#[test]
fn an_unknown_name_gets_no_answer_and_is_shown() {
    for variant in ALL {
        let (_edgefold, serve) = world();
        let mut client = Client::connect(&serve, variant, &["edgefodl", "edgefold"], &[]);
        assert_eq!(client.take(1).keys().next().unwrap(), "edgefold", "{variant:?}");
        eventually("the name", || {
            (serve.admin("/fleet")["proxies"][0]["unknown_resources"][0] == "edgefodl").then_some(())
        });
        client.change("", &["edgefold-base"], &["edgefodl"]);
        assert_eq!(client.next().name, "edgefold-base", "{variant:?}: nothing was removed");
    }
}

#[test]
fn the_node_is_needed_once() {
    for variant in ALL {
        let (_edgefold, serve) = world();
        // All requests of this client after the first have none.
        let mut client = Client::connect(&serve, variant, &["edgefold"], &[]);
        client.take(1);
        let mut client = Client::silent(&serve, variant);
        client.change("", &["edgefold"], &[]);
        let status = client.try_next().unwrap_err();
        assert!(status.code() == Code::InvalidArgument && status.message().contains("node"), "{variant:?}: {status}");
    }
}

#[test]
fn a_client_that_has_the_version_does_not_get_it_again_on_any_replica() {
    for variant in ALL {
        let (edgefold, serve) = world();
        let replica = edgefold.replica().serve_xds(&INLINE);
        let mut client = Client::connect(&serve, variant, &["edgefold"], &[]);
        let first = client.take(1)["edgefold"].clone();
        for serve in [&serve, &replica] {
            let has = [("edgefold", first.version.as_str())];
            let mut client = Client::connect(serve, variant, &["edgefold"], &has);
            // A proxy that has it enforces it.
            eventually("its version", || (serve.admin("/wait?next_offset=1")["enforced"] == true).then_some(()));
            client.change("", &["edgefold-base"], &[]);
            assert_eq!(client.next().name, "edgefold-base", "{variant:?}: not edgefold");
        }
        // One that has another version does.
        let mut client = Client::connect(&replica, variant, &["edgefold"], &[("edgefold", "0#77")]);
        assert_eq!(client.next().version, first.version, "{variant:?}");
    }
}

#[test]
fn other_settings_are_another_version() {
    let (edgefold, serve) = world();
    let version = |serve: &Serve| Client::connect(serve, Variant::DeltaEcds, &["edgefold"], &[]).next().version;
    let (before, again) = (version(&serve), version(&serve));
    assert_eq!(before, again);
    for args in [["--mode", "shadow"], ["--failure-policy", "fail-closed"], ["--xds-module", "/filter.wasm"]] {
        let other = version(&edgefold.replica().serve_xds(&args));
        assert_ne!(before, other, "{args:?}: it must get to the proxies");
    }
}

/// With several resources, the one version of the state of the world does not say which of them a client has.
#[test]
fn the_state_of_the_world_of_several_resources_is_sent_again() {
    for variant in SOTW {
        let (_edgefold, serve) = world();
        let names = ["edgefold", "edgefold-base"];
        let mut client = Client::connect(&serve, variant, &names, &[]);
        let version = client.take(2)["edgefold"].version.clone();
        let mut client = Client::connect(&serve, variant, &names, &[("edgefold", &version)]);
        client.take(2);
    }
}

#[test]
fn a_slow_client_skips_to_the_newest_and_holds_up_nobody() {
    for variant in ALL {
        let (edgefold, serve) = world();
        let mut slow = Client::connect(&serve, variant, &["edgefold"], &[]);
        let mut quick = Client::connect(&serve, variant, &["edgefold"], &[]);
        let first = slow.next();
        quick.take(1);
        for host in 0..5 {
            edgefold.block(&[&format!("192.0.2.{}", 2 * host)]);
            quick.take(1);
        }
        slow.ack(&first);
        assert_eq!(offset(&slow.next()), 6, "{variant:?}");
    }
}

#[test]
fn a_client_that_never_reads_holds_up_nobody() {
    for variant in ALL {
        let edgefold = Edgefold::sqlite();
        // Their table is larger than what HTTP/2 lets pass before it is read.
        let singles =
            (0..100_000).map(|place| format!("BLACKLIST {}", std::net::Ipv4Addr::from((20 << 24) + 3 * place)));
        commands::append(&edgefold, singles);
        let serve = edgefold.serve_xds(&INLINE);
        let never: Vec<Client> = (0..20).map(|_| Client::connect(&serve, variant, &["edgefold-base"], &[])).collect();
        eventually("their streams", || (serve.metric("edgefold_xds_streams")? == 20).then_some(()));
        let mut client = Client::connect(&serve, variant, &["edgefold", "edgefold-base"], &[]);
        client.take(2);
        edgefold.block(&["10.0.0.3"]);
        assert_eq!(client.next().name, "edgefold", "{variant:?}");
        drop(never);
    }
}

#[test]
fn other_types_get_no_answer_over_ads_and_an_error_over_ecds() {
    let other = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let ask = |client: &Client, type_url: &str| match &client.wire {
        Wire::Sotw(requests, _) => requests
            .send(DiscoveryRequest { node: node(), type_url: type_url.to_owned(), ..Default::default() })
            .unwrap(),
        Wire::Delta(requests, _) => requests
            .send(DeltaDiscoveryRequest { node: node(), type_url: type_url.to_owned(), ..Default::default() })
            .unwrap(),
    };
    for variant in ALL {
        let (_edgefold, serve) = world();
        let mut client = Client::silent(&serve, variant);
        ask(&client, other);
        if matches!(variant, Variant::SotwAds | Variant::DeltaAds) {
            // No clusters at all would take them all from Envoy.
            client.change("", &["edgefold"], &[]);
            assert_eq!(client.next().name, "edgefold", "{variant:?}");
            let mut client = Client::silent(&serve, variant);
            ask(&client, "");
            assert_eq!(client.try_next().unwrap_err().code(), Code::InvalidArgument, "{variant:?}");
        } else {
            assert_eq!(client.try_next().unwrap_err().code(), Code::InvalidArgument, "{variant:?}");
            let mut client = Client::silent(&serve, variant);
            ask(&client, "");
            client.take(3);
        }
    }
}

#[test]
fn a_client_that_floods_is_ended_and_nobody_else() {
    for variant in ALL {
        let (edgefold, serve) = world();
        let mut flood = Client::connect(&serve, variant, &["edgefold"], &[]);
        let mut client = Client::connect(&serve, variant, &["edgefold"], &[]);
        client.take(1);
        for _ in 0..2_000 {
            flood.answer_as("", "", None);
        }
        let status = std::iter::from_fn(|| Some(flood.try_next())).find_map(Result::err).unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted, "{variant:?}");
        edgefold.block(&["10.0.0.3"]);
        client.take(1);
    }
}

#[test]
fn a_request_that_is_too_large_or_garbage_ends_its_stream_only() {
    let (edgefold, serve) = world();
    let mut client = Client::connect(&serve, Variant::DeltaEcds, &["edgefold"], &[]);
    client.take(1);
    for variant in ALL {
        let mut large = Client::silent(&serve, variant);
        let name = "x".repeat(2 << 20);
        large.change("", &[&name], &[]);
        assert!(large.try_next().is_err(), "{variant:?}");
    }
    let http = reqwest::blocking::Client::builder().http2_prior_knowledge().timeout(TIMEOUT).build().unwrap();
    let path = "envoy.service.extension.v3.ExtensionConfigDiscoveryService/DeltaExtensionConfigs";
    let url = format!("http://{}/{path}", serve.xds_address());
    for body in [&b"\x00\x00\x00\x00\x04garb"[..], b"\x00\xff\xff\xff\xff", b"\x07\x00\x00\x00\x01x", b"\x00"] {
        let request = http.post(&url).header("content-type", "application/grpc").body(body);
        let answer = request.send().unwrap();
        assert_eq!(answer.status(), 200, "gRPC puts its status into the trailers");
        let _text = answer.text();
    }
    assert_eq!(http.post(&url).body("x").send().unwrap().headers()["grpc-status"], "3");
    assert_eq!(http.post(format!("{url}x")).body("x").send().unwrap().headers()["grpc-status"], "12");
    edgefold.block(&["10.0.0.3"]);
    client.take(1);
}

#[test]
fn a_stop_ends_the_streams_so_that_clients_go_elsewhere() {
    for variant in ALL {
        let (_edgefold, serve) = world();
        let mut client = Client::connect(&serve, variant, &["edgefold"], &[]);
        client.take(1);
        assert!(serve.stop().success());
        assert_eq!(client.try_next().unwrap_err().code(), Code::Unavailable, "{variant:?}");
    }
}

/// The path of the module in a resource; `None` if the module is not to be fetched.
fn module_path(got: &Got) -> Option<String> {
    let text = String::from_utf8_lossy(&got.resource.value).into_owned();
    let start = text.find("/edgefold-filter-")?;
    Some(text[start..start + text[start..].find(".wasm")? + 5].to_owned())
}

#[test]
fn the_module_comes_with_the_first_resource_and_then_from_the_same_server() {
    for variant in ALL {
        let edgefold = Edgefold::sqlite().block(&["10.0.0.1"]);
        let serve = edgefold.serve_xds(&[]);
        let mut client = Client::connect(&serve, variant, &["edgefold"], &[]);
        let first = client.next();
        assert_eq!(module_path(&first), None, "{variant:?}: a proxy with nothing must not have to refuse it");
        client.ack(&first);
        // The same again, so that it fetches the module before the next change. It refuses that once.
        let cold = client.next();
        assert_eq!(cold.version, first.version, "{variant:?}");
        let path = module_path(&cold).unwrap();
        client.answer_as(&cold.nonce, &first.version, Some("Unable to create Wasm plugin edgefold"));
        let warm = client.next();
        assert_eq!((&warm.version, module_path(&warm)), (&first.version, Some(path.clone())), "{variant:?}");
        assert_ne!(warm.resource, cold.resource, "{variant:?}");
        client.ack(&warm);
        edgefold.block(&["10.0.0.3"]);
        let next = client.next();
        assert!(offset(&next) == 2 && module_path(&next).is_some(), "{variant:?}");
        assert_eq!(serve.metric("edgefold_xds_nacks_total"), Some(0), "{variant:?}: that was expected");

        let http = reqwest::blocking::Client::builder().http2_prior_knowledge().build().unwrap();
        let module = http.get(format!("http://{}{path}", serve.xds_address())).send().unwrap().bytes().unwrap();
        let file = edgefold.path("filter.wasm");
        edgefold.run(&["module", "-o", &file]);
        assert!(module == std::fs::read(file).unwrap());
    }
}

#[test]
fn a_proxy_that_cannot_fetch_the_module_gets_it_inside_the_resource() {
    for variant in ALL {
        let edgefold = Edgefold::sqlite().block(&["10.0.0.1"]);
        let serve = edgefold.serve_xds(&[]);
        let mut client = Client::connect(&serve, variant, &["edgefold"], &[("edgefold", "0#77")]);
        let refuse = |client: &mut Client| {
            let got = client.next();
            client.answer_as(&got.nonce, "0#77", Some("no"));
            module_path(&got).is_some()
        };
        let has_to_fetch: Vec<bool> = (0..4).map(|_| refuse(&mut client)).collect();
        assert_eq!(has_to_fetch, [true; 4], "{variant:?}");
        let inline = client.next();
        assert_eq!(module_path(&inline), None, "{variant:?}");
        client.ack(&inline);
        // Found by a review: then the other form came at once, and so on for ever. What comes next is the next change.
        edgefold.block(&["10.0.0.3"]);
        let next = client.next();
        assert_eq!((offset(&next), module_path(&next)), (2, None), "{variant:?}");
    }
}

/// Found by a review: a replica with the same shipment, or a stream before the refusal was known, sent the same bytes.
#[test]
fn no_bytes_ever_come_twice() {
    let (edgefold, serve) = world();
    let replica = edgefold.replica().serve_xds(&INLINE);
    let mut seen = Vec::new();
    for serve in [&serve, &replica, &serve] {
        let got = Client::connect(serve, Variant::DeltaEcds, &["edgefold"], &[]).next();
        assert!(!seen.contains(&got.resource));
        seen.push(got.resource);
    }
}

/// Found by a review: such a proxy has no filter, and counted as one that enforces everything.
#[test]
fn a_proxy_that_asks_by_a_wrong_name_does_not_enforce() {
    for variant in ALL {
        let (_edgefold, serve) = world();
        let mut good = Client::connect(&serve, variant, &["edgefold"], &[]);
        good.take(1);
        eventually("the good one", || (serve.admin("/wait?next_offset=1")["enforced"] == true).then_some(()));
        let _bad = Client::connect(&serve, variant, &["edgefodl"], &[]);
        eventually("both", || (serve.admin("/fleet")["proxies"].as_array()?.len() == 2).then_some(()));
        assert_eq!(serve.admin("/wait?next_offset=1&timeout_ms=100")["enforced"], false, "{variant:?}");
        assert_eq!(serve.metric("edgefold_xds_proxies_behind"), Some(1), "{variant:?}");
    }
}

/// Found by reading: the command line took every resource whose name ends in -base for a base.
#[test]
fn a_filter_may_have_a_name_like_that_of_a_base() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.1"]);
    let serve = edgefold.serve_xds(&[&INLINE[..], &["--name", "my-base"]].concat());
    let mut client = Client::connect(&serve, Variant::DeltaAds, &["my-base", "my-base-base"], &[]);
    client.take(2);
    eventually("its version", || (serve.admin("/wait?next_offset=1")["enforced"] == true).then_some(()));
    let fleet = edgefold.run(&["fleet", "--admin-url", &serve.admin_url()]);
    assert!(fleet.contains("enforces all"), "{fleet}");
}

/// Found by a review: the last of them to connect counted for both.
#[test]
fn two_proxies_with_one_id_are_two() {
    for variant in ALL {
        let (_edgefold, serve) = world();
        let mut silent = Client::connect(&serve, variant, &["edgefold"], &[]);
        silent.next();
        let mut good = Client::connect(&serve, variant, &["edgefold"], &[]);
        good.take(1);
        eventually("both", || (serve.admin("/fleet")["proxies"].as_array()?.len() == 2).then_some(()));
        assert_eq!(serve.admin("/wait?next_offset=1&timeout_ms=100")["enforced"], false, "{variant:?}");
    }
}

#[test]
fn a_connection_on_which_nothing_is_asked_is_closed() {
    use std::io::Read;
    let (_edgefold, serve) = world();
    let mut idle = std::net::TcpStream::connect(serve.xds_address()).unwrap();
    idle.set_read_timeout(Some(Duration::from_secs(180))).unwrap();
    let mut answer = Vec::new();
    // What the server says to begin with, and then the end. A connection that is reset has ended too.
    let ended = idle.read_to_end(&mut answer);
    assert!(ended.is_ok() || ended.unwrap_err().kind() == std::io::ErrorKind::ConnectionReset);
}

/// A proxy that changes its replica does not get a base again.
#[test]
fn replicas_that_know_each_other_ship_the_same_base() {
    let edgefold = Edgefold::sqlite();
    commands::append(&edgefold, commands::singles("BLACKLIST", 0, 3_000));
    let first = edgefold.serve_xds(&INLINE);
    first.wait_until_writer();
    let names = ["edgefold", "edgefold-base"];
    let peer = format!("http://{}", first.xds_address());
    // It starts after something has changed, and would make another base.
    edgefold.block(&["10.0.0.1"]);
    first.wait_until_shipped(3_001);
    let second = edgefold.replica().serve_xds(&[&INLINE[..], &["--xds-peer", &peer]].concat());
    let versions = |serve: &Serve| {
        let all = Client::connect(serve, Variant::DeltaAds, &names, &[]).take(2);
        names.map(|name| all[name].version.clone())
    };
    let before = versions(&first);
    assert_eq!(versions(&second), before);
    // A new base is due on both, and only the writer of the view makes it.
    let next_offset = commands::append(&edgefold, commands::singles("BLACKLIST", 10_000, 3_000));
    for serve in [&first, &second] {
        serve.wait_until_shipped(next_offset);
        serve.wait_for("edgefold_bases_shipped_total", 2);
    }
    let after = versions(&first);
    assert_ne!(after[1], before[1]);
    assert_eq!(versions(&second), after);
    // So nothing comes at the other replica to whoever has it.
    let has = [("edgefold", after[0].as_str()), ("edgefold-base", after[1].as_str())];
    let mut client = Client::connect(&second, Variant::DeltaAds, &names, &has);
    edgefold.block(&["10.0.0.3"]);
    let next = client.next();
    assert_eq!((next.name.as_str(), offset(&next)), ("edgefold", next_offset + 1));
    // A peer that is not there, or is something else, changes nothing.
    for peer in ["http://127.0.0.1:1", &first.admin_url()] {
        let serve = edgefold.replica().serve_xds(&[&INLINE[..], &["--xds-peer", peer]].concat());
        Client::connect(&serve, Variant::DeltaAds, &names, &[]).take(2);
    }
}

/// Found by a review: then nothing more was sent to proxies either, for up to half a minute.
#[test]
fn files_that_cannot_be_written_hold_up_no_proxy() {
    let edgefold = Edgefold::sqlite().block(&["10.0.0.1"]);
    let folder = edgefold.path("files");
    std::fs::create_dir(&folder).unwrap();
    let (file, base) = (format!("{folder}/edgefold.pb"), format!("{folder}/base.pb"));
    let files = ["--ecds-file", &file, "--base-ecds-file", &base];
    let serve = edgefold.serve_xds(&[&INLINE[..], &files].concat());
    let mut client = Client::connect(&serve, Variant::DeltaAds, &["edgefold"], &[]);
    client.take(1);
    std::fs::remove_dir_all(&folder).unwrap();
    serve.wait_for("edgefold_ship_failures_total", 1);
    for next_offset in 2..5 {
        edgefold.block(&[&format!("10.0.0.{}", 2 * next_offset)]);
        assert_eq!(offset(&client.take(1)["edgefold"]), next_offset);
    }
    assert_eq!(serve.admin("/check?ip=10.0.0.8")["verdict"]["action"], "deny");
    std::fs::create_dir(&folder).unwrap();
    eventually("the files", || std::fs::exists(&file).unwrap().then_some(()));
    // A wrong path is still an error at the start.
    let wrong = ["serve", "--xds", "127.0.0.1:0", "--ecds-file", "nowhere/e.pb", "--base-ecds-file", "nowhere/b.pb"];
    edgefold.outcome(&wrong).assert_failed(2, "create it first");
}
