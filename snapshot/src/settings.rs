//! The settings of the filter, which travel with each snapshot.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode, impl_borrow_decode};
use edgefold_table::IpRange;

use crate::{Named, Quoted};

/// What the filter does with requests and connections.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Settings {
    /// Whether it refuses, or only reports what it would refuse.
    pub mode: Mode,
    /// The response to a refused request.
    pub refusal: Refusal,
    /// Whose address the HTTP filter looks up. The network filter looks up that of the connection.
    pub client_address: ClientAddress,
    /// What happens if there is no IP address to look up.
    pub no_address: NoAddress,
    /// Until when the snapshot is fresh; forever if `None`.
    pub freshness: Option<Freshness>,
    /// What the network filter does with connections that are already open when their address is blocked.
    pub open_connections: OpenConnections,
    /// The request header that tells the upstream which lists with [`ListAction::Tag`](crate::ListAction::Tag) a client is on. In
    /// lower case.
    pub tag_header: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            refusal: Refusal::default(),
            client_address: ClientAddress::default(),
            no_address: NoAddress::default(),
            freshness: None,
            open_connections: OpenConnections::default(),
            tag_header: "x-edgefold-lists".to_owned(),
        }
    }
}

/// Whether the filter refuses.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub enum Mode {
    /// It refuses blocked clients.
    #[default]
    Enforce,
    /// It lets everything pass, and counts and reports what it would have refused.
    Shadow,
}

impl Named for Mode {
    const ALL: &'static [(&'static str, Self)] = &[("enforce", Self::Enforce), ("shadow", Self::Shadow)];
}

/// The response to a refused request.
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

impl Refusal {
    /// Checks that Envoy can send the response.
    ///
    /// # Errors
    /// [`SettingsError`] for the first part that it cannot send.
    pub fn check(&self) -> Result<(), SettingsError> {
        let Refusal { status, body, content_type, headers } = self;
        if !(200..=599).contains(status) {
            return Err(SettingsError::Status { status: *status });
        }
        if !Self::may_have_body(*status) && !body.is_empty() {
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
        Ok(())
    }

    /// The body of a response with this status if nobody says another one.
    pub fn default_body(status: u16) -> String {
        if Self::may_have_body(status) { Self::default().body } else { String::new() }
    }

    /// Whether a response with this status has a body. RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5: these have no content.
    fn may_have_body(status: u16) -> bool {
        !matches!(status, 204 | 205 | 304)
    }
}

/// Whose address the HTTP filter looks up.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub enum ClientAddress {
    /// The client that Envoy has determined: its `source.address`, after its own handling of X-Forwarded-For.
    #[default]
    Envoy,
    /// The peer that opened the connection, whatever X-Forwarded-For says: the filter state `edgefold.connection_address`,
    /// where Envoy's `set_filter_state` filter stores `%DOWNSTREAM_REMOTE_ADDRESS%` of a new connection.
    Connection,
    /// An address in a header that a proxy in front of Envoy wrote.
    Header {
        /// The header's name. Its value is a comma-separated list of addresses, like that of X-Forwarded-For.
        name: String,
        /// How many proxies in front are trusted, at least one. Each appends an entry to the list, so the client's address
        /// is this many entries from the right. A request with fewer entries has bypassed them: its client is Envoy's.
        trusted_hops: u16,
        /// The peers whose header is believed; all peers if this is empty. For any other peer, Envoy's client is looked up.
        /// The peer is the one that opened the connection if Envoy provides it as for `Connection`, else Envoy's client.
        trusted_proxies: TrustedProxies,
    },
}

/// The peers whose header with the client's address is believed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TrustedProxies(pub Vec<IpRange>);

impl TrustedProxies {
    /// Whether the header of `peer` is believed: always if no proxies are named. A peer without an IP address is never among
    /// those named.
    pub fn trust(&self, peer: Option<IpAddr>) -> bool {
        self.0.is_empty() || peer.is_some_and(|peer| self.0.iter().any(|range| range.contains(peer)))
    }
}

/// A list of pairs of first and last address. An address is its family, 0 or 1, and its bytes.
impl Encode for TrustedProxies {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.0.len() as u64).encode(encoder)?;
        for ip in self.0.iter().flat_map(|range| [range.first(), range.last()]) {
            match ip {
                IpAddr::V4(ip) => (0_u32, ip.octets()).encode(encoder)?,
                IpAddr::V6(ip) => (1_u32, ip.octets()).encode(encoder)?,
            }
        }
        Ok(())
    }
}

impl<Context> Decode<Context> for TrustedProxies {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        // As `Vec` does it: the limit on the header bounds what the length may claim.
        let len = usize::try_from(u64::decode(decoder)?).map_err(|_| DecodeError::LimitExceeded)?;
        decoder.claim_container_read::<IpRange>(len)?;
        let mut ranges = Vec::with_capacity(len);
        for _ in 0..len {
            decoder.unclaim_bytes_read(size_of::<IpRange>());
            let (first, last) = (decode_address(decoder)?, decode_address(decoder)?);
            ranges.push(IpRange::new(first, last).map_err(|_| DecodeError::Other("two addresses are not a range"))?);
        }
        Ok(Self(ranges))
    }
}

impl_borrow_decode!(TrustedProxies);

fn decode_address<D: Decoder>(decoder: &mut D) -> Result<IpAddr, DecodeError> {
    match u32::decode(decoder)? {
        0 => Ok(IpAddr::from(<[u8; 4]>::decode(decoder)?)),
        1 => Ok(IpAddr::from(<[u8; 16]>::decode(decoder)?)),
        _ => Err(DecodeError::Other("an address is neither IPv4 nor IPv6")),
    }
}

/// What happens if there is no IP address to look up: for a client on a Unix domain socket or an internal listener, or if an
/// entry of a header is not an address.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub enum NoAddress {
    /// The client passes: without an address it is not on any list.
    #[default]
    Allow,
    /// The client is refused.
    Deny,
}

impl Named for NoAddress {
    const ALL: &'static [(&'static str, Self)] = &[("allow", Self::Allow), ("deny", Self::Deny)];
}

/// Until when a snapshot is fresh. The snapshotter ships a new one in time, even if no range has changed.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Freshness {
    /// When the snapshot was cut, by the snapshotter's clock, or up to a quarter of `max_age` before that. In milliseconds
    /// since 1970-01-01T00:00:00Z.
    pub cut_at: u64,
    /// How long it is fresh from `cut_at` on: milliseconds, at least 1000.
    pub max_age: u64,
    /// What happens after that.
    pub when_stale: WhenStale,
}

/// What happens to requests and connections while the snapshot is stale.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub enum WhenStale {
    /// The snapshot keeps serving, and they are counted.
    #[default]
    Keep,
    /// All of them are refused.
    Deny,
}

impl Named for WhenStale {
    const ALL: &'static [(&'static str, Self)] = &[("keep", Self::Keep), ("deny", Self::Deny)];
}

/// What the network filter does with connections that are already open when their address is blocked.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub enum OpenConnections {
    /// They stay open: an address is only looked up when its connection opens.
    #[default]
    Keep,
    /// The address is looked up again whenever bytes come from the client, and the connection is closed then.
    Recheck,
}

impl Named for OpenConnections {
    const ALL: &'static [(&'static str, Self)] = &[("keep", Self::Keep), ("recheck", Self::Recheck)];
}

impl Settings {
    /// Checks what the types cannot express: that Envoy can send the response, and that limits make sense.
    ///
    /// # Errors
    /// [`SettingsError`] for the first invalid setting.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.refusal.check()?;
        if let ClientAddress::Header { name, trusted_hops, .. } = &self.client_address {
            if !is_token(name) {
                return Err(SettingsError::Header { name: name.clone() });
            }
            if *trusted_hops == 0 {
                return Err(SettingsError::TrustedHops);
            }
            if name.eq_ignore_ascii_case("forwarded") {
                return Err(SettingsError::Forwarded);
            }
            if name.eq_ignore_ascii_case("x-forwarded-for") {
                return Err(SettingsError::ForwardedFor);
            }
        }
        let tag_header = &self.tag_header;
        if !is_token(tag_header)
            || tag_header.bytes().any(|byte| byte.is_ascii_uppercase())
            || REQUEST.contains(&&**tag_header)
        {
            return Err(SettingsError::TagHeader { name: tag_header.clone() });
        }
        if matches!(&self.client_address, ClientAddress::Header { name, .. } if name.eq_ignore_ascii_case(tag_header)) {
            return Err(SettingsError::TagHeader { name: tag_header.clone() });
        }
        if self.freshness.is_some_and(|freshness| freshness.max_age < 1000) {
            return Err(SettingsError::MaxAge);
        }
        Ok(())
    }
}

/// Response headers that Envoy writes itself, or that have a setting of their own.
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

/// Request headers that Envoy and its upstreams cannot do without, or that say whose the request is. The filter would remove them.
const REQUEST: [&str; 11] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-request-id",
];

/// A token of RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

/// A field value without control characters (RFC 9110, section 5.5): a line break would start another header.
fn is_field_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control())
}

/// Why settings are refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The status is not that of a final response.
    #[error("status {status} is not the status of a final response: use 200 to 599")]
    Status {
        /// The status.
        status: u16,
    },
    /// The status does not allow a body.
    #[error("a response with status {status} cannot have a body: leave the body empty")]
    Body {
        /// The status.
        status: u16,
    },
    /// A header that cannot be sent or read.
    #[error(
        "header {} cannot be used: its name is not a token, its value has control characters, or Envoy writes it itself",
        Quoted(name)
    )]
    Header {
        /// The header's name.
        name: String,
    },
    /// A header that cannot tell the upstream about tags.
    #[error(
        "{} cannot be the header for tags, which the filter removes from requests: write a name of its own in lower case, such as x-edgefold-lists",
        Quoted(name)
    )]
    TagHeader {
        /// The header's name.
        name: String,
    },
    /// There is no proxy that could have written the header.
    #[error(
        "reading the client address from a header takes at least one trusted hop: the proxy that writes the header"
    )]
    TrustedHops,
    /// The header that has a grammar of its own.
    #[error(
        "Forwarded (RFC 7239) is not a list of addresses: let your proxy write the address into a header of its own, such as X-Real-IP"
    )]
    Forwarded,
    /// The header that Envoy reads, and appends to, itself.
    #[error(
        "Envoy reads X-Forwarded-For itself, and may append your proxy to it: use client_address \"envoy\", and \
         original_ip_detection_extensions in Envoy"
    )]
    ForwardedFor,
    /// The snapshot would be stale at once.
    #[error("the maximum age of a snapshot must be at least one second")]
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
    fn the_defaults_are_valid() {
        assert_eq!(Settings::default().check(), Ok(()));
    }

    #[test]
    fn only_responses_that_envoy_can_send_are_valid() {
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
    fn a_header_cannot_smuggle_in_another() {
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
    fn a_client_address_needs_a_header_name_and_a_hop() {
        let with = |name: &str, trusted_hops| {
            let client_address = ClientAddress::Header {
                name: name.to_owned(),
                trusted_hops,
                trusted_proxies: TrustedProxies::default(),
            };
            Settings { client_address, ..Settings::default() }.check()
        };
        assert_eq!(with("X-Real-IP", 1), Ok(()));
        assert_eq!(with("X-Real-IP", 0), Err(SettingsError::TrustedHops));
        assert_eq!(with("X Real IP", 1), Err(SettingsError::Header { name: "X Real IP".to_owned() }));
        // No client would have an address, or all of them that of the proxy: nobody would be blocked.
        assert_eq!(with("forwarded", 1), Err(SettingsError::Forwarded));
        assert_eq!(with("X-Forwarded-For", 1), Err(SettingsError::ForwardedFor));
    }

    #[test]
    fn the_header_for_tags_is_one_that_nothing_else_needs() {
        let with = |name: &str| Settings { tag_header: name.to_owned(), ..Settings::default() }.check();
        assert_eq!(with("x-lists"), Ok(()));
        for name in ["", "x lists", ":path", "X-Lists", "host", "cookie", "x-forwarded-for"] {
            assert_eq!(with(name), Err(SettingsError::TagHeader { name: name.to_owned() }), "{name}");
        }
        // After the first request passed, no client would have an address any more.
        let client_address = ClientAddress::Header {
            name: "X-Real-IP".to_owned(),
            trusted_hops: 1,
            trusted_proxies: TrustedProxies::default(),
        };
        let settings = Settings { tag_header: "x-real-ip".to_owned(), client_address, ..Settings::default() };
        assert_eq!(settings.check(), Err(SettingsError::TagHeader { name: "x-real-ip".to_owned() }));
    }

    #[test]
    fn a_maximum_age_is_at_least_a_second() {
        let with = |max_age| {
            let freshness = Some(Freshness { cut_at: 0, max_age, when_stale: WhenStale::Keep });
            Settings { freshness, ..Settings::default() }.check()
        };
        assert_eq!(with(1000), Ok(()));
        assert_eq!(with(999), Err(SettingsError::MaxAge));
    }

    #[test]
    fn names_and_values_lead_to_each_other() {
        fn check<T: Named + core::fmt::Debug>() {
            for &(name, value) in T::ALL {
                assert_eq!((value.name(), T::from_name(name)), (name, Some(value)));
            }
            assert_eq!(T::from_name(""), None);
        }
        check::<Mode>();
        check::<NoAddress>();
        check::<WhenStale>();
        check::<OpenConnections>();
    }

    #[test]
    fn only_named_proxies_are_trusted_or_all_if_none_is_named() {
        let ip = |text: &str| Some(text.parse().unwrap());
        assert!(TrustedProxies::default().trust(ip("192.0.2.1")) && TrustedProxies::default().trust(None));
        let proxies = TrustedProxies(alloc::vec!["10.1.0.0/16".parse().unwrap(), "2001:db8::1".parse().unwrap()]);
        assert!(proxies.trust(ip("10.1.2.3")) && proxies.trust(ip("2001:db8::1")));
        assert!(!proxies.trust(ip("10.2.0.1")) && !proxies.trust(ip("2001:db8::2")) && !proxies.trust(None));
    }
}
