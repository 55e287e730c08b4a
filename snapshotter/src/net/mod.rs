//! Listening for others: connections, with TLS or without, and limits on them.

mod listener;
mod tls;

pub(crate) use listener::{Connection, InUse, Limits, Peer, accept, bind};
pub(crate) use tls::Acceptor;
pub use tls::{TlsError, TlsFiles};
