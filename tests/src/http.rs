//! A client with a source address of its choice, and a small upstream.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
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

    /// A client that speaks HTTP/2 from the start.
    pub fn http2(server: SocketAddr, source: IpAddr) -> Self {
        let builder = reqwest::blocking::Client::builder().local_address(source).timeout(Duration::from_secs(20));
        let client = builder.http2_prior_knowledge().build().expect("an HTTP client");
        Self { client, url: format!("http://{server}/") }
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

    /// The status of a POST with a body.
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

    fn send(&self, request: reqwest::blocking::RequestBuilder) -> (u16, String) {
        let response = request.send().expect("an answer");
        (response.status().as_u16(), response.text().expect("a body"))
    }
}

/// An answer in full.
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

/// Sends `request` as it is, and gives all that comes until the server closes.
pub fn raw(server: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    // The server may answer and close before it has read all of it.
    let _sent = stream.write_all(request);
    let mut answer = Vec::new();
    let _closed = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// An upstream that reads every request to its end, and answers with `hello from upstream`.
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
        let router = Router::new().fallback(|_body: axum::body::Bytes| async { "hello from upstream\n" });
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { address, _runtime: runtime }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
