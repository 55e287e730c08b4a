//! Valid snapshots, and mutations of them.

use std::sync::OnceLock;

use edgefold_snapshot::{Generation, NewSnapshot, Settings, Snapshot};
use edgefold_table::{IpRange, encode};

use super::CHECKSUM_BYTES;
use super::input::{range4, range6};

const CHUNK: u32 = 1 << 15;
const PADDING_BYTES: usize = 32;
const HEADER_OFFSET: usize = 16;
/// The bits of the finest index.
const FINE: u8 = 17;

/// A snapshot and its parts, so that mutations reach every part whatever its size.
#[derive(Clone)]
pub(super) struct Base {
    bytes: Vec<u8>,
    /// Ascending offsets into `bytes`.
    parts: Parts,
}

/// Where the parts of a snapshot start. If a family has no ranges, its chunks start where its section does.
#[derive(Clone, Copy)]
struct Parts {
    table: usize,
    v4_chunks: usize,
    v6: usize,
    v6_chunks: usize,
    checksum: usize,
}

/// The snapshot of `ranges`, which must be in order.
pub(super) fn of(ranges: &[IpRange]) -> Base {
    let generation = Generation { epoch: 0, next_offset: 300, expiry: Some(70_000) };
    let settings = &Settings::default();
    let new = NewSnapshot { name: "fuzzed", generation, as_of: 1 << 40, settings, cut_at: 0 };
    let bytes = with_long_number(new.encode_default_list(ranges.iter().copied()).unwrap());
    Base { parts: Parts::of(&bytes), bytes: super::sealed(bytes) }
}

/// The length of the table is the last number of the header. Here it gets the longest form, so that [`Base::mend`] can change it.
fn with_long_number(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = Parts::of(&bytes).table;
    let table_bytes = bytes.len() - CHECKSUM_BYTES - end;
    let start = end
        - if table_bytes < 251 {
            1
        } else if u16::try_from(table_bytes).is_ok() {
            3
        } else {
            5
        };
    let number = [&[0xfc][..], &(table_bytes as u32).to_le_bytes()].concat();
    bytes.splice(start..end, number);
    let header_bytes = (start + 5 - HEADER_OFFSET) as u32;
    bytes[HEADER_OFFSET - 4..HEADER_OFFSET].copy_from_slice(&header_bytes.to_le_bytes());
    bytes
}

/// A snapshot with every kind of chunk of the finest IPv4 index and of IPv6. It is made once.
pub(super) fn fine() -> Base {
    static FINE_BASE: OnceLock<Base> = OnceLock::new();
    FINE_BASE.get_or_init(made_fine).clone()
}

/// The encoder chooses the finest index only for many edges, which would be slow to check for each input. So most of
/// the edges go into the last group of the index, and are then cut off. This does not change what comes before them.
fn made_fine() -> Base {
    const GROUP_BYTES: usize = 4 + 16 * 2;
    let kept = [every_kind_of_ipv4(), every_kind_of_ipv6()].concat();
    let ipv4_ranges = kept.iter().take_while(|range| matches!(range, IpRange::V4(_))).count();
    let dense = (u32::MAX - 12 * CHUNK + 2..u32::MAX - 2).step_by(3);
    let dense = dense.map(|first| range4(first.into(), u128::from(first) + 1));
    let mut all = kept.clone();
    all.splice(ipv4_ranges..ipv4_ranges, dense);
    let mut table = Vec::new();
    encode(all, &mut table).unwrap();

    let with_dense = Parts::of_table(&table, 0);
    assert_eq!(table[4], FINE, "the base does not have the finest index");
    let units_end = with_dense.v4_chunks - 4;
    let last_group = units_end - GROUP_BYTES;
    let units: [u8; 4] = table[last_group..last_group + 4].try_into().unwrap();
    table[last_group + 4..units_end].fill(0);
    table[units_end..units_end + 4].copy_from_slice(&units);
    let kept_end = with_dense.v4_chunks + 2 * u32::from_le_bytes(units) as usize;
    table.drain(kept_end..with_dense.v6 - PADDING_BYTES);
    let length = (kept_end + PADDING_BYTES - 4) as u32;
    table[..4].copy_from_slice(&length.to_le_bytes());

    // The header comes from a snapshot of the same ranges, whose table has a coarser index.
    let coarse = of(&kept);
    let mut bytes = coarse.bytes[..coarse.parts.table].to_vec();
    let table_bytes = bytes.len() - 4;
    bytes[table_bytes..].copy_from_slice(&(table.len() as u32).to_le_bytes());
    bytes.extend(table);
    bytes.extend([0; CHECKSUM_BYTES]);
    let base = Base { parts: Parts::of(&bytes), bytes: super::sealed(bytes) };
    let opened = Snapshot::open(&base.bytes).expect("the base is not a valid snapshot");
    assert!(opened.table(0).unwrap().iter().eq(kept), "the ranges of the base changed");
    let mut mended = base.clone();
    mended.mend();
    assert!(mended.bytes == base.bytes, "the parts of a table are not where this file expects them");
    base
}

/// Lists, split chunks with counts of one and of two bytes, and bitmaps; ranges that continue into zero, one and more
/// chunks.
fn every_kind_of_ipv4() -> Vec<IpRange> {
    let mut ranges = Vec::new();
    let mut push = |first: u32, last: u32| ranges.push(range4(first.into(), last.into()));
    for (place, edges) in (0_u32..).zip([1, 16, 17, 32, 33, 34, 254, 255, 256, 257, 700, 2708, 2712, 4000]) {
        let at = 3 * place * CHUNK;
        let step = (CHUNK / edges).max(4);
        // A range continues into every other of these chunks, and out of every third.
        let into = u32::from(place % 2 == 1);
        let out = u32::from(place % 3 == 2);
        if into == 1 {
            push(at - CHUNK - 3, at + 1);
        }
        for single in 1..edges - (edges - 1).min(into) {
            push(at + step * single, at + step * single);
        }
        push(at + CHUNK - 2, at + CHUNK - 2 + 9 * out);
    }
    let at = 64 * CHUNK;
    push(at, at);
    push(at + CHUNK - 1, at + CHUNK);
    push(at + 2 * CHUNK, at + 5 * CHUNK - 1);
    ranges
}

/// Chunks of a few ranges with one to eight columns, and chunks of so many ranges that they have a nested index, with
/// ranges that continue into it and out of it.
fn every_kind_of_ipv6() -> Vec<IpRange> {
    let mut ranges = Vec::new();
    for length in 1..=8_u32 {
        let at = u128::from(length) << 120;
        let size = 1_u128 << (128 - 16 * length);
        ranges.extend((1..5).map(|place| range6(at + 3 * place * size, at + (3 * place + 1) * size - 1)));
    }
    let at = 0x2001_0db8_u128 << 96;
    ranges.push(range6(at - 9, at + 9));
    ranges.extend((1..60).map(|place| range6(at + 100 * place, at + 100 * place + place % 9)));
    ranges.extend((1..60).map(|place| (at + (place << 64), place % 2)).map(|(at, odd)| range6(at, at + (odd << 63))));
    ranges.push(range6(at + (99 << 64), at + (1 << 100)));
    ranges
}

impl Base {
    /// The table, without the header and the checksum.
    pub(super) fn table(&self) -> &[u8] {
        &self.bytes[self.parts.table..self.parts.checksum]
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Makes one change, at a distance before or after the start of a part.
    pub(super) fn mutate(&mut self, [what, near, far, low, high]: [u8; 5]) {
        let Parts { table, v4_chunks, v6, v6_chunks, checksum } = self.parts;
        let starts = [0, table, v4_chunks, v6, v6_chunks, checksum, v6.saturating_sub(PADDING_BYTES), v4_chunks];
        let start = starts[usize::from(what >> 3 & 7)];
        let distance = usize::from(u16::from_le_bytes([near, far]));
        let at = if what & 0x40 == 0 { start + distance } else { start.saturating_sub(distance) };
        let at = at.min(self.bytes.len());
        let rest = self.bytes.len() - at;
        let value = u16::from_le_bytes([low, high]);
        match what & 7 {
            0 => self.change(at, |[byte]: [u8; 1]| [byte ^ low]),
            1 => self.change(at, |_: [u8; 1]| [low]),
            2 => self.change(at, |number| u16::from_le_bytes(number).wrapping_add(value).to_le_bytes()),
            3 => self.change(at, |number| {
                u32::from_le_bytes(number).wrapping_add_signed(i32::from(value.cast_signed())).to_le_bytes()
            }),
            4 => self.splice(at, 0, &vec![low; usize::from(high % 64) + 1]),
            5 => self.splice(at, rest.min(usize::from(value % 300)), &[]),
            6 => self.splice(at, rest, &[]),
            _ => {
                let copied = self.bytes[at..].iter().copied().take(usize::from(high)).collect::<Vec<_>>();
                let to = (at + usize::from(low)).min(self.bytes.len());
                self.splice(to, 0, &copied);
            }
        }
    }

    /// Corrects the length fields, so that insertions and deletions pass the checks of lengths.
    pub(super) fn mend(&mut self) {
        let Parts { table, v4_chunks, v6, v6_chunks, checksum } = self.parts;
        let write = |bytes: &mut [u8], at: usize, number: usize| {
            if let Some(place) = bytes.get_mut(at..at + 4) {
                place.copy_from_slice(&(number as u32).to_le_bytes());
            }
        };
        let bytes = self.bytes.as_mut_slice();
        if v4_chunks > table + 8 && v6 >= v4_chunks + PADDING_BYTES {
            let width = match bytes[table + 4] {
                ..=8 => 4,
                9..=16 => 3,
                FINE.. => 2,
            };
            write(bytes, v4_chunks - 4, (v6 - v4_chunks - PADDING_BYTES) / width);
        }
        if v6_chunks > v6 + 4 && checksum >= v6_chunks + PADDING_BYTES {
            write(bytes, v6_chunks - 4, (checksum - v6_chunks - PADDING_BYTES) / 2);
        }
        write(bytes, table, v6.saturating_sub(table + 4));
        // Nothing is left to write it to if the header was cut out.
        if let Some(length) = table.checked_sub(4) {
            write(bytes, length, checksum.saturating_sub(table));
        }
    }

    fn change<const N: usize>(&mut self, at: usize, change: impl FnOnce([u8; N]) -> [u8; N]) {
        if let Some(place) = self.bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *place = change(*place);
        }
    }

    /// Replaces `cut` bytes with others. What follows moves.
    fn splice(&mut self, at: usize, cut: usize, with: &[u8]) {
        self.bytes.splice(at..at + cut, with.iter().copied());
        let Parts { table, v4_chunks, v6, v6_chunks, checksum } = &mut self.parts;
        for part in [table, v4_chunks, v6, v6_chunks, checksum] {
            *part = if *part >= at + cut { *part - cut + with.len() } else { (*part).min(at) };
        }
    }
}

impl Parts {
    fn of(snapshot: &[u8]) -> Self {
        let header_bytes = u32_at(snapshot, 12);
        Self::of_table(&snapshot[..snapshot.len() - CHECKSUM_BYTES], HEADER_OFFSET + header_bytes)
    }

    /// The parts of the table from `table` to the end of `bytes`.
    fn of_table(bytes: &[u8], table: usize) -> Self {
        let v4 = table + 4;
        let v6 = v4 + u32_at(bytes, table);
        let v4_chunks = if v6 > v4 { v4 + 1 + (36_usize << bytes[v4]) / 16 + 4 } else { v4 };
        let v6_chunks = if bytes.len() > v6 { v6 + 10 + (4_usize << bytes[v6 + 1]) + 4 } else { v6 };
        Self { table, v4_chunks, v6, v6_chunks, checksum: bytes.len() }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}
