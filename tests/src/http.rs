//! An HTTP client that chooses its source address, and a small upstream.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use axum::Router;
use reqwest::blocking::{ClientBuilder, RequestBuilder};

use crate::eventually;

const TIMEOUT: Duration = Duration::from_secs(20);

/// An HTTP client.
#[derive(Clone, Debug)]
pub struct Client {
    client: reqwest::blocking::Client,
    url: String,
}

impl Client {
    /// A client of `server` that connects from `source`, an address of the loopback range.
    pub fn new(server: SocketAddr, source: IpAddr) -> Self {
        Self::build(|builder| builder.local_address(source), &server.to_string())
    }

    /// The URL of the server.
    pub(crate) fn url(&self) -> &str {
        self.url.trim_end_matches('/')
    }

    /// A client that speaks HTTP/2 from the start.
    pub fn http2(server: SocketAddr, source: IpAddr) -> Self {
        Self::build(|builder| builder.local_address(source).http2_prior_knowledge(), &server.to_string())
    }

    /// A client over the Unix domain socket at `path`.
    pub fn over_socket(path: &Path) -> Self {
        Self::build(|builder| builder.unix_socket(path), "localhost")
    }

    fn build(options: impl FnOnce(ClientBuilder) -> ClientBuilder, authority: &str) -> Self {
        let builder = options(reqwest::blocking::Client::builder()).timeout(TIMEOUT);
        Self { client: builder.build().expect("an HTTP client"), url: format!("http://{authority}/") }
    }

    /// The status and the body of a GET.
    pub fn get(&self) -> (u16, String) {
        self.send(self.client.get(&self.url))
    }

    /// The status of a GET that came through a proxy from `client`.
    pub fn status_for(&self, client: &str) -> u16 {
        self.send(self.client.get(&self.url).header("x-forwarded-for", client)).0
    }

    /// Waits until a GET that came through a proxy from `client` has this status.
    #[track_caller]
    pub fn wait_for_status(&self, client: &str, status: u16) {
        eventually(&format!("{status} for {client}"), || (self.status_for(client) == status).then_some(()));
    }

    /// The answer to a GET with further headers.
    pub fn get_with(&self, headers: &[(&str, &str)]) -> Answer {
        let request =
            headers.iter().fold(self.client.get(&self.url), |request, (name, value)| request.header(*name, *value));
        let response = request.send().expect("an answer");
        let status = response.status().as_u16();
        let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        Answer { status, headers, body: response.text().expect("a body") }
    }

    /// The status of a POST with a body that came through a proxy from `client`.
    pub fn post(&self, body: Vec<u8>, client: &str) -> u16 {
        self.send(self.client.post(&self.url).header("x-forwarded-for", client).body(body)).0
    }

    /// The status of a GET; `None` if the connection is refused or closed.
    pub fn status(&self) -> Option<u16> {
        self.client.get(&self.url).send().ok().map(|response| response.status().as_u16())
    }

    /// The body at another path, such as `/stats`; `None` if there was no answer.
    pub fn text(&self, path: &str) -> Option<String> {
        self.client.get(format!("{}{path}", self.url)).send().ok()?.text().ok()
    }

    fn send(&self, request: RequestBuilder) -> (u16, String) {
        let response = request.send().expect("an answer");
        (response.status().as_u16(), response.text().expect("a body"))
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// All headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// All values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// Sends `request` as it is, and returns everything that comes back until the server closes the connection.
pub fn raw(server: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    // The server may answer and close the connection before it has read everything.
    let _sent = stream.write_all(request);
    let mut answer = Vec::new();
    let _closed = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// An upstream that reads every request to its end, and answers with `hello from upstream`, or, at the path `/headers`, with the
/// headers that it got, one on each line.
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
        let headers = |headers: axum::http::HeaderMap| async move {
            let line = |(name, value): (_, &axum::http::HeaderValue)| {
                format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()))
            };
            headers.iter().map(line).collect::<String>()
        };
        let router = Router::new()
            .route("/headers", axum::routing::get(headers))
            .fallback(|_body: axum::body::Bytes| async { "hello from upstream\n" });
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { address, _runtime: runtime }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
