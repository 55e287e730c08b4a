//! A client with a source address of its choice, and a small upstream.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use axum::Router;

/// An HTTP client.
#[derive(Clone, Debug)]
pub struct Client {
    client: reqwest::blocking::Client,
    url: String,
}

impl Client {
    /// A client of `server` that connects from `source`, an address of the loopback range.
    pub fn new(server: SocketAddr, source: IpAddr) -> Self {
        let builder = reqwest::blocking::Client::builder().local_address(source).timeout(Duration::from_secs(20));
        Self { client: builder.build().expect("an HTTP client"), url: format!("http://{server}/") }
    }

    /// A client over the Unix domain socket at `path`.
    pub fn over_socket(path: &Path) -> Self {
        let builder = reqwest::blocking::Client::builder().unix_socket(path).timeout(Duration::from_secs(20));
        Self { client: builder.build().expect("an HTTP client"), url: "http://localhost/".to_owned() }
    }

    /// The status and the body of a GET.
    pub fn get(&self) -> (u16, String) {
        self.send(self.client.get(&self.url))
    }

    /// The status of a GET that came through a proxy from `client`.
    pub fn status_for(&self, client: &str) -> u16 {
        self.send(self.client.get(&self.url).header("x-forwarded-for", client)).0
    }

    /// The body at another path, such as `/stats`; `None` if there was no answer.
    pub fn text(&self, path: &str) -> Option<String> {
        self.client.get(format!("{}{path}", self.url)).send().ok()?.text().ok()
    }

    fn send(&self, request: reqwest::blocking::RequestBuilder) -> (u16, String) {
        let response = request.send().expect("an answer");
        (response.status().as_u16(), response.text().expect("a body"))
    }
}

/// An upstream that answers every request with `hello from upstream`.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Upstream {
    /// Starts it on a free port.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let router = Router::new().fallback(|| async { "hello from upstream\n" });
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { address, _runtime: runtime }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
