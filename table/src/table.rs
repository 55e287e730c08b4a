//! The range table: sorted, disjoint ranges, encoded once and searched in place.
//!
//! Layout of version 1, all integers little-endian: two counts, then the IPv4 pairs, then the IPv6 pairs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use crate::{Address, AddressRange, IpRange};

/// Bytes of the two counts in front of the pairs.
const COUNTS_BYTES: usize = 8;

/// An address family as it lies in the table: one fixed-size pair of first and last address for each range.
trait Family: Address {
    type Pair: 'static;
    const NAME: &'static str;

    fn pairs(bytes: &[u8]) -> &[Self::Pair];
    fn decode(pair: &Self::Pair) -> (Self, Self);
    fn encode(range: AddressRange<Self>, out: &mut Vec<u8>);
}

impl Family for Ipv4Addr {
    type Pair = [u8; 8];
    const NAME: &'static str = "IPv4";

    fn pairs(bytes: &[u8]) -> &[Self::Pair] {
        bytes.as_chunks().0
    }

    fn decode(&[a, b, c, d, e, f, g, h]: &Self::Pair) -> (Self, Self) {
        let address = |bytes| Self::from_bits(u32::from_le_bytes(bytes));
        (address([a, b, c, d]), address([e, f, g, h]))
    }

    fn encode(range: AddressRange<Self>, out: &mut Vec<u8>) {
        out.extend_from_slice(&range.first().to_bits().to_le_bytes());
        out.extend_from_slice(&range.last().to_bits().to_le_bytes());
    }
}

impl Family for Ipv6Addr {
    type Pair = [[u8; 16]; 2];
    const NAME: &'static str = "IPv6";

    fn pairs(bytes: &[u8]) -> &[Self::Pair] {
        bytes.as_chunks().0.as_chunks().0
    }

    fn decode([first, last]: &Self::Pair) -> (Self, Self) {
        let address = |bytes: &[u8; 16]| Self::from_bits(u128::from_le_bytes(*bytes));
        (address(first), address(last))
    }

    fn encode(range: AddressRange<Self>, out: &mut Vec<u8>) {
        out.extend_from_slice(&range.first().to_bits().to_le_bytes());
        out.extend_from_slice(&range.last().to_bits().to_le_bytes());
    }
}

/// A validated table over bytes of any owner: a `Vec<u8>`, a `&[u8]`, a memory map.
#[derive(Clone, Debug)]
pub struct Table<B> {
    bytes: B,
    v4: Range<usize>,
    v6: Range<usize>,
}

/// A range that holds the address asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Match {
    /// The range.
    pub range: IpRange,
    /// Its place among the table's ranges of the same family, from 0.
    pub index: usize,
}

impl<B: AsRef<[u8]>> Table<B> {
    /// Validates `bytes` as one whole table: the length fits the counts, every range has `first <= last`, and the ranges
    /// are sorted, disjoint and not touching. One pass, nothing copied.
    ///
    /// # Errors
    /// [`TableError`] with the byte offset within the table.
    pub fn open(bytes: B) -> Result<Self, TableError> {
        let slice = bytes.as_ref();
        let found = slice.len();
        let Some(&[counts_v4, counts_v6]) =
            slice.get(..COUNTS_BYTES).and_then(|counts| counts.as_chunks().0.as_array())
        else {
            return Err(TableError::Length { expected: COUNTS_BYTES as u64, found });
        };
        // In u64, since a wasm usize cannot hold the length that a hostile count asks for.
        let v4_bytes = u64::from(u32::from_le_bytes(counts_v4)) * size_of::<<Ipv4Addr as Family>::Pair>() as u64;
        let v6_bytes = u64::from(u32::from_le_bytes(counts_v6)) * size_of::<<Ipv6Addr as Family>::Pair>() as u64;
        let expected = COUNTS_BYTES as u64 + v4_bytes + v6_bytes;
        if expected != found as u64 {
            return Err(TableError::Length { expected, found });
        }
        // Lossless: v4_bytes is at most the length of the slice.
        let middle = COUNTS_BYTES + usize::try_from(v4_bytes).unwrap_or(found);
        let table = Self { v4: COUNTS_BYTES..middle, v6: middle..found, bytes };
        validate::<Ipv4Addr>(table.section(&table.v4), table.v4.start)?;
        validate::<Ipv6Addr>(table.section(&table.v6), table.v6.start)?;
        Ok(table)
    }

    /// Whether a range of the table holds `ip`. An IPv4-mapped IPv6 address is the IPv4 address in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.find(ip).is_some()
    }

    /// The range that holds `ip`, and its place. An IPv4-mapped IPv6 address is the IPv4 address in it.
    pub fn find(&self, ip: IpAddr) -> Option<Match> {
        match ip.to_canonical() {
            IpAddr::V4(address) => search(self.section(&self.v4), address),
            IpAddr::V6(address) => search(self.section(&self.v6), address),
        }
    }

    /// All ranges in order, IPv4 before IPv6.
    pub fn iter(&self) -> impl Iterator<Item = IpRange> {
        let v4 = Ipv4Addr::pairs(self.section(&self.v4)).iter().filter_map(range::<Ipv4Addr>);
        let v6 = Ipv6Addr::pairs(self.section(&self.v6)).iter().filter_map(range::<Ipv6Addr>);
        v4.map(IpRange::from).chain(v6.map(IpRange::from))
    }

    /// How many IPv4 ranges the table holds.
    pub fn ipv4_ranges(&self) -> usize {
        Ipv4Addr::pairs(self.section(&self.v4)).len()
    }

    /// How many IPv6 ranges the table holds.
    pub fn ipv6_ranges(&self) -> usize {
        Ipv6Addr::pairs(self.section(&self.v6)).len()
    }

    /// Empty, rather than a panic, if `B` gives other bytes now than it gave at `open`.
    fn section(&self, section: &Range<usize>) -> &[u8] {
        self.bytes.as_ref().get(section.clone()).unwrap_or_default()
    }
}

fn range<A: Family>(pair: &A::Pair) -> Option<AddressRange<A>> {
    let (first, last) = A::decode(pair);
    AddressRange::new(first, last).ok()
}

fn search<A: Family>(bytes: &[u8], address: A) -> Option<Match>
where
    IpRange: From<AddressRange<A>>,
{
    let pairs = A::pairs(bytes);
    let index = pairs.partition_point(|pair| A::decode(pair).0 <= address).checked_sub(1)?;
    let candidate = range::<A>(pairs.get(index)?)?;
    candidate.contains(address).then(|| Match { range: candidate.into(), index })
}

fn validate<A: Family>(bytes: &[u8], start: usize) -> Result<(), TableError> {
    let mut previous: Option<A> = None;
    for (index, pair) in A::pairs(bytes).iter().enumerate() {
        let (first, last) = A::decode(pair);
        let wrong = |what| {
            let offset = start + index * size_of::<A::Pair>();
            TableError::Range { family: A::NAME, index, offset, first: first.into(), last: last.into(), what }
        };
        if first > last {
            return Err(wrong("its last address is below its first"));
        }
        if let Some(previous) = previous {
            if first <= previous {
                return Err(wrong("it overlaps or precedes the range before it"));
            }
            if previous.successor() == Some(first) {
                return Err(wrong("it touches the range before it"));
            }
        }
        previous = Some(last);
    }
    Ok(())
}

/// Appends the table of `ranges` to `out`. The ranges come sorted, IPv4 before IPv6, disjoint and not touching.
///
/// # Errors
/// [`EncodeError`] with both offending ranges; `out` is then as long as it was before.
pub fn encode(ranges: impl IntoIterator<Item = IpRange>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let encoded = append(ranges, start, out);
    if encoded.is_err() {
        out.truncate(start);
    }
    encoded
}

fn append(ranges: impl IntoIterator<Item = IpRange>, start: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let (mut v4, mut v6) = (0_u32, 0_u32);
    let mut previous: Option<IpRange> = None;
    out.extend_from_slice(&[0; COUNTS_BYTES]);
    for next in ranges {
        if let Some(previous) = previous {
            in_order(previous, next)?;
        }
        let count = match next {
            IpRange::V4(range) => {
                Ipv4Addr::encode(range, out);
                &mut v4
            }
            IpRange::V6(range) => {
                Ipv6Addr::encode(range, out);
                &mut v6
            }
        };
        *count = count.checked_add(1).ok_or(EncodeError::TooMany)?;
        previous = Some(next);
    }
    if let Some([first, second]) =
        out.get_mut(start..start + COUNTS_BYTES).and_then(|counts| counts.as_chunks_mut().0.as_mut_array())
    {
        *first = v4.to_le_bytes();
        *second = v6.to_le_bytes();
    }
    Ok(())
}

fn in_order(previous: IpRange, next: IpRange) -> Result<(), EncodeError> {
    match (previous, next) {
        (IpRange::V4(before), IpRange::V4(after)) => neighbours_in_order(before, after),
        (IpRange::V6(before), IpRange::V6(after)) => neighbours_in_order(before, after),
        (IpRange::V4(_), IpRange::V6(_)) => Ok(()),
        (IpRange::V6(_), IpRange::V4(_)) => Err(EncodeError::Unsorted { previous, next }),
    }
}

fn neighbours_in_order<A: Family>(before: AddressRange<A>, after: AddressRange<A>) -> Result<(), EncodeError>
where
    IpRange: From<AddressRange<A>>,
{
    let (previous, next) = (before.into(), after.into());
    if after.last() < before.first() {
        Err(EncodeError::Unsorted { previous, next })
    } else if after.first() <= before.last() {
        Err(EncodeError::Overlapping { previous, next })
    } else if before.last().successor() == Some(after.first()) {
        Err(EncodeError::Touching { previous, next })
    } else {
        Ok(())
    }
}

/// Why ranges cannot be encoded.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A range comes after one that it should precede.
    #[error("range {next} comes after {previous}: ranges must be sorted, IPv4 before IPv6")]
    Unsorted {
        /// The range before.
        previous: IpRange,
        /// The range that is out of order.
        next: IpRange,
    },
    /// Two neighbours share addresses.
    #[error("range {next} overlaps {previous}: ranges must be disjoint")]
    Overlapping {
        /// The range before.
        previous: IpRange,
        /// The range that overlaps it.
        next: IpRange,
    },
    /// Two neighbours have no address between them.
    #[error("range {next} touches {previous}: write them as one range")]
    Touching {
        /// The range before.
        previous: IpRange,
        /// The range that touches it.
        next: IpRange,
    },
    /// More ranges than a count of 32 bits holds.
    #[error("more than {} ranges of one family", u32::MAX)]
    TooMany,
}

/// Why bytes are no table. Offsets are in bytes from the table's start.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The length does not fit the counts.
    #[error("the table is {found} bytes long, but its counts ask for {expected}")]
    Length {
        /// Bytes that the counts ask for.
        expected: u64,
        /// Bytes there are.
        found: usize,
    },
    /// A range breaks the order that lookup relies on.
    #[error("{family} range {index} at offset {offset}, {first} to {last}: {what}")]
    Range {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The range's place among those of its family, from 0.
        index: usize,
        /// Where it lies.
        offset: usize,
        /// Its first address.
        first: IpAddr,
        /// Its last address.
        last: IpAddr,
        /// What is wrong.
        what: &'static str,
    },
}
