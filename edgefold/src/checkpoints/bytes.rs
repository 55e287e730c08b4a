//! How checkpoints write ranges of addresses: sorted and disjoint, as varints of the gaps between them. And what all their files
//! have in common.

use std::net::{Ipv4Addr, Ipv6Addr};

use edgefold_table::{Address, AddressRange};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::{GRAMMAR, LogTime, Position, RecordHash};

/// The version of everything that is written here. Bytes of another version, or of another grammar, are not read.
const FORMAT: u32 = 1;
const CHECKSUM_BYTES: usize = 8;

/// The first part of a file.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Header {
    magic: [u8; 8],
    format: u32,
    grammar: u32,
}

impl Header {
    fn new(magic: [u8; 8]) -> Self {
        Self { magic, format: FORMAT, grammar: GRAMMAR }
    }
}

/// Starts a file.
pub(super) fn start(magic: [u8; 8]) -> Vec<u8> {
    put(&Header::new(magic), Vec::new())
}

/// Ends a file with its checksum.
pub(super) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend(xxh3_64(&bytes).to_le_bytes());
    bytes
}

/// Checks the checksum and the version of a file, and returns what is between them.
pub(super) fn open(bytes: &[u8], magic: [u8; 8]) -> Option<&[u8]> {
    let (bytes, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    if xxh3_64(bytes).to_le_bytes() != *checksum {
        return None;
    }
    let (header, rest) = postcard::take_from_bytes::<Header>(bytes).ok()?;
    (header == Header::new(magic)).then_some(rest)
}

/// Appends a value.
pub(super) fn put(value: &impl Serialize, bytes: Vec<u8>) -> Vec<u8> {
    // The only error is that of a writer that is full, which a `Vec` never is.
    postcard::to_extend(value, bytes).unwrap_or_default()
}

/// Takes a value from the front.
pub(super) fn take<'a, T: Deserialize<'a>>(bytes: &mut &'a [u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    *bytes = rest;
    Some(value)
}

/// A [`Position`], in bytes.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct PositionBytes {
    next_offset: u64,
    log_time: u64,
    last_record: Option<u64>,
}

impl From<Position> for PositionBytes {
    fn from(Position { next_offset, log_time, last_record }: Position) -> Self {
        Self { next_offset, log_time: log_time.millis(), last_record: last_record.map(RecordHash::bits) }
    }
}

impl PositionBytes {
    pub(super) fn position(self) -> Option<Position> {
        let Self { next_offset, log_time, last_record } = self;
        let log_time = LogTime::from_millis(log_time)?;
        // Without it, nobody can prove that it is the same log.
        if last_record.is_some() != (next_offset > 0) {
            return None;
        }
        Some(Position { next_offset, log_time, last_record: last_record.map(RecordHash::from_bits) })
    }
}

/// An address as a number. A gap between two addresses is the address with that number.
pub(super) trait Number: Address {
    /// The gap from `before`, which is not above it.
    fn gap(self, before: Self) -> Self;

    /// The address at this gap; `None` if there is none.
    fn after(self, gap: Self) -> Option<Self>;

    /// Appends it, with two bits more.
    fn put(self, bits: u8, bytes: &mut Vec<u8>);

    /// Takes what [`Number::put`] has appended.
    fn take(bytes: &mut &[u8]) -> Option<(Self, u8)>;
}

impl Number for Ipv4Addr {
    #[inline]
    fn gap(self, before: Self) -> Self {
        Self::from_bits(self.to_bits().wrapping_sub(before.to_bits()))
    }

    #[inline]
    fn after(self, gap: Self) -> Option<Self> {
        self.to_bits().checked_add(gap.to_bits()).map(Self::from_bits)
    }

    #[inline]
    fn put(self, bits: u8, bytes: &mut Vec<u8>) {
        put_number(u64::from(self.to_bits()) << 2 | u64::from(bits), bytes);
    }

    #[inline]
    fn take(bytes: &mut &[u8]) -> Option<(Self, u8)> {
        let number = take::<u64>(bytes)?;
        Some((Self::from_bits(u32::try_from(number >> 2).ok()?), u8::try_from(number & 3).ok()?))
    }
}

impl Number for Ipv6Addr {
    fn gap(self, before: Self) -> Self {
        Self::from_bits(self.to_bits().wrapping_sub(before.to_bits()))
    }

    fn after(self, gap: Self) -> Option<Self> {
        self.to_bits().checked_add(gap.to_bits()).map(Self::from_bits)
    }

    fn put(self, bits: u8, bytes: &mut Vec<u8>) {
        bytes.push(bits);
        *bytes = put(&self.to_bits(), std::mem::take(bytes));
    }

    fn take(bytes: &mut &[u8]) -> Option<(Self, u8)> {
        let bits = take::<u8>(bytes)?;
        Some((Self::from_bits(take::<u128>(bytes)?), bits))
    }
}

/// Appends a number as a varint of postcard: seven bits in each byte, the low ones first, and the eighth bit of all but the last.
/// With [`put`], which goes through serde and a buffer, encoding a fold took twice as long.
#[inline]
pub(super) fn put_number(mut number: u64, bytes: &mut Vec<u8>) {
    let low_bits = |number: u64| (number & 0x7f) as u8;
    while number > 0x7f {
        bytes.push(low_bits(number) | 0x80);
        number >>= 7;
    }
    bytes.push(low_bits(number));
}

/// The bit of a range of more than one address.
const IS_LONG: u8 = 1;

/// Appends a range, of which the last address before it is `before`, with one bit more.
#[inline]
pub(super) fn put_range<A: Number>(range: AddressRange<A>, before: Option<A>, bit: bool, bytes: &mut Vec<u8>) {
    let is_long = range.first() != range.last();
    let bits = if is_long { IS_LONG } else { 0 } | u8::from(bit) << 1;
    range.first().gap(before.unwrap_or(A::FIRST)).put(bits, bytes);
    if is_long {
        range.last().gap(range.first()).put(0, bytes);
    }
}

/// Takes what [`put_range`] has appended.
#[inline]
pub(super) fn take_range<A: Number>(before: Option<A>, bytes: &mut &[u8]) -> Option<(AddressRange<A>, bool)> {
    let (gap, bits) = A::take(bytes)?;
    let first = before.unwrap_or(A::FIRST).after(gap)?;
    let last = if bits & IS_LONG == 0 { first } else { first.after(A::take(bytes)?.0)? };
    Some((AddressRange::new(first, last).ok()?, bits & 2 != 0))
}
