//! The filters behind a QUIC listener, in a real Envoy. The client is another Envoy, which takes requests over HTTP/1.1 and sends
//! them over HTTP/3 from an address that the test chooses.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use edgefold_tests::{Answer, Client, Edgefold, Envoy, Host, eventually, for_host, over_both_hosts};
use rcgen::{CertifiedKey, generate_simple_self_signed};

/// The addresses of a client that is blocked from the start, of one that is not, and of one that can [move](Mover).
const BLOCKED: &str = "127.0.0.70";
const FREE: &str = "127.0.0.1";
const MOVING: &str = "127.0.0.2";

/// The name in the server's certificate.
const HOST: &str = "edge.test";

/// An Envoy that serves HTTP/3, and one that sends it requests. Each has one worker, so that what one connection sees is in force
/// for all of them.
struct Http3 {
    server: Envoy,
    mover: Mover,
    client: Client,
    _sender: Envoy,
}

impl Http3 {
    /// Starts both. The filters are lists in YAML.
    fn start(edgefold: &Edgefold, network_filters: &str, http_filters: &str) -> Self {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([HOST.to_owned()]).unwrap();
        let file = |name, pem| {
            let path = edgefold.path(name);
            std::fs::write(&path, pem).unwrap();
            path
        };
        let (certificate, key) = (file("edge.crt", cert.pem()), file("edge.key", signing_key.serialize_pem()));
        let start = |name, configuration: &str| {
            let directory = PathBuf::from(edgefold.path(name));
            std::fs::create_dir(&directory).unwrap();
            Envoy::start_with(&directory, configuration, 1)
        };
        let server = SERVER.replace("NETWORK_FILTERS", network_filters).replace("HTTP_FILTERS", http_filters);
        let server = server.replace("CERTIFICATE", &certificate).replace("KEY", &key);
        let server = server.replace("HTTP_PB", &edgefold.path("edgefold.pb"));
        let server = server.replace("NETWORK_PB", &edgefold.path("edgefold-network.pb"));
        let server = start("server", &for_host(edgefold.host(), &server));
        let mover = Mover::start(server.address(), MOVING);
        let cluster = CLUSTER.replace("CERTIFICATE", &certificate).replace("HOST", HOST);
        let clusters = [(BLOCKED, server.address()), (FREE, server.address()), (MOVING, mover.address())];
        let clusters =
            clusters.map(|(source, to)| cluster.replace("SOURCE", source).replace("PORT", &to.port().to_string()));
        let sender = start("sender", &format!("{SENDER}{}", clusters.concat()));
        Self { server, mover, client: sender.client("127.0.0.1"), _sender: sender }
    }

    /// The answer to a GET over HTTP/3 from `source`. It is 503 if the connection is closed instead.
    fn get(&self, source: &str) -> Answer {
        self.client.get_with(&[("x-source", source)])
    }

    fn status(&self, source: &str) -> u16 {
        self.get(source).status
    }

    /// The number of connections over HTTP/3 so far that the connection manager has seen.
    fn connections(&self) -> String {
        self.server.admin("stats?filter=http.ingress.downstream_cx_http3_total").trim().to_owned()
    }
}

/// Forwards the datagrams of one client to a server from an address that can change, as that of a phone does when it leaves a
/// network. Answers to an earlier address are lost. Its threads end with the test.
struct Mover {
    server: SocketAddr,
    inside: Arc<UdpSocket>,
    outside: Arc<Mutex<Arc<UdpSocket>>>,
}

impl Mover {
    fn start(server: SocketAddr, source: &str) -> Self {
        let inside = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let outside = Arc::new(Mutex::new(outside(source, server)));
        let this = Self { server, inside, outside };
        let (inside, outside) = (Arc::clone(&this.inside), Arc::clone(&this.outside));
        thread::spawn(move || {
            let (_, client) = inside.peek_from(&mut []).unwrap();
            inside.connect(client).unwrap();
            forward(&inside, || Some(Arc::clone(&outside.lock().unwrap())));
        });
        this.forward_answers();
        this
    }

    /// Where the client sends to.
    fn address(&self) -> SocketAddr {
        self.inside.local_addr().unwrap()
    }

    /// From now on, the server sees the client at `source`.
    fn move_to(&self, source: &str) {
        *self.outside.lock().unwrap() = outside(source, self.server);
        self.forward_answers();
    }

    fn forward_answers(&self) {
        let (inside, current) = (Arc::clone(&self.inside), Arc::clone(&self.outside));
        let this = Arc::clone(&current.lock().unwrap());
        thread::spawn(move || {
            forward(&this, || Arc::ptr_eq(&this, &current.lock().unwrap()).then(|| Arc::clone(&inside)));
        });
    }
}

fn outside(source: &str, server: SocketAddr) -> Arc<UdpSocket> {
    let socket = UdpSocket::bind((source.parse::<Ipv4Addr>().unwrap(), 0)).unwrap();
    socket.connect(server).unwrap();
    Arc::new(socket)
}

/// Forwards what arrives at a socket for as long as there is another to send it to.
fn forward(from: &UdpSocket, to: impl Fn() -> Option<Arc<UdpSocket>>) {
    let mut datagram = [0; 65536];
    while let Ok(length) = from.recv(&mut datagram) {
        let Some(to) = to() else { return };
        // A datagram may be lost: QUIC sends it again.
        let _sent = to.send(&datagram[..length]);
    }
}

over_both_hosts! {
    a_blocked_client_is_refused_over_http3_and_changes_reach_open_connections,
    the_address_of_a_quic_connection_can_be_looked_up,
    the_network_filter_refuses_quic_connections_and_never_rechecks_open_ones,
    a_quic_connection_that_moves_is_looked_up_by_the_address_that_opened_it,
}

fn a_blocked_client_is_refused_over_http3_and_changes_reach_open_connections(host: Host) {
    let edgefold = Edgefold::sqlite().with_host(host).block(&["127.0.0.64/26"]);
    let _serve = edgefold.serve(&[]);
    let http3 = Http3::start(&edgefold, "", HTTP_FILTER);
    let refused = http3.get(BLOCKED);
    assert_eq!((refused.status, refused.body.as_str(), http3.status(FREE)), (403, "Forbidden\n", 200));
    http3.server.wait_for_log_line("127.0.0.70 HTTP/3 403 edgefold_denied[default:127.0.0.64-127.0.0.127]\n");
    http3.server.wait_for_log_line("127.0.0.1 HTTP/3 200 direct_response\n");
    edgefold.block(&[FREE]).allow(&[BLOCKED]);
    eventually("both changes", || ((http3.status(FREE), http3.status(BLOCKED)) == (403, 200)).then_some(()));
    http3.server.wait_for_log_line("127.0.0.1 HTTP/3 403 edgefold_denied[default:127.0.0.1]\n");
    assert_eq!(http3.server.metric("no_address", "edgefold"), Some(0));
    assert_eq!(http3.connections(), "http.ingress.downstream_cx_http3_total: 2", "each client still has its first one");
}

fn the_address_of_a_quic_connection_can_be_looked_up(host: Host) {
    let edgefold = Edgefold::sqlite().with_host(host).block(&["127.0.0.64/26"]);
    let _serve = edgefold.serve(&["--client-address", "connection", "--no-address", "deny"]);
    let http3 = Http3::start(&edgefold, SET_STATE, HTTP_FILTER);
    assert_eq!((http3.status(BLOCKED), http3.status(FREE)), (403, 200));
}

/// Envoy calls a network filter when a QUIC connection opens, and never for the bytes that arrive.
fn the_network_filter_refuses_quic_connections_and_never_rechecks_open_ones(host: Host) {
    for policy in ["keep", "recheck"] {
        let edgefold = Edgefold::sqlite().with_host(host).block(&["127.0.0.64/26"]);
        let _serve = edgefold.serve_both(&["--open-connections", policy]);
        let http3 = Http3::start(&edgefold, NETWORK_FILTER, "");
        assert_eq!((http3.status(BLOCKED), http3.status(FREE)), (503, 200), "{policy}");
        assert!(http3.server.metric("denied_connections", "edgefold") >= Some(1));
        edgefold.block(&[FREE]).allow(&[BLOCKED]);
        // The block came first, so it is in force as well.
        eventually("the end of the other block", || (http3.status(BLOCKED) == 200).then_some(()));
        assert_eq!(http3.status(FREE), 200, "{policy}");
    }
}

/// Envoy follows a connection that moves (RFC 9000, section 9), but keeps the address that it was opened from.
fn a_quic_connection_that_moves_is_looked_up_by_the_address_that_opened_it(host: Host) {
    for (client_address, network_filters) in [("envoy", ""), ("connection", SET_STATE)] {
        let edgefold = Edgefold::sqlite().with_host(host).block(&["127.0.0.64/26"]);
        let _serve = edgefold.serve(&["--client-address", client_address]);
        let http3 = Http3::start(&edgefold, network_filters, HTTP_FILTER);
        assert_eq!(http3.status(MOVING), 200);
        http3.mover.move_to(BLOCKED);
        assert_eq!(http3.status(MOVING), 200, "{client_address}");
        edgefold.block(&[MOVING]);
        eventually("the block", || (http3.status(MOVING) == 403).then_some(()));
        http3.server.wait_for_log_line("127.0.0.2 HTTP/3 403 edgefold_denied[default:127.0.0.2]\n");
        assert_eq!(http3.connections(), "http.ingress.downstream_cx_http3_total: 1", "{client_address}");
    }
}

const NETWORK_FILTER: &str = r"
      - name: edgefold-network
        config_discovery:
          config_source: { resource_api_version: V3, path_config_source: { path: NETWORK_PB } }
          type_urls: [ type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm ]";

const SET_STATE: &str = r#"
      - name: envoy.filters.network.set_filter_state
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config
          on_new_connection:
          - object_key: edgefold.connection_address
            factory_key: envoy.string
            format_string:
              text_format_source: { inline_string: "%DOWNSTREAM_REMOTE_ADDRESS%" }"#;

const HTTP_FILTER: &str = r"
          - name: edgefold
            config_discovery:
              config_source: { resource_api_version: V3, path_config_source: { path: HTTP_PB } }
              type_urls: [ type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm ]";

const SERVER: &str = r#"
node: { id: edge-1, cluster: edge }
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }
stats_config:
  stats_tags: [ { tag_name: edgefold_filter, regex: '^wasmcustom\.edgefold_filter\.(([^.]+)\.)' } ]
static_resources:
  listeners:
  - name: ingress
    address: { socket_address: { protocol: UDP, address: 127.0.0.1, port_value: 0 } }
    udp_listener_config: { quic_options: {} }
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.quic
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport
          downstream_tls_context:
            common_tls_context:
              tls_certificates: [ { certificate_chain: { filename: CERTIFICATE }, private_key: { filename: KEY } } ]
      filters: NETWORK_FILTERS
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          codec_type: HTTP3
          http3_protocol_options: {}
          use_remote_address: true
          access_log:
          - name: envoy.access_loggers.stdout
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
              log_format:
                text_format_source:
                  inline_string: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS%\n"
          http_filters: HTTP_FILTERS
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [ { match: { prefix: "/" }, direct_response: { status: 200 } } ]
"#;

/// Takes requests over HTTP/1.1. The header x-source chooses the cluster, and so the address to send from.
const SENDER: &str = r#"
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }
static_resources:
  listeners:
  - name: sender
    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: sender
          http_filters:
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [ { match: { prefix: "/" }, route: { cluster_header: x-source } } ]
  clusters:
"#;

const CLUSTER: &str = r#"
  - name: SOURCE
    upstream_bind_config: { source_address: { address: SOURCE, port_value: 0 } }
    load_assignment:
      cluster_name: SOURCE
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: PORT } } }
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http3_protocol_options: {} }
    transport_socket:
      name: envoy.transport_sockets.quic
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicUpstreamTransport
        upstream_tls_context:
          sni: HOST
          common_tls_context: { validation_context: { trusted_ca: { filename: CERTIFICATE } } }
"#;
