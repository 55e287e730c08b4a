//! Accepts connections, and limits how many there are.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, Receiver};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use super::tls::Acceptor;

/// How long a client may take for the handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to wait after a connection could not be accepted, for instance because there are too many open files.
const REST: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Something that bytes are read from and written to.
trait Io: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

/// A connection that was accepted.
pub(crate) struct Connection {
    io: Pin<Box<dyn Io>>,
    pub(crate) peer: SocketAddr,
    /// One of those that there may be.
    _permit: OwnedSemaphorePermit,
}

/// Accepts connections on `listener`, over TLS if there is an `acceptor`, on this Tokio runtime. At most `most` are open. One more waits until
/// another is closed.
pub(crate) fn accept(listener: TcpListener, acceptor: Option<Acceptor>, most: usize) -> Receiver<Connection> {
    let (accepted, connections) = mpsc::channel(1);
    let permits = Arc::new(Semaphore::new(most));
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
            // A response is one small write after another.
            let _set = stream.set_nodelay(true);
            let (accepted, acceptor) = (accepted.clone(), acceptor.clone());
            // A client that is slow to shake hands holds up nobody else.
            tokio::spawn(async move {
                let io: Pin<Box<dyn Io>> = match acceptor {
                    None => Box::pin(stream),
                    Some(acceptor) => match timeout(HANDSHAKE, acceptor.acceptor().accept(stream)).await {
                        Ok(Ok(stream)) => Box::pin(stream),
                        Ok(Err(error)) => return debug!("{peer}: the TLS handshake failed: {error}"),
                        Err(_elapsed) => return debug!("{peer}: the TLS handshake took too long"),
                    },
                };
                let _sent = accepted.send(Connection { io, peer, _permit: permit }).await;
            });
        }
    });
    connections
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer(self.peer)
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().io.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().io.as_mut().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().io.as_mut().poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().io.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().io.as_mut().poll_shutdown(cx)
    }
}
