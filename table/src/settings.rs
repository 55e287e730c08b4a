//! The settings of the filter, which travel with each snapshot.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};

use crate::{IpRange, Quoted};

/// What the filter does with requests and connections.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub struct Settings {
    /// Whether it refuses, or only says what it would refuse.
    pub mode: Mode,
    /// The answer to a request that is refused.
    pub refusal: Refusal,
    /// Whose address the HTTP filter looks up. The network filter looks up that of the connection.
    pub client_address: ClientAddress,
    /// What happens where there is no IP address to look up.
    pub no_address: NoAddress,
    /// Until when the snapshot is fresh; for ever if `None`.
    pub freshness: Option<Freshness>,
    /// What the network filter does with connections that are open when their address is blocked.
    pub open_connections: OpenConnections,
}

/// Whether the filter refuses.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub enum Mode {
    /// It refuses what is blocked.
    #[default]
    Enforce,
    /// It lets all pass, and counts and says what it would have refused.
    Shadow,
}

/// The answer to a request that is refused.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Refusal {
    /// The status: 200 to 599.
    pub status: u16,
    /// The body.
    pub body: String,
    /// The `content-type` of the body.
    pub content_type: String,
    /// Further headers, names and values.
    pub headers: Vec<(String, String)>,
}

impl Default for Refusal {
    /// A plain 403.
    fn default() -> Self {
        let (body, content_type) = ("Forbidden\n".to_owned(), "text/plain".to_owned());
        Self { status: 403, body, content_type, headers: Vec::new() }
    }
}

/// Whose address the HTTP filter looks up.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub enum ClientAddress {
    /// Whom Envoy takes for the client: its `source.address`, after its own handling of X-Forwarded-For.
    #[default]
    Envoy,
    /// Whoever opened the connection, whatever X-Forwarded-For says: the filter state
    /// `edgefold.connection_address`, where Envoy's `set_filter_state` filter leaves `%DOWNSTREAM_REMOTE_ADDRESS%` of a new
    /// connection.
    Connection,
    /// An address in a header that a proxy in front wrote.
    Header {
        /// The header's name. Its value is a list of addresses with commas, as that of X-Forwarded-For.
        name: String,
        /// How many proxies in front are trusted, at least one. Each appends an entry to the list, so the client's address
        /// is this many entries from the right. A request with fewer entries has come around them, and is Envoy's client's.
        trusted_hops: u16,
        /// Who may say so: from any other peer the header is not believed, and Envoy's client is looked up. Anybody may if
        /// there are none. The peer is who opened the connection, if Envoy says so as for `Connection`; else Envoy's client.
        trusted_proxies: Vec<IpRange>,
    },
}

/// What happens where there is no IP address to look up: a client on a Unix domain socket or an internal listener, or an
/// entry of a header that is none.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub enum NoAddress {
    /// It passes: what has no address is on no list.
    #[default]
    Allow,
    /// It is refused.
    Deny,
}

/// Until when a snapshot is fresh. The snapshotter ships a new one in time, even if no range has changed.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Freshness {
    /// When it was cut by the snapshotter's clock or up to a quarter of `max_age` before, in milliseconds since
    /// 1970-01-01T00:00:00Z.
    pub cut_at: u64,
    /// For how long it is fresh from then on, in milliseconds, at least a second.
    pub max_age: u64,
    /// What happens then.
    pub when_stale: WhenStale,
}

/// What happens to requests and connections while the snapshot is stale.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub enum WhenStale {
    /// It serves on, and they are counted.
    #[default]
    Keep,
    /// They are all refused.
    Deny,
}

/// What the network filter does with connections that are open when their address is blocked.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub enum OpenConnections {
    /// They stay: an address is looked up when its connection opens.
    #[default]
    Keep,
    /// They are closed at the next bytes from the client, where it is looked up again.
    Recheck,
}

impl Settings {
    /// Checks what the types do not: a response that Envoy can send, and limits that mean something.
    ///
    /// # Errors
    /// [`SettingsError`] for the first setting that is wrong.
    pub fn check(&self) -> Result<(), SettingsError> {
        let Refusal { status, body, content_type, headers } = &self.refusal;
        if !(200..=599).contains(status) {
            return Err(SettingsError::Status { status: *status });
        }
        // RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5: they have no content.
        if matches!(status, 204 | 205 | 304) && !body.is_empty() {
            return Err(SettingsError::Body { status: *status });
        }
        if content_type.is_empty() || !is_field_value(content_type) {
            return Err(SettingsError::Header { name: "content-type".to_owned() });
        }
        for (name, value) in headers {
            if !is_token(name) || !is_field_value(value) || RESERVED.contains(&&*name.to_ascii_lowercase()) {
                return Err(SettingsError::Header { name: name.clone() });
            }
        }
        if let ClientAddress::Header { name, trusted_hops, .. } = &self.client_address {
            if !is_token(name) {
                return Err(SettingsError::Header { name: name.clone() });
            }
            if *trusted_hops == 0 {
                return Err(SettingsError::TrustedHops);
            }
        }
        if self.freshness.is_some_and(|freshness| freshness.max_age < 1000) {
            return Err(SettingsError::MaxAge);
        }
        Ok(())
    }
}

/// Headers of a response that are Envoy's own, or have a setting of their own.
const RESERVED: [&str; 9] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A token of RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

/// Without control characters (RFC 9110, section 5.5): a line break would begin another header.
fn is_field_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control())
}

/// Why settings are refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// No status of a final response.
    #[error("status {status} is none of a final response: give one of 200 to 599")]
    Status {
        /// The status.
        status: u16,
    },
    /// A body where there can be none.
    #[error("a response with status {status} has no body: give an empty one")]
    Body {
        /// The status.
        status: u16,
    },
    /// A header that cannot be sent or read.
    #[error(
        "header {} cannot be used: its name is no token, its value has control characters, or it is Envoy's own",
        Quoted(name)
    )]
    Header {
        /// The header's name.
        name: String,
    },
    /// No proxy that could have written the header.
    #[error("a client address out of a header takes at least one trusted hop: the proxy that writes the header")]
    TrustedHops,
    /// Stale at once.
    #[error("a snapshot cannot be stale after less than a second: give a greater max-age")]
    MaxAge,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut Refusal)) -> Result<(), SettingsError> {
        let mut settings = Settings::default();
        change(&mut settings.refusal);
        settings.check()
    }

    #[test]
    fn what_is_there_by_default_is_good() {
        assert_eq!(Settings::default().check(), Ok(()));
    }

    #[test]
    fn only_a_response_that_can_be_sent_is_good() {
        for status in [200, 302, 403, 429, 599] {
            assert_eq!(refusal(|refusal| refusal.status = status), Ok(()));
        }
        for status in [0, 100, 199, 600, u16::MAX] {
            assert_eq!(refusal(|refusal| refusal.status = status), Err(SettingsError::Status { status }));
        }
        assert_eq!(refusal(|refusal| refusal.status = 204), Err(SettingsError::Body { status: 204 }));
        let empty = refusal(|refusal| (refusal.status, refusal.body) = (204, String::new()));
        assert_eq!(empty, Ok(()));
        for content_type in ["", "text/html\r\nset-cookie: a=b"] {
            let name = "content-type".to_owned();
            let outcome = refusal(|refusal| content_type.clone_into(&mut refusal.content_type));
            assert_eq!(outcome, Err(SettingsError::Header { name }));
        }
    }

    #[test]
    fn a_header_is_one_header() {
        let with =
            |name: &str, value: &str| refusal(|refusal| refusal.headers.push((name.to_owned(), value.to_owned())));
        for (name, value) in [("x-why", "blocked"), ("Retry-After", "60"), ("x-empty", ""), ("x", "a\tb é")] {
            assert_eq!(with(name, value), Ok(()), "{name}: {value}");
        }
        for (name, value) in [
            ("", "a"),
            (":status", "200"),
            ("x why", "a"),
            ("x-why", "a\r\nset-cookie: b"),
            ("x-why", "a\0"),
            ("Content-Length", "7"),
            ("transfer-encoding", "chunked"),
            ("é", "a"),
        ] {
            assert_eq!(with(name, value), Err(SettingsError::Header { name: name.to_owned() }), "{name}: {value}");
        }
    }

    #[test]
    fn a_client_address_takes_a_header_and_a_hop() {
        let with = |name: &str, trusted_hops| {
            let client_address =
                ClientAddress::Header { name: name.to_owned(), trusted_hops, trusted_proxies: Vec::new() };
            Settings { client_address, ..Settings::default() }.check()
        };
        assert_eq!(with("X-Real-IP", 1), Ok(()));
        assert_eq!(with("X-Real-IP", 0), Err(SettingsError::TrustedHops));
        assert_eq!(with("X Real IP", 1), Err(SettingsError::Header { name: "X Real IP".to_owned() }));
    }

    #[test]
    fn no_snapshot_is_stale_at_once() {
        let with = |max_age| {
            let freshness = Some(Freshness { cut_at: 0, max_age, when_stale: WhenStale::Keep });
            Settings { freshness, ..Settings::default() }.check()
        };
        assert_eq!(with(1000), Ok(()));
        assert_eq!(with(999), Err(SettingsError::MaxAge));
    }
}
