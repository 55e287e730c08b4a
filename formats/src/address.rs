//! Ranges as other programs write them, where that is not how edgefold does.

use std::net::Ipv4Addr;

use edgefold_table::{Address, AddressRange, IPV4_MAPPED, IpRange, ParseRangeError};
use ipnet::IpNet;

use crate::lines;

/// Reads a range, whose block may have a netmask instead of a length: `10.0.0.0/255.255.255.0`.
pub(crate) fn range(text: &str) -> Result<IpRange, String> {
    parse(text).unwrap_or_else(|error| Err(error.to_string()))
}

/// Reads a range as [`range`] does, for programs that ignore the host bits of a block: `192.0.2.7/24` is `192.0.2.0/24`.
pub(crate) fn masked_range(text: &str) -> Result<IpRange, String> {
    match parse(text) {
        Err(ParseRangeError::HostBits { block, .. }) => {
            IpRange::new(block.network(), block.broadcast()).map_err(|error| error.to_string())
        }
        other => other.unwrap_or_else(|error| Err(error.to_string())),
    }
}

/// The blocks of a range, none of which begins or ends with an IPv4-mapped address.
///
/// An IPv6 range says nothing about those, even if it reaches over them. A block of them, which such a range has, would be read as IPv4
/// addresses.
pub(crate) fn cidrs(range: IpRange) -> impl Iterator<Item = IpNet> {
    range.cidrs().flat_map(|cidr| {
        let cut = match cidr {
            IpNet::V6(cidr) => AddressRange::new(cidr.network(), cidr.broadcast()).ok().map(IpRange::V6),
            IpNet::V4(_) => None,
        };
        let cut = cut.filter(|cidr| without_mapped(*cidr) != Some(*cidr));
        let rest = cut.and_then(without_mapped).into_iter().flat_map(IpRange::cidrs);
        rest.chain(cut.is_none().then_some(cidr))
    })
}

/// The two halves of all addresses of a family, for programs without /0, and any other block as it is.
pub(crate) fn halves_of_all(cidr: IpNet) -> impl Iterator<Item = IpNet> {
    let halves = (cidr.prefix_len() == 0).then(|| cidr.subnets(1).ok()).flatten();
    let other = halves.is_none().then_some(cidr);
    halves.into_iter().flatten().chain(other)
}

/// A range without IPv4-mapped addresses at its ends, for the same reason; `None` if it has no others.
pub(crate) fn without_mapped(range: IpRange) -> Option<IpRange> {
    let IpRange::V6(inner) = range else { return Some(range) };
    let (mut first, mut last) = (inner.first(), inner.last());
    if IPV4_MAPPED.contains(first) {
        first = IPV4_MAPPED.last().successor()?;
    }
    if IPV4_MAPPED.contains(last) {
        last = IPV4_MAPPED.first().predecessor()?;
    }
    AddressRange::new(first, last).ok().map(IpRange::V6)
}

/// Whether a line ends in a prefix length that another digit would make much longer: `128.0.0.0/2` may be the beginning of `128.0.0.0/24`.
/// What else is cut off becomes one other address, fewer addresses, or nothing that can be read.
pub(crate) fn may_be_cut_off(line: &str) -> bool {
    let Some((before, length)) = line.rsplit_once('/') else { return false };
    let most = if before.contains(':') { 128 } else { 32 };
    length.parse::<u32>().is_ok_and(|length| length > 0 && length * 10 <= most)
}

/// The inner error is that of the netmask.
fn parse(text: &str) -> Result<Result<IpRange, String>, ParseRangeError> {
    let parts =
        text.split_once('/').and_then(|(address, mask)| Some((address.parse::<Ipv4Addr>().ok()?, mask.parse().ok()?)));
    let Some((address, mask)) = parts else { return lines::range(text).map(Ok) };
    match netmask_length(mask) {
        Some(length) if length > 0 => format!("{address}/{length}").parse().map(Ok),
        // Some programs write the bits that may differ, and mean the one address by this.
        Some(_) => {
            Ok(Err("a netmask of 0.0.0.0 is ambiguous: write /0 for all addresses, or no mask for one".to_owned()))
        }
        None => Ok(Err(format!("{mask} is not a netmask: write the length of the prefix, as in /24"))),
    }
}

/// The length of the prefix with this netmask, such as 24 for 255.255.255.0.
pub(crate) fn netmask_length(mask: Ipv4Addr) -> Option<u32> {
    let mask = mask.to_bits();
    (mask.leading_ones() + mask.trailing_zeros() == 32 || mask == 0).then_some(mask.leading_ones())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_netmask_is_a_length() {
        for (text, expected) in [
            ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
            ("192.0.2.1/255.255.255.255", "192.0.2.1"),
            ("128.0.0.0/128.0.0.0", "128.0.0.0/1"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.1 - 192.0.2.9", "192.0.2.1-192.0.2.9"),
            ("2001:db8::/32", "2001:db8::/32"),
        ] {
            assert_eq!(range(text).unwrap().shortest_text(), expected, "{text}");
            assert_eq!(masked_range(text).unwrap().shortest_text(), expected, "{text}");
        }
    }

    #[test]
    fn what_programs_read_in_different_ways_is_refused() {
        for (text, why) in [
            ("0.0.0.0/0.0.0.0", "ambiguous"),
            ("192.0.2.0/0.0.0.255", "0.0.0.255 is not a netmask"),
            ("192.0.2.0/255.0.255.0", "255.0.255.0 is not a netmask"),
            ("2001:db8::/255.255.255.0", "prefix length"),
            ("10.1/16", "2 octets"),
        ] {
            for read in [range, masked_range] {
                let error = read(text).map(IpRange::shortest_text);
                assert!(error.as_ref().is_err_and(|error| error.contains(why)), "{text}: {error:?}");
            }
        }
    }

    #[test]
    fn host_bits_are_refused_or_ignored_as_the_program_does() {
        for text in ["192.0.2.7/24", "192.0.2.7/255.255.255.0"] {
            assert!(range(text).unwrap_err().contains("host bits set: write 192.0.2.0/24"));
            assert_eq!(masked_range(text).unwrap().shortest_text(), "192.0.2.0/24");
        }
    }
}
