//! Ranges as people write them: an address, a CIDR block, or `first-last`.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, str};
use core::net::IpAddr;
use core::str::FromStr;

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};

use crate::{IpRange, RangeError, shorten};

/// Reads an address, a CIDR block (all its addresses, the network address included) or `first-last` (both included), IPv4
/// or IPv6. IPv4-mapped IPv6 is read as the IPv4 address in it.
impl FromStr for IpRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, ParseRangeError> {
        if let Some((first, last)) = text.split_once('-') {
            return Ok(Self::new(parse_address(first)?, parse_address(last)?)?);
        }
        if let Some((address, length)) = text.split_once('/') {
            return parse_cidr(parse_address(address)?, length);
        }
        let address = parse_address(text)?;
        Ok(Self::new(address, address)?)
    }
}

fn parse_cidr(address: IpAddr, length: &str) -> Result<IpRange, ParseRangeError> {
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let plain = length.bytes().all(|byte| byte.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let block = length.parse().ok().filter(|_| plain).and_then(|length| IpNet::new(address, length).ok());
    let block = block.ok_or_else(|| ParseRangeError::PrefixLength { found: shorten(length), longest })?;
    if block.addr() != block.network() {
        let (block, single) = (block.trunc(), IpNet::from(address));
        return Err(ParseRangeError::HostBits { text: format!("{address}/{length}"), block, single });
    }
    Ok(IpRange::new(block.network(), block.broadcast())?)
}

/// Reads one address, in the forms of RFC 4291 and the four decimal octets of RFC 6943, section 3.1.1. Octal and short IPv4
/// forms are refused, because programs disagree about which address they mean.
///
/// # Errors
/// [`ParseRangeError`] says what is wrong and what would be right.
pub fn parse_address(text: &str) -> Result<IpAddr, ParseRangeError> {
    text.parse().map_err(|_| {
        let shown = shorten(text);
        let octets: Vec<_> = text.split('.').collect();
        let like_ipv4 = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if text.is_empty() {
            ParseRangeError::NoAddress
        } else if text.contains('%') {
            ParseRangeError::Zone { text: shown }
        } else if let Some(octet) = octets.iter().find(|octet| like_ipv4 && octet.len() > 1 && octet.starts_with('0')) {
            ParseRangeError::LeadingZero { text: shown, octet: shorten(octet) }
        } else if like_ipv4 && matches!(octets.len(), 2 | 3) {
            ParseRangeError::Octets { text: shown, found: octets.len() }
        } else {
            ParseRangeError::Address { text: shown }
        }
    })
}

impl IpRange {
    /// The CIDR block with exactly the addresses of this range, if there is one.
    pub fn cidr(self) -> Option<IpNet> {
        let mut blocks = self.cidrs();
        let block = blocks.next();
        if blocks.next().is_some() { None } else { block }
    }

    /// The fewest CIDR blocks with exactly the addresses of this range, in order.
    ///
    /// ```
    /// let range: edgefold_table::IpRange = "10.0.0.1-10.0.0.4".parse()?;
    /// let blocks: Vec<String> = range.cidrs().map(|block| block.to_string()).collect();
    /// assert_eq!(blocks, ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32"]);
    /// # Ok::<(), edgefold_table::ParseRangeError>(())
    /// ```
    pub fn cidrs(self) -> impl Iterator<Item = IpNet> {
        match self {
            Self::V4(range) => IpSubnets::V4(Ipv4Subnets::new(range.first(), range.last(), 0)),
            Self::V6(range) => IpSubnets::V6(Ipv6Subnets::new(range.first(), range.last(), 0)),
        }
    }

    /// The shortest text that reads back as this range: an address, a CIDR block where it is one, else `first-last`.
    pub fn shortest_text(self) -> String {
        match self.cidr() {
            Some(block) if self.first() != self.last() => block.to_string(),
            _ => self.to_string(),
        }
    }
}

/// Why a text is not a range.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseRangeError {
    /// There is no text where an address should be.
    #[error("an address is missing: write an address, a CIDR block, or first-last")]
    NoAddress,
    /// The text is not an address.
    #[error("{text:?} is not an IP address: write an address, a CIDR block, or first-last")]
    Address {
        /// What was found.
        text: String,
    },
    /// An IPv4 address of two or three octets.
    #[error("{text:?} has {found} octets: write all 4, as in 10.0.0.1")]
    Octets {
        /// What was found.
        text: String,
        /// How many octets it has.
        found: usize,
    },
    /// An octet with a leading zero.
    #[error("octet {octet:?} of {text:?} has a leading zero, which some programs read as octal: write it without")]
    LeadingZero {
        /// What was found.
        text: String,
        /// The octet.
        octet: String,
    },
    /// An IPv6 address with a zone.
    #[error("{text:?} has a zone, which only means something on one machine: write the address without it")]
    Zone {
        /// What was found.
        text: String,
    },
    /// A prefix length that is not a number, or too large.
    #[error("prefix length {found:?} is not a number from 0 to {longest}")]
    PrefixLength {
        /// What was found.
        found: String,
        /// The longest prefix of the family.
        longest: u8,
    },
    /// An address inside the block instead of its network address.
    #[error("{text} has host bits set: write {block} for the block or {single} for the one address")]
    HostBits {
        /// What was found.
        text: String,
        /// The block that contains the address.
        block: IpNet,
        /// The address as a block of its own.
        single: IpNet,
    },
    /// Both addresses are valid, but together they are not a range.
    #[error(transparent)]
    Range(#[from] RangeError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_programs_disagree_about_is_refused_by_what_is_wrong_with_it() {
        let refused = |text: &str| parse_address(text).unwrap_err();
        assert_eq!(refused(""), ParseRangeError::NoAddress);
        for (text, found) in [("10.7", 2), ("10.0.7", 3)] {
            assert_eq!(refused(text), ParseRangeError::Octets { text: text.to_owned(), found });
        }
        let leading = ParseRangeError::LeadingZero { text: "010.0.0.7".to_owned(), octet: "010".to_owned() };
        assert_eq!(refused("010.0.0.7"), leading);
        assert_eq!(refused("fe80::1%eth0"), ParseRangeError::Zone { text: "fe80::1%eth0".to_owned() });
        for text in ["10.0.0.x", "10.0.0.0.0", "10", "host.example"] {
            assert_eq!(refused(text), ParseRangeError::Address { text: text.to_owned() }, "{text}");
        }
    }

    #[test]
    fn every_form_is_read_and_its_shortest_text_reads_back() {
        for (text, written, shortest) in [
            ("10.0.0.100", "10.0.0.100", "10.0.0.100"),
            ("10.0.0.100/32", "10.0.0.100", "10.0.0.100"),
            ("10.0.0.0/24", "10.0.0.0-10.0.0.255", "10.0.0.0/24"),
            ("0.0.0.0/0", "0.0.0.0-255.255.255.255", "0.0.0.0/0"),
            ("10.0.0.1-10.0.0.255", "10.0.0.1-10.0.0.255", "10.0.0.1-10.0.0.255"),
            ("10.0.0.1-10.0.0.2", "10.0.0.1-10.0.0.2", "10.0.0.1-10.0.0.2"),
            ("2001:db8::/127", "2001:db8::-2001:db8::1", "2001:db8::/127"),
            ("2001:DB8::1", "2001:db8::1", "2001:db8::1"),
            ("::/0", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"),
            ("::ffff:10.0.0.0/120", "10.0.0.0-10.0.0.255", "10.0.0.0/24"),
            ("::ffff:0:0/96", "0.0.0.0-255.255.255.255", "0.0.0.0/0"),
        ] {
            let range: IpRange = text.parse().unwrap();
            assert_eq!((range.to_string(), range.shortest_text()), (written.to_owned(), shortest.to_owned()), "{text}");
            assert_eq!((written.parse(), shortest.parse()), (Ok(range), Ok(range)));
            assert_eq!(range.cidr().is_some(), !shortest.contains('-'), "{text}");
        }
    }
}
