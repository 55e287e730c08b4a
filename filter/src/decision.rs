//! Whether a request passes: a snapshot and the client's address as Envoy writes it in, a decision out.

use std::net::{IpAddr, Ipv6Addr};

use edgefold_table::{NoAddress, Snapshot};

/// What happens to a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// It goes on to the next filter.
    Allow,
    /// It is answered with 403.
    Deny,
}

/// Decides on a request from `source_address`, Envoy's attribute `source.address`; `None` if Envoy has none.
///
/// A client without an IP address (a Unix domain socket, an internal listener) follows the snapshot's
/// [`NoAddress`] setting, and nothing else does.
pub fn decide<B: AsRef<[u8]>>(snapshot: &Snapshot<B>, source_address: Option<&[u8]>) -> Decision {
    match source_address.and_then(client_address) {
        Some(ip) if snapshot.table().contains(ip) => Decision::Deny,
        Some(_) => Decision::Allow,
        None => match snapshot.header().settings.no_address {
            NoAddress::Allow => Decision::Allow,
            NoAddress::Deny => Decision::Deny,
        },
    }
}

/// The IP address in `1.2.3.4:567` or `[2001:db8::1]:567`, with or without port, brackets and zone (RFC 4007); `None` for
/// anything else, such as the path of a pipe.
pub fn client_address(source_address: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(source_address).ok()?;
    if let Some(bracketed) = text.strip_prefix('[') {
        let (ip, port) = bracketed.split_once(']')?;
        let port_is_fine = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return ipv6(ip).filter(|_| port_is_fine).map(IpAddr::V6);
    }
    // More than one colon without brackets: IPv6 without a port.
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => ipv6(text).map(IpAddr::V6),
        Some((ip, port)) => ip.parse().ok().filter(|_| is_port(port)).map(IpAddr::V4),
        None => text.parse().ok().map(IpAddr::V4),
    }
}

fn ipv6(text: &str) -> Option<Ipv6Addr> {
    let without_zone = text.split_once('%').map_or(text, |(ip, _zone)| ip);
    without_zone.parse().ok()
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgefold_table::{Generation, IpRange, Settings};

    fn snapshot(no_address: NoAddress) -> Snapshot<Vec<u8>> {
        let range = |first: &str, last: &str| IpRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap();
        let ranges = [range("10.0.0.0", "10.0.0.255"), range("2001:db8::", "2001:db8::ffff")];
        let generation = Generation { next_offset: 1, expiry: None };
        Snapshot::open(Snapshot::build("edgefold", generation, 0, Settings { no_address }, ranges).unwrap()).unwrap()
    }

    #[test]
    fn an_address_is_read_in_every_form_that_envoy_writes() {
        for (text, expected) in [
            ("1.2.3.4:567", Some("1.2.3.4")),
            ("1.2.3.4:0", Some("1.2.3.4")),
            ("1.2.3.4", Some("1.2.3.4")),
            ("[2001:db8::1]:567", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:DB8:0:0::1]:1", Some("2001:db8::1")),
            ("[fe80::1%eth0]:80", Some("fe80::1")),
            ("fe80::1%3", Some("fe80::1")),
            ("[::ffff:10.0.0.1]:80", Some("::ffff:10.0.0.1")),
            ("/var/run/envoy.sock", None),
            ("@abstract", None),
            ("envoy://internal_client_address/", None),
            ("1.2.3.4:", None),
            ("1.2.3.4:99999", None),
            ("1.2.3", None),
            ("01.2.3.4:5", None),
            ("[1.2.3.4]:5", None),
            ("[2001:db8::1]567", None),
            ("[2001:db8::1", None),
            ("", None),
            (":80", None),
            ("[]:80", None),
        ] {
            assert_eq!(client_address(text.as_bytes()), expected.map(|ip| ip.parse().unwrap()), "{text:?}");
        }
        assert_eq!(client_address(b"\xff\xfe"), None);
    }

    #[test]
    fn a_blocked_address_is_denied_and_all_else_passes() {
        let snapshot = snapshot(NoAddress::Allow);
        for (source, expected) in [
            ("10.0.0.7:1234", Decision::Deny),
            ("10.0.1.7:1234", Decision::Allow),
            ("[::ffff:10.0.0.7]:1234", Decision::Deny),
            ("[2001:db8::7]:1234", Decision::Deny),
            ("[2001:db9::7]:1234", Decision::Allow),
        ] {
            assert_eq!(decide(&snapshot, Some(source.as_bytes())), expected, "{source}");
        }
    }

    #[test]
    fn a_client_without_an_ip_address_follows_the_setting() {
        for (setting, expected) in [(NoAddress::Allow, Decision::Allow), (NoAddress::Deny, Decision::Deny)] {
            let snapshot = snapshot(setting);
            assert_eq!(decide(&snapshot, None), expected);
            assert_eq!(decide(&snapshot, Some(b"/var/run/envoy.sock")), expected);
            assert_eq!(decide(&snapshot, Some(b"10.0.1.7:1")), Decision::Allow, "the setting is for no address only");
        }
    }
}
