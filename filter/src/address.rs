//! Addresses as Envoy and proxies write them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The IP address in `1.2.3.4:567` or `[2001:db8::1]:567`, with or without port, brackets and zone (RFC 4007); `None` for
/// anything else, such as the path of a pipe.
///
/// An IPv4-mapped IPv6 address stays IPv6 here; it is looked up as the IPv4 address in it. Addresses from a translator's prefix
/// (NAT64, 6to4) are IPv6.
#[inline]
pub fn parse(text: &[u8]) -> Option<IpAddr> {
    ipv4(text).map(IpAddr::V4).or_else(|| in_any_form(text))
}

/// The address in `1.2.3.4` or `1.2.3.4:567`; `None` if it is written in another way.
///
/// Nearly all addresses are, and a request finds little code in the processor's cache, so this is shorter than the standard library's way to
/// it: a third of the instructions.
#[inline]
fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let (mut bits, mut octet, mut has_digit, mut octets) = (0_u32, 0_u32, false, 0_u32);
    let mut rest = text.iter();
    loop {
        match rest.next() {
            // No octet has leading zeros: they could mean octal numbers.
            Some(digit @ b'0'..=b'9') if !has_digit || octet != 0 => {
                octet = octet.wrapping_mul(10).wrapping_add(u32::from(digit.wrapping_sub(b'0')));
                has_digit = true;
                if octet > 255 {
                    return None;
                }
            }
            end @ (Some(b'.' | b':') | None) if has_digit => {
                (bits, octet, has_digit, octets) = (bits << 8 | octet, 0, false, octets.wrapping_add(1));
                if end == Some(&b'.') && octets < 4 {
                    continue;
                }
                let is_complete =
                    octets == 4 && (end.is_none() || end == Some(&b':') && is_short_port(rest.as_slice()));
                return is_complete.then(|| Ipv4Addr::from_bits(bits));
            }
            _ => return None,
        }
    }
}

fn is_short_port(text: &[u8]) -> bool {
    let digits = text.iter().map(|digit| u32::from(digit.wrapping_sub(b'0')));
    let port = digits.fold(0_u32, |port, digit| port.wrapping_mul(10).wrapping_add(digit));
    matches!(text.len(), 1..=5) && text.iter().all(u8::is_ascii_digit) && port <= u32::from(u16::MAX)
}

/// An address in any form.
#[inline(never)]
fn in_any_form(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
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

/// The entry number `place` from the right of a comma-separated list, counted from 1, without surrounding white space; `None` if
/// the list is shorter.
pub fn entry_from_right(list: &[u8], place: u16) -> Option<&[u8]> {
    let place = usize::from(place).checked_sub(1)?;
    list.rsplit(|&byte| byte == b',').nth(place).map(<[u8]>::trim_ascii)
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
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_of_an_address_that_envoy_writes_is_parsed() {
        for (text, expected) in [
            ("1.2.3.4:567", Some("1.2.3.4")),
            ("1.2.3.4:0", Some("1.2.3.4")),
            ("1.2.3.4", Some("1.2.3.4")),
            ("[2001:db8::1]:567", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:DB8:0:0::1]:1", Some("2001:db8::1")),
            ("2001:0DB8:0000:0000:0000:0000:0000:0001", Some("2001:db8::1")),
            ("[fe80::1%eth0]:80", Some("fe80::1")),
            ("fe80::1%3", Some("fe80::1")),
            ("[::ffff:10.0.0.1]:80", Some("::ffff:10.0.0.1")),
            ("::ffff:a00:1", Some("::ffff:10.0.0.1")),
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
            assert_eq!(parse(text.as_bytes()), expected.map(|ip| ip.parse().unwrap()), "{text:?}");
        }
        assert_eq!(parse(b"\xff\xfe"), None);
    }

    proptest! {
        #[test]
        fn the_short_way_for_ipv4_takes_what_the_other_takes(text in "[0-9.:+ ]{0,20}", octets: [u8; 4], port: u16) {
            if let Some(address) = ipv4(text.as_bytes()) {
                prop_assert_eq!(in_any_form(text.as_bytes()), Some(address.into()));
            }
            let address = Ipv4Addr::from(octets);
            for text in [address.to_string(), format!("{address}:{port}")] {
                prop_assert_eq!((ipv4(text.as_bytes()), in_any_form(text.as_bytes())), (Some(address), Some(address.into())));
            }
        }

        #[test]
        fn the_short_way_for_ipv4_takes_nothing_that_is_almost_one(octets in prop::array::uniform4(0_u32..300), port in 0_u32..70_000) {
            let [a, b, c, d] = octets;
            for text in [format!("{a}.{b}.{c}.{d}:{port}"), format!("{a}.{b}.{c}.{d}"), format!("{a}.{b}.{c}.0{d}"), format!("{a}.{b}.{c}.{d}.{a}")] {
                prop_assert_eq!(ipv4(text.as_bytes()).map(IpAddr::V4), in_any_form(text.as_bytes()));
            }
        }
    }

    #[test]
    fn entries_are_counted_from_the_right() {
        let list = b"forged, 192.0.2.1 ,,\t10.0.0.1:80";
        for (place, expected) in [
            (1, Some(&b"10.0.0.1:80"[..])),
            (2, Some(b"")),
            (3, Some(b"192.0.2.1")),
            (4, Some(b"forged")),
            (5, None),
            (u16::MAX, None),
            (0, None),
        ] {
            assert_eq!(entry_from_right(list, place), expected, "{place}");
        }
        assert_eq!(entry_from_right(b"", 1), Some(&b""[..]));
        assert_eq!(entry_from_right(b"", 2), None);
    }
}
