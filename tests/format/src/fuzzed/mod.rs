//! The bodies of the fuzz targets in `tests/format/fuzz`, one function each. `tests/regressions.rs` runs them on known
//! inputs.
//!
//! Each function panics if edgefold does something wrong with its input, and returns otherwise.

mod base;
mod input;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edgefold_snapshot::Snapshot;
use edgefold_table::{EncodeError, IpRange, Table, encode};
use xxhash_rust::xxh3::xxh3_64;

use self::input::Input;
use crate::samples::Oracle;

/// The most ranges whose ends are looked up. Limited to keep the fuzzers fast.
const MOST_LOOKED_UP: usize = 500;
const CHECKSUM_BYTES: usize = 8;

/// Opens `bytes` as a table, as a snapshot, and as a snapshot with a valid checksum appended.
pub fn open_anything(bytes: &[u8]) {
    if let Ok(table) = Table::open(bytes) {
        check(&table, bytes);
    }
    if let Ok(snapshot) = Snapshot::open(bytes) {
        check_lists(&snapshot, bytes);
    }
    if let Ok(snapshot) = Snapshot::open(sealed([bytes, &[0; CHECKSUM_BYTES]].concat())) {
        check_lists(&snapshot, bytes);
    }
}

/// Opens a valid table or snapshot after a few changes. The first byte chooses it, the next ones the changes, and the
/// rest its ranges.
pub fn open_mutated(bytes: &[u8]) {
    let mut input = Input(bytes);
    let Some([choice, mutations]) = input.take() else { return };
    let mutations: Vec<[u8; 5]> = (0..mutations % 16).map_while(|_| input.take()).collect();
    let mut base = if choice & 3 == 0 { base::fine() } else { base::of(&input.base_ranges()) };
    for mutation in mutations {
        base.mutate(mutation);
    }
    if choice & 4 == 0 {
        base.mend();
    }
    if choice & 8 == 0 {
        if let Ok(table) = Table::open(base.table()) {
            check(&table, bytes);
        }
    } else if let Ok(snapshot) = Snapshot::open(sealed(base.into_bytes())) {
        check_lists(&snapshot, bytes);
    }
}

fn check_lists(snapshot: &Snapshot<impl AsRef<[u8]>>, bytes: &[u8]) {
    for list in 0..snapshot.header().lists.len() {
        check(&snapshot.table(list).expect("a list without a table"), bytes);
    }
    assert!(snapshot.table(snapshot.header().lists.len()).is_none());
}

/// Encodes ranges that may be in order or not. Compares the table with a `BTreeMap`, or the error with the first two
/// ranges that are out of order.
pub fn encode_anything(bytes: &[u8]) {
    let ranges = Input(bytes).ranges();
    let before = [7; 3];
    let mut out = before.to_vec();
    let encoded = encode(ranges.iter().copied(), &mut out);
    if let Some(error) = ranges.windows(2).find_map(|pair| refusal(pair[0], pair[1])) {
        assert_eq!(encoded, Err(error));
        assert_eq!(out, before, "a refused table left bytes behind");
        return;
    }
    assert_eq!(encoded, Ok(()), "ranges in order were refused");
    assert!(out.starts_with(&before), "the bytes before the table changed");
    let table = Table::open(&out[before.len()..]).expect("an encoded table was refused");
    assert!(check(&table, bytes) == ranges, "the {} encoded ranges changed", ranges.len());
    let mut again = Vec::new();
    encode(ranges, &mut again).unwrap();
    assert!(again == out[before.len()..], "encoding the same ranges again gave different bytes");
}

/// Checks everything that an open table promises, and returns its ranges. Also looks up the addresses in `bytes`.
fn check(table: &Table<impl AsRef<[u8]>>, bytes: &[u8]) -> Vec<IpRange> {
    let ranges: Vec<IpRange> = table.iter().collect();
    let ipv4_ranges = ranges.iter().filter(|range| matches!(range, IpRange::V4(_))).count();
    assert_eq!((table.ipv4_ranges(), table.ipv6_ranges()), (ipv4_ranges, ranges.len() - ipv4_ranges));
    assert_eq!(ranges.windows(2).find_map(|pair| refusal(pair[0], pair[1])), None, "the ranges are out of order");

    let oracle = Oracle::new(&ranges);
    let contains = |ip| {
        let expected = oracle.find(ip);
        assert_eq!(table.contains(ip), expected.is_some(), "contains({ip})");
        let range = table.range(ip).map(|range| (range.first(), range.last()));
        assert_eq!(range, expected, "range({ip})");
    };
    for range in spread(&ranges, MOST_LOOKED_UP) {
        ends_and_neighbours(range).chain([middle(range)]).for_each(contains);
    }
    let edges = [Ipv4Addr::from_bits(0).into(), Ipv4Addr::from_bits(u32::MAX).into()]
        .into_iter()
        .chain([Ipv6Addr::from_bits(0).into(), Ipv6Addr::from_bits(u128::MAX).into()]);
    edges.chain(addresses(bytes)).for_each(contains);
    ranges
}

/// The error if `next` must not come after `previous`.
fn refusal(previous: IpRange, next: IpRange) -> Option<EncodeError> {
    let number = |ip| match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    match (previous, next) {
        (IpRange::V4(_), IpRange::V6(_)) => return None,
        (IpRange::V6(_), IpRange::V4(_)) => return Some(EncodeError::Unsorted { previous, next }),
        _ => {}
    }
    if number(next.last()) < number(previous.first()) {
        Some(EncodeError::Unsorted { previous, next })
    } else if number(next.first()) <= number(previous.last()) {
        Some(EncodeError::Overlapping { previous, next })
    } else if number(next.first()) - number(previous.last()) == 1 {
        Some(EncodeError::Touching { previous, next })
    } else {
        None
    }
}

/// At most `most` of the ranges, evenly spread, or all if there are fewer.
fn spread(ranges: &[IpRange], most: usize) -> impl Iterator<Item = IpRange> {
    ranges.iter().copied().step_by(ranges.len().div_ceil(most).max(1))
}

fn ends_and_neighbours(range: IpRange) -> impl Iterator<Item = IpAddr> {
    [range.first(), range.last()].into_iter().flat_map(|end| {
        [-1, 0, 1].map(|step: i8| match end {
            IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits().wrapping_add_signed(step.into()))),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits().wrapping_add_signed(step.into()))),
        })
    })
}

fn middle(range: IpRange) -> IpAddr {
    match range {
        IpRange::V4(range) => Ipv4Addr::from_bits(range.first().to_bits().midpoint(range.last().to_bits())).into(),
        IpRange::V6(range) => Ipv6Addr::from_bits(range.first().to_bits().midpoint(range.last().to_bits())).into(),
    }
}

/// The first few bytes, read as addresses of both families.
fn addresses(bytes: &[u8]) -> impl Iterator<Item = IpAddr> {
    let v4 = bytes.as_chunks().0.iter().map(|&bits| Ipv4Addr::from_bits(u32::from_le_bytes(bits)).into());
    let v6 = bytes.as_chunks().0.iter().map(|&bits| Ipv6Addr::from_bits(u128::from_be_bytes(bits)).into());
    v4.take(64).chain(v6.take(16))
}

/// Replaces the last eight bytes with a valid checksum. An attacker can do this too, so the other checks must hold.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some((content, checksum)) = bytes.split_last_chunk_mut() {
        *checksum = xxh3_64(content).to_le_bytes();
    }
    bytes
}
