//! A range as people write it: an address, a CIDR block, or `first-last`.

use std::net::{IpAddr, Ipv6Addr};

use edgefold_table::{IpRange, RangeError};
use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};

/// Reads an address, a CIDR block (all its addresses, the network address included) or `first-last` (both included), IPv4
/// or IPv6. IPv4-mapped IPv6 is the IPv4 address in it.
///
/// # Errors
/// [`RangeTextError`] says what is wrong and what would be right.
pub fn parse_range(text: &str) -> Result<IpRange, RangeTextError> {
    if let Some((first, last)) = text.split_once('-') {
        return Ok(IpRange::new(parse_address(first)?, parse_address(last)?)?);
    }
    if let Some((address, length)) = text.split_once('/') {
        return parse_block(parse_address(address)?, length);
    }
    let address = parse_address(text)?;
    Ok(IpRange::new(address, address)?)
}

fn parse_block(address: IpAddr, length: &str) -> Result<IpRange, RangeTextError> {
    let most = if address.is_ipv4() { 32 } else { 128 };
    let plain = length.bytes().all(|byte| byte.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let block = length.parse().ok().filter(|_| plain).and_then(|length| IpNet::new(address, length).ok());
    let block = block.ok_or_else(|| RangeTextError::PrefixLength { found: shorten(length), most })?;
    if block.addr() != block.network() {
        let (block, single) = (block.trunc(), IpNet::from(address));
        return Err(RangeTextError::HostBits { text: format!("{address}/{length}"), block, single });
    }
    Ok(IpRange::new(block.network(), block.broadcast())?)
}

/// Reads one address, in the forms of RFC 4291 and the four decimal octets of RFC 6943, section 3.1.1: no octal, no short
/// forms, which different programs read as different addresses.
///
/// # Errors
/// [`RangeTextError`] says what is wrong and what would be right.
pub fn parse_address(text: &str) -> Result<IpAddr, RangeTextError> {
    text.parse().map_err(|_| {
        let shown = shorten(text);
        let octets: Vec<_> = text.split('.').collect();
        let like_ipv4 = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if text.is_empty() {
            RangeTextError::NoAddress
        } else if text.contains('%') {
            RangeTextError::Zone { text: shown }
        } else if let Some(octet) = octets.iter().find(|octet| like_ipv4 && octet.len() > 1 && octet.starts_with('0')) {
            RangeTextError::LeadingZero { text: shown, octet: shorten(octet) }
        } else if like_ipv4 && matches!(octets.len(), 2 | 3) {
            RangeTextError::Octets { text: shown, found: octets.len() }
        } else {
            RangeTextError::Address { text: shown }
        }
    })
}

/// The text of a range: an address, a CIDR block where it is one, else `first-last`.
pub fn range_text(range: IpRange) -> String {
    let mut blocks = match range {
        IpRange::V4(range) => IpSubnets::V4(Ipv4Subnets::new(range.first(), range.last(), 0)),
        IpRange::V6(range) => IpSubnets::V6(Ipv6Subnets::new(range.first(), range.last(), 0)),
    };
    match (blocks.next(), blocks.next()) {
        (Some(block), None) if range.first() != range.last() => block.to_string(),
        _ => range.to_string(),
    }
}

/// The first and the last IPv4-mapped address (RFC 4291, section 2.5.5.2). They are IPv4 everywhere in edgefold, so no IPv6
/// range holds them.
pub(crate) const MAPPED: (Ipv6Addr, Ipv6Addr) =
    (Ipv6Addr::from_bits(0xffff_0000_0000), Ipv6Addr::from_bits(0xffff_ffff_ffff));

/// Enough of a text to recognise it by, so that hostile input does not flood a terminal.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Why a text is no range.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeTextError {
    /// Nothing stands where an address should.
    #[error("an address is missing: write an address, a CIDR block, or first-last")]
    NoAddress,
    /// The text is no address.
    #[error("{text:?} is no IP address: write an address, a CIDR block, or first-last")]
    Address {
        /// What was found.
        text: String,
    },
    /// An IPv4 address of two or three octets.
    #[error("{text:?} is {found} octets: write all 4, as in 10.0.0.1")]
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
    #[error("{text:?} has a zone, which means something on one machine only: write the address without it")]
    Zone {
        /// What was found.
        text: String,
    },
    /// A prefix length that is no number, or too large.
    #[error("prefix length {found:?} is no number from 0 to {most}")]
    PrefixLength {
        /// What was found.
        found: String,
        /// The longest prefix of the family.
        most: u8,
    },
    /// An address inside the block instead of its network address.
    #[error("{text} has host bits set: write {block} for the block or {single} for the one address")]
    HostBits {
        /// What was found.
        text: String,
        /// The block that the address lies in.
        block: IpNet,
        /// The address as a block of its own.
        single: IpNet,
    },
    /// Both addresses are good, but together they are no range.
    #[error(transparent)]
    Range(#[from] RangeError),
}
