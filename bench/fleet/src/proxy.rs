//! A simulated proxy: one delta stream over ADS, which accepts whatever comes.

#![allow(clippy::print_stderr, reason = "a benchmark says what went wrong")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

const TYPE: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
const PATH: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// How long a proxy waits before it connects again.
const AGAIN: Duration = Duration::from_millis(500);
/// As large as Envoy's: a base is not held up by it.
const WINDOW: u32 = 256 << 20;

#[derive(Clone, Message)]
struct Node {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    cluster: String,
}

#[derive(Clone, Message)]
struct Request {
    #[prost(message, optional, tag = "1")]
    node: Option<Node>,
    #[prost(string, tag = "2")]
    type_url: String,
    #[prost(string, repeated, tag = "3")]
    subscribe: Vec<String>,
    #[prost(map = "string, string", tag = "5")]
    initial_resource_versions: HashMap<String, String>,
    #[prost(string, tag = "6")]
    nonce: String,
}

#[derive(Clone, Message)]
struct Response {
    #[prost(message, repeated, tag = "2")]
    resources: Vec<Resource>,
    #[prost(string, tag = "5")]
    nonce: String,
}

/// A resource whose content is not copied: thousands of proxies share this machine with what is measured.
#[derive(Clone, Message)]
struct Resource {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(bytes = "bytes", tag = "2")]
    resource: Bytes,
    #[prost(string, tag = "3")]
    name: String,
}

/// Something that came to a proxy.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) proxy: usize,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) bytes: usize,
    pub(crate) at: Instant,
}

/// Connects a proxy that has these versions of before. It ends when its handle is aborted.
pub(crate) fn connect(
    proxy: usize,
    server: SocketAddr,
    has: HashMap<String, String>,
    arrivals: UnboundedSender<Arrival>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        // As Envoy does, after a while.
        while let Err(error) = stream(proxy, server, has.clone(), &arrivals).await {
            eprintln!("proxy {proxy} connects again: {error}");
            tokio::time::sleep(AGAIN).await;
        }
    })
}

/// Takes whatever comes until the stream ends.
async fn stream(
    proxy: usize,
    server: SocketAddr,
    has: HashMap<String, String>,
    arrivals: &UnboundedSender<Arrival>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let endpoint = Endpoint::from_shared(format!("http://{server}"))?;
    let endpoint = endpoint.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let mut client = Grpc::new(endpoint.connect().await?).max_decoding_message_size(WINDOW as usize);
    client.ready().await?;
    let (requests, stream) = mpsc::unbounded_channel();
    let node = Some(Node { id: format!("proxy-{proxy}"), cluster: "bench".to_owned() });
    let subscribe = vec!["edgefold".to_owned(), "edgefold-base".to_owned()];
    let type_url = TYPE.to_owned();
    let first = Request { node, type_url, subscribe, initial_resource_versions: has, ..Request::default() };
    requests.send(first)?;
    let request = tonic::Request::new(UnboundedReceiverStream::new(stream));
    let codec = ProstCodec::<Request, Response>::default();
    let response = client.streaming(request, PathAndQuery::from_static(PATH), codec).await?;
    let mut responses = response.into_inner();
    while let Some(response) = responses.message().await? {
        let at = Instant::now();
        let (type_url, nonce) = (TYPE.to_owned(), response.nonce);
        let _accepted = requests.send(Request { type_url, nonce, ..Request::default() });
        for Resource { version, resource, name } in response.resources {
            let _noted = arrivals.send(Arrival { proxy, name, version, bytes: resource.len(), at });
        }
    }
    Ok(())
}

/// All proxies, and what they have.
pub(crate) struct Proxies {
    server: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
    pub(crate) has: Arc<Vec<HashMap<String, String>>>,
}

impl Proxies {
    pub(crate) fn new(server: SocketAddr, count: usize) -> Self {
        Self { server, tasks: Vec::new(), has: Arc::new(vec![HashMap::new(); count]) }
    }

    /// Connects all of them at once. They name what they have.
    pub(crate) fn connect(&mut self, arrivals: &UnboundedSender<Arrival>) {
        let has = Arc::clone(&self.has);
        self.tasks = has
            .iter()
            .enumerate()
            .map(|(proxy, has)| connect(proxy, self.server, has.clone(), arrivals.clone()))
            .collect();
    }

    /// Cuts all of them off.
    pub(crate) fn cut(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
    }

    pub(crate) fn note(&mut self, arrival: &Arrival) {
        let has = Arc::get_mut(&mut self.has).expect("nobody else looks");
        has[arrival.proxy].insert(arrival.name.clone(), arrival.version.clone());
    }
}
