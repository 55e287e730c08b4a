//! Listening for others: connections, with TLS or without, and limits on them.

mod http;
mod listener;
mod tls;

pub(crate) use http::Accepted;
pub(crate) use listener::{InUse, Limits, Peer, accept, bind};
pub(crate) use tls::Acceptor;
pub use tls::{TlsError, TlsFiles};
