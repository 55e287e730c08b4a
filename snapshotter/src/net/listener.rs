//! Accepts connections, and limits how many there are.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, Receiver};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use super::tls::Acceptor;

/// How long a client may take for the handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to wait after a connection could not be accepted, for instance because there are too many open files.
const REST: Duration = Duration::from_millis(100);

/// How many connections may wait to be accepted: all proxies may come at once.
const BACKLOG: i32 = 4096;
/// How often people are told that a handshake has failed.
const REPORT: Duration = Duration::from_secs(30);
/// How long a connection may be open without anything going on.
const IDLE: Duration = Duration::from_secs(30);

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// In all. One more waits until another is closed.
    pub(crate) all: usize,
    /// From one IP address. One more is closed.
    pub(crate) from_one_address: usize,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    usage: Arc<Usage>,
}

/// Whether a connection is needed.
#[derive(Debug, Default)]
struct Usage {
    /// How many requests are being answered.
    requests: AtomicUsize,
    /// Whether there was one since it was last checked.
    was_used: AtomicBool,
    close: Notify,
}

/// Keeps a connection open while a request is being answered.
#[derive(Debug)]
pub(crate) struct InUse(Arc<Usage>);

impl Peer {
    /// A request is being answered until what this returns is dropped.
    pub(crate) fn in_use(&self) -> InUse {
        self.usage.requests.fetch_add(1, Ordering::Relaxed);
        self.usage.was_used.store(true, Ordering::Relaxed);
        InUse(Arc::clone(&self.usage))
    }

    /// Closes the connection, and frees what waits to be sent.
    pub(crate) fn close(&self) {
        self.usage.close.notify_one();
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Usage {
    /// Waits until the connection is to be closed.
    async fn end(self: Arc<Self>) {
        let is_idle = async {
            loop {
                sleep(IDLE).await;
                if self.requests.load(Ordering::Relaxed) == 0 && !self.was_used.swap(false, Ordering::Relaxed) {
                    return;
                }
            }
        };
        tokio::select! {
            () = is_idle => {}
            () = self.close.notified() => {}
        }
    }
}

/// Tells people that clients cannot connect, but not of each: anybody can try.
#[derive(Debug, Default)]
struct FailedHandshakes(Mutex<(Option<Instant>, u64)>);

impl FailedHandshakes {
    fn note(&self, peer: SocketAddr, why: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0.is_some_and(|at| at.elapsed() < REPORT) {
            last.1 += 1;
            return;
        }
        let more = std::mem::take(&mut last.1);
        last.0 = Some(Instant::now());
        warn!("{peer}: the TLS handshake failed: {why} ({more} more since the last message)");
    }
}

/// Something that bytes are read from and written to.
trait Io: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

/// A connection that was accepted.
pub(crate) struct Connection {
    io: Pin<Box<dyn Io>>,
    pub(crate) peer: Peer,
    /// Until when it may be open; `None` if that is over.
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _counted: Counted,
}

/// One of the connections that there may be.
struct Counted {
    _permit: OwnedSemaphorePermit,
    address: IpAddr,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// Listens on `address`, for a Tokio runtime that is started later, and returns where that is. Port 0 picks a free port.
pub(crate) fn bind(address: SocketAddr) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Accepts connections on `listener`, over TLS if there is an `acceptor`, on this Tokio runtime.
pub(crate) fn accept(listener: TcpListener, acceptor: Option<Acceptor>, limits: Limits) -> Receiver<Connection> {
    let (accepted, connections) = mpsc::channel(1);
    let permits = Arc::new(Semaphore::new(limits.all));
    let by_address = Arc::new(Mutex::new(HashMap::new()));
    let failed = Arc::new(FailedHandshakes::default());
    // The standard library asks for 128. The system may allow less.
    if let Err(error) = rustix::net::listen(&listener, BACKLOG) {
        warn!("connections that come all at once may be reset: {error}");
    }
    tokio::spawn(async move {
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            let (stream, peer) = tokio::select! {
                connection = listener.accept() => match connection {
                    Ok(connection) => connection,
                    Err(error) => {
                        warn!("cannot accept a connection: {error}");
                        sleep(REST).await;
                        continue;
                    }
                },
                () = accepted.closed() => return,
            };
            let (address, by_address) = (peer.ip().to_canonical(), Arc::clone(&by_address));
            let count = {
                let mut by_address = by_address.lock().unwrap_or_else(PoisonError::into_inner);
                let count = by_address.entry(address).or_insert(0);
                *count += 1;
                *count
            };
            let counted = Counted { _permit: permit, address, by_address };
            if count > limits.from_one_address {
                debug!("{peer}: too many connections");
                continue;
            }
            // A response is one small write after another.
            let _set = stream.set_nodelay(true);
            let (accepted, acceptor, failed) = (accepted.clone(), acceptor.clone(), Arc::clone(&failed));
            // A client that is slow to shake hands holds up nobody else.
            tokio::spawn(async move {
                let io: Pin<Box<dyn Io>> = match acceptor {
                    None => Box::pin(stream),
                    Some(acceptor) => match timeout(HANDSHAKE, acceptor.acceptor().accept(stream)).await {
                        Ok(Ok(stream)) => Box::pin(stream),
                        Ok(Err(error)) => return failed.note(peer, &error.to_string()),
                        Err(_elapsed) => return failed.note(peer, "it took too long"),
                    },
                };
                let usage = Arc::new(Usage::default());
                let end: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(Arc::clone(&usage).end());
                let peer = Peer { address: peer, usage };
                let _sent = accepted.send(Connection { io, peer, end: Some(end), _counted: counted }).await;
            });
        }
    });
    connections
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl Connection {
    /// Whether it is to be closed. A client that does not read holds up writing, and one that does not write holds up reading.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Result<(), io::Error> {
        if self.end.as_mut().is_none_or(|end| end.as_mut().poll(cx).is_ready()) {
            self.end = None;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_end(cx)?;
        this.io.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.poll_end(cx)?;
        this.io.as_mut().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.poll_end(cx)?;
        this.io.as_mut().poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_end(cx)?;
        this.io.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_end(cx)?;
        this.io.as_mut().poll_shutdown(cx)
    }
}
