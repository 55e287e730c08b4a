//! The range table: sorted, disjoint ranges, encoded once and searched in place.
//!
//! A table is the length of its IPv4 section as a u32, that section, and the IPv6 section. A family without ranges has an
//! empty section.

use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::Range;

use crate::bytes::u32_at;
use crate::section::{Layout, Refused, Section};
use crate::{Address, AddressRange, IpRange, v4, v6};

/// Bytes of the length of the IPv4 section.
const LENGTH_BYTES: usize = 4;

/// A validated table over bytes of any owner: a `Vec<u8>`, a `&[u8]`, a memory map.
#[derive(Clone, Copy, Debug)]
pub struct Table<B> {
    bytes: B,
    v4: Section<v4::Layout>,
    v6: Section<v6::Layout>,
}

impl<B> Table<B> {
    /// The same table over a copy of its bytes, or a borrow of them. Bytes that differ give wrong answers, never a panic.
    ///
    /// So whoever has several tables in one buffer can keep them without their bytes, and borrow those to look something up:
    ///
    /// ```
    /// use edgefold_table::{Table, encode};
    ///
    /// let mut bytes = Vec::new();
    /// encode(["10.0.0.0/24".parse()?], &mut bytes)?;
    /// let kept: Table<()> = Table::open(bytes.as_slice())?.with_bytes(());
    /// assert!(kept.with_bytes(bytes.as_slice()).contains("10.0.0.7".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn with_bytes<C>(&self, bytes: C) -> Table<C> {
        Table { bytes, v4: self.v4, v6: self.v6 }
    }

    /// As [`Table::contains`] on a table with these bytes, which must be equal: see [`Table::with_bytes`].
    #[inline]
    pub fn contains_in(&self, bytes: &[u8], ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(address) => self.v4.contains(bytes, address.to_bits()),
            IpAddr::V6(address) => self.v6.contains(bytes, address.to_bits()),
        }
    }

    /// How many IPv4 ranges the table holds.
    pub fn ipv4_ranges(&self) -> usize {
        self.v4.ranges()
    }

    /// How many IPv6 ranges the table holds.
    pub fn ipv6_ranges(&self) -> usize {
        self.v6.ranges()
    }
}

impl<B: AsRef<[u8]>> Table<B> {
    /// Validates `bytes` as one whole table: everything that lookups rely on, and that the ranges are sorted, disjoint and not
    /// touching. It takes one pass, and allocates nothing.
    ///
    /// # Errors
    /// [`TableError`] says which chunk of which family is wrong, and how.
    pub fn open(bytes: B) -> Result<Self, TableError> {
        let [v4, v6] = sections(bytes.as_ref())?;
        let v4 = Section::open(bytes.as_ref(), v4).map_err(refused::<v4::Layout>)?;
        let v6 = Section::open(bytes.as_ref(), v6).map_err(refused::<v6::Layout>)?;
        Ok(Self { bytes, v4, v6 })
    }

    /// Opens `bytes` that [`Table::open`] has validated before, with their number of ranges of each family: the chunks are not
    /// read again. Unvalidated bytes give wrong answers, never a panic.
    ///
    /// # Errors
    /// [`TableError`] if an index is damaged.
    pub fn open_known(bytes: B, ipv4_ranges: u32, ipv6_ranges: u32) -> Result<Self, TableError> {
        let [v4, v6] = sections(bytes.as_ref())?;
        let v4 = Section::open_known(bytes.as_ref(), v4, ipv4_ranges as usize).map_err(refused::<v4::Layout>)?;
        let v6 = Section::open_known(bytes.as_ref(), v6, ipv6_ranges as usize).map_err(refused::<v6::Layout>)?;
        Ok(Self { bytes, v4, v6 })
    }

    /// Whether a range of the table contains `ip`. An IPv4-mapped IPv6 address is looked up as the IPv4 address in it.
    #[inline]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.contains_in(self.bytes.as_ref(), ip)
    }

    /// The range that contains `ip`. An IPv4-mapped IPv6 address is looked up as the IPv4 address in it.
    ///
    /// This costs a few lookups, however many addresses the range has.
    pub fn range(&self, ip: IpAddr) -> Option<IpRange> {
        let bytes = self.bytes.as_ref();
        match ip.to_canonical() {
            IpAddr::V4(address) => self.v4.range(bytes, address.to_bits()).map(IpRange::from),
            IpAddr::V6(address) => self.v6.range(bytes, address.to_bits()).map(IpRange::from),
        }
    }

    /// All ranges in order, IPv4 before IPv6. They are decoded chunk by chunk.
    pub fn iter(&self) -> impl Iterator<Item = IpRange> {
        let bytes = self.bytes.as_ref();
        self.v4.iter(bytes).map(IpRange::from).chain(self.v6.iter(bytes).map(IpRange::from))
    }
}

impl<'a> Table<&'a [u8]> {
    /// As [`Table::iter`], for a table that only borrows its bytes.
    pub fn into_ranges(self) -> impl Iterator<Item = IpRange> + 'a {
        self.v4.iter(self.bytes).map(IpRange::from).chain(self.v6.iter(self.bytes).map(IpRange::from))
    }
}

/// Where the two sections are.
fn sections(table: &[u8]) -> Result<[Range<usize>; 2], TableError> {
    let found = table.len();
    let length = u32_at(table, 0).ok_or(TableError::Length { expected: LENGTH_BYTES as u64, found })?;
    // In u64, since a wasm usize cannot hold the length that a hostile table claims.
    let expected = LENGTH_BYTES as u64 + u64::from(length);
    if expected > found as u64 {
        return Err(TableError::Length { expected, found });
    }
    let middle = LENGTH_BYTES + length as usize;
    Ok([LENGTH_BYTES..middle, middle..found])
}

fn refused<L: Layout>(Refused { chunk, what }: Refused) -> TableError {
    match chunk {
        Some(chunk) => TableError::Chunk { family: L::FAMILY, chunk, what },
        None => TableError::Section { family: L::FAMILY, what },
    }
}

/// Appends the table of `ranges` to `out`. The ranges must be sorted, IPv4 before IPv6, disjoint and not touching.
///
/// # Errors
/// [`EncodeError`] with both offending ranges; `out` then has the length it had before.
pub fn encode(ranges: impl IntoIterator<Item = IpRange>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let encoded = append(ranges, start, out);
    if encoded.is_err() {
        out.truncate(start);
    }
    encoded
}

fn append(ranges: impl IntoIterator<Item = IpRange>, start: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let (mut v4, mut v6) = (v4::Encoder::default(), v6::Encoder::default());
    let (mut before4, mut before6) = (None, None);
    for next in ranges {
        match (next, before6) {
            (IpRange::V4(range), None) => {
                in_order(before4, range)?;
                before4 = Some(range);
                v4.push(range);
            }
            (IpRange::V4(_), Some(previous)) => {
                return Err(EncodeError::Unsorted { previous: IpRange::V6(previous), next });
            }
            (IpRange::V6(range), _) => {
                in_order(before6, range)?;
                before6 = Some(range);
                v6.push(range);
            }
        }
    }
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    v4.write(out);
    let length = u32::try_from(out.len() - start - LENGTH_BYTES).map_err(|_| EncodeError::TooMany)?;
    if let Some(place) = out.get_mut(start..start + LENGTH_BYTES) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    v6.write(out).map_err(|_too_large| EncodeError::TooMany)
}

#[inline]
fn in_order<A: Address>(before: Option<AddressRange<A>>, next: AddressRange<A>) -> Result<(), EncodeError>
where
    IpRange: From<AddressRange<A>>,
{
    match before {
        Some(before) if before.last() >= next.first() || before.touches(next) => Err(out_of_order(before, next)),
        _ => Ok(()),
    }
}

#[cold]
fn out_of_order<A: Address>(before: AddressRange<A>, after: AddressRange<A>) -> EncodeError
where
    IpRange: From<AddressRange<A>>,
{
    let (previous, next) = (before.into(), after.into());
    if after.last() < before.first() {
        EncodeError::Unsorted { previous, next }
    } else if after.first() <= before.last() {
        EncodeError::Overlapping { previous, next }
    } else {
        EncodeError::Touching { previous, next }
    }
}

/// Why ranges cannot be encoded.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A range comes after one that it should come before.
    #[error("range {next} comes after {previous}: ranges must be sorted, IPv4 before IPv6")]
    Unsorted {
        /// The range before.
        previous: IpRange,
        /// The range that is out of order.
        next: IpRange,
    },
    /// Two neighbours overlap.
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
    /// More ranges than the format can hold.
    #[error("the IPv6 ranges take more than 256 MiB: put some of them into another table")]
    TooMany,
}

/// Why bytes are not a table. Lengths are in bytes.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The bytes end before the IPv4 section does.
    #[error("the table is {found} bytes long, but needs at least {expected}")]
    Length {
        /// Bytes needed at least.
        expected: u64,
        /// Bytes found.
        found: usize,
    },
    /// The section of a family is invalid.
    #[error("the {family} section is damaged: {what}")]
    Section {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// A chunk of a section is invalid, or breaks the order that lookups rely on.
    #[error("chunk {chunk} of the {family} section is damaged: {what}")]
    Chunk {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The chunk's index in the section, from 0.
        chunk: usize,
        /// What is wrong.
        what: &'static str,
    },
}
