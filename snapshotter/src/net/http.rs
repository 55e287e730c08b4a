//! HTTP over connections that were accepted, whose number is limited.

use std::io;
use std::net::SocketAddr;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::sync::mpsc::Receiver;

use super::listener::{Connection, Peer};

/// Connections for axum.
pub(crate) struct Accepted {
    connections: Receiver<Connection>,
    address: SocketAddr,
}

impl Accepted {
    /// Those that were accepted at `address`.
    pub(crate) fn new(connections: Receiver<Connection>, address: SocketAddr) -> Self {
        Self { connections, address }
    }
}

impl Listener for Accepted {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.connections.recv().await {
            Some(connection) => {
                let address = connection.peer.address;
                (connection, address)
            }
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Connected<IncomingStream<'_, Accepted>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Accepted>) -> Self {
        stream.io().peer.clone()
    }
}
