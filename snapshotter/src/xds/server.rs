//! The gRPC server: where streams come from.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{self, HeaderMap, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};
use edgefold_snapshot::Fingerprint;
use prost::Message;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codec::Codec;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;
use tracing::{error, info, warn};

use super::peers;
use super::proto::{DeltaDiscoveryRequest, DiscoveryRequest};
use super::session::{Protocol, Request};
use super::stream::{self, Shared};
use crate::net::{self, Acceptor, Limits, Peer, TlsError, TlsFiles};

/// How many connections there may be at a time. All proxies may come from one address.
const MOST_CONNECTIONS: Limits = Limits { all: 20_000, from_one_address: 20_000 };
/// How many streams one connection may have at a time. An Envoy has one for each resource, and one while it fetches the module.
const MOST_STREAMS: u32 = 32;
/// The most bytes of the headers of a request.
const MOST_HEADER_BYTES: u32 = 16 << 10;
/// The most bytes of a request. An Envoy that uses ADS for everything names all its resources.
const MOST_REQUEST_BYTES: usize = 1 << 20;
/// How often a connection is asked whether it is alive, and how long it may take to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// Lets this process have as many open files as its hard limit says: each connection is one.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        warn!("cannot raise the limit of open files: {error}");
    }
    if let Some(most) = limit.maximum.filter(|most| *most < 2 * MOST_CONNECTIONS.all as u64) {
        info!("up to {most} open files, so fewer than {most} proxies: raise the hard limit (LimitNOFILE) for more");
    }
}

/// Starts to serve on this Tokio runtime. Returns what becomes true when, after a stop, the last connection is closed.
pub(super) fn start(
    listener: TcpListener,
    tls: Option<TlsFiles>,
    shared: Arc<Shared>,
    (module_path, module): (String, &'static [u8]),
) -> Result<watch::Receiver<bool>, TlsError> {
    raise_file_limit();
    let acceptor = tls.map(|files| Acceptor::start(files, &["h2", "http/1.1"])).transpose()?;
    let connections = net::accept(listener, acceptor, MOST_CONNECTIONS);
    let for_base = Arc::clone(&shared);
    let ecds = "/envoy.service.extension.v3.ExtensionConfigDiscoveryService";
    let ads = "/envoy.service.discovery.v3.AggregatedDiscoveryService";
    let app = Router::new()
        .route(&format!("{ecds}/StreamExtensionConfigs"), on::<DiscoveryRequest>(&shared, Protocol::Sotw, false))
        .route(&format!("{ecds}/DeltaExtensionConfigs"), on::<DeltaDiscoveryRequest>(&shared, Protocol::Delta, false))
        .route(&format!("{ads}/StreamAggregatedResources"), on::<DiscoveryRequest>(&shared, Protocol::Sotw, true))
        .route(&format!("{ads}/DeltaAggregatedResources"), on::<DeltaDiscoveryRequest>(&shared, Protocol::Delta, true))
        .route(&module_path, get(move || async move { ([(CONTENT_TYPE, "application/wasm")], module) }))
        .route(peers::PATH, get(move |headers: HeaderMap| async move { base(&for_base, &headers) }))
        .fallback(|| async { Status::unimplemented("this server has ECDS and ADS only").into_http::<Body>() });
    let (ended, stopped) = watch::channel(false);
    let mut stop = shared.stop.clone();
    tokio::spawn(async move {
        let outcome = Server::builder()
            // For the other replicas.
            .accept_http1(true)
            .max_concurrent_streams(MOST_STREAMS)
            .http2_max_header_list_size(MOST_HEADER_BYTES)
            .http2_keepalive_interval(Some(KEEPALIVE.0))
            .http2_keepalive_timeout(Some(KEEPALIVE.1))
            .serve_with_incoming_shutdown(
                Routes::from(app),
                ReceiverStream::new(connections).map(Ok::<_, Infallible>),
                async move { drop(stop.wait_for(|stop| *stop).await) },
            )
            .await;
        if let Err(error) = outcome {
            error!("the xDS server has ended: {error}");
        }
        ended.send_replace(true);
    });
    Ok(stopped)
}

/// The base that is shipped now, for a replica that does not have it.
fn base(shared: &Shared, headers: &HeaderMap) -> Response<axum::body::Body> {
    let base = shared.resources.borrow().as_ref().and_then(|resources| resources.base());
    let Some((etag, base)) = base.and_then(|base| Some((peers::etag(Fingerprint::of(&base)?), base))) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    ([(ETAG, etag)], base).into_response()
}

/// Streams of requests `M`. The path of a gRPC method is all that its generated code adds to this, beside a copy of each resource for each
/// stream.
fn on<M>(shared: &Arc<Shared>, protocol: Protocol, is_aggregated: bool) -> MethodRouter
where
    M: Message + Default + Into<Request> + 'static,
{
    let shared = Arc::clone(shared);
    post(move |request: http::Request<axum::body::Body>| {
        let shared = Arc::clone(&shared);
        async move {
            let Some(peer) = request.extensions().get::<Peer>().cloned() else {
                return Status::internal("the address of the client is not known").into_http::<Body>();
            };
            if !request.headers().get(CONTENT_TYPE).is_some_and(|of| of.as_bytes().starts_with(b"application/grpc")) {
                return Status::invalid_argument("the content type must be application/grpc").into_http();
            }
            let decoder = ProstCodec::<M, M>::default().decoder();
            let requests = Streaming::new_request(decoder, request.into_body(), None, Some(MOST_REQUEST_BYTES));
            let messages = stream::start(shared, protocol, is_aggregated, peer, requests);
            let mut response = Response::new(Body::new(messages));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            response
        }
    })
}
