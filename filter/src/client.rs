//! Whose address a request is judged by.

use core::net::IpAddr;

use edgefold_snapshot::ClientAddress;

use crate::address;
use crate::host::RequestHost;

/// The address of the client of a request; `None` if it has no IP address. `header_key` is the host's key for the header of
/// [`ClientAddress::Header`].
pub fn client_of_request(client_address: &ClientAddress, header_key: &[u8], host: &impl RequestHost) -> Option<IpAddr> {
    match client_address {
        ClientAddress::Envoy => host.source_address(),
        ClientAddress::Connection => host.connection_address().flatten(),
        ClientAddress::Header { trusted_hops, trusted_proxies, .. } => {
            if !trusted_proxies.0.is_empty() {
                let source = host.source_address();
                // If Envoy itself believes X-Forwarded-For, its source address may be forged.
                let peer = host.connection_address().unwrap_or(source);
                if !trusted_proxies.trust(peer) {
                    return source;
                }
            }
            let entry = host
                .with_header(header_key, |list| address::entry_from_right(list?, *trusted_hops).map(address::parse));
            entry.unwrap_or_else(|| host.source_address())
        }
    }
}
