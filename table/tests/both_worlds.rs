//! The same body runs native and, by `wasm-bindgen-test`, as wasm under Node.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a helper of a test fails as the test does")]

mod samples;

use edgefold_table::{EncodeError, Generation, IpRange, Match, Settings, Snapshot, Table, encode};
use samples::{Oracle, Sample, asked, samples};
use wasm_bindgen_test::wasm_bindgen_test;

fn range(first: &str, last: &str) -> IpRange {
    IpRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
}

fn table(ranges: &[IpRange]) -> Table<Vec<u8>> {
    let mut bytes = Vec::new();
    encode(ranges.iter().copied(), &mut bytes).unwrap();
    Table::open(bytes).unwrap()
}

fn contains(table: &Table<Vec<u8>>, ip: &str) -> bool {
    table.contains(ip.parse().unwrap())
}

fn small_snapshot() -> Vec<u8> {
    let ranges =
        [range("10.0.0.1", "10.0.0.99"), range("10.0.0.101", "10.0.0.255"), range("2001:db8::", "2001:db8::ff")];
    let generation = Generation { next_offset: 2, expiry: None };
    Snapshot::build("edgefold", generation, 1_473_695_073_000, Settings::default(), ranges).unwrap()
}

#[wasm_bindgen_test(unsupported = test)]
fn a_range_holds_its_ends_and_not_its_neighbours() {
    let table = table(&[range("10.0.0.1", "10.0.0.99"), range("10.0.0.101", "10.0.0.255"), range("::5", "::7")]);
    for (ip, expected) in [
        ("10.0.0.0", false),
        ("10.0.0.1", true),
        ("10.0.0.99", true),
        ("10.0.0.100", false),
        ("10.0.0.101", true),
        ("10.0.0.255", true),
        ("10.0.1.0", false),
        ("::4", false),
        ("::5", true),
        ("::7", true),
        ("::8", false),
    ] {
        assert_eq!(contains(&table, ip), expected, "{ip}");
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn both_families_are_held_to_their_edges() {
    let whole = table(&[range("0.0.0.0", "255.255.255.255"), range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]);
    let ends = table(&[
        range("0.0.0.0", "0.0.0.0"),
        range("255.255.255.255", "255.255.255.255"),
        range("::", "::"),
        range("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ]);
    for ip in ["0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
        assert!(contains(&whole, ip) && contains(&ends, ip), "{ip}");
    }
    for ip in ["0.0.0.1", "255.255.255.254", "::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"] {
        assert!(contains(&whole, ip) && !contains(&ends, ip), "{ip}");
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn a_mapped_address_is_the_ipv4_address_in_it() {
    let v4 = table(&[range("10.0.0.0", "10.0.0.255")]);
    assert!(contains(&v4, "::ffff:10.0.0.7"));
    assert!(contains(&v4, "::ffff:a00:7"));
    assert!(!contains(&v4, "::ffff:10.0.1.7"));
    let v6 = table(&[range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]);
    assert!(!contains(&v6, "::ffff:10.0.0.7"), "a mapped address is not IPv6");
    assert_eq!(range("::ffff:10.0.0.1", "::ffff:10.0.0.9"), range("10.0.0.1", "10.0.0.9"));
}

#[wasm_bindgen_test(unsupported = test)]
fn find_gives_the_range_and_its_place_in_its_family() {
    let table = table(&[range("10.0.0.1", "10.0.0.99"), range("::5", "::7"), range("::9", "::9")]);
    let found = table.find("::9".parse().unwrap()).unwrap();
    assert_eq!((found.range, found.index), (range("::9", "::9"), 1));
    assert_eq!(table.find("::8".parse().unwrap()), None);
}

#[wasm_bindgen_test(unsupported = test)]
fn an_empty_table_is_a_good_table() {
    let table = table(&[]);
    assert!(!contains(&table, "0.0.0.0"));
    assert!(!contains(&table, "::"));
    assert_eq!(table.iter().count(), 0);
}

#[wasm_bindgen_test(unsupported = test)]
fn bad_input_is_refused_with_both_ranges() {
    let a = range("10.0.0.0", "10.0.0.9");
    let mut out = vec![7];
    let mut refused = |next: IpRange| {
        let error = encode([a, next], &mut out).unwrap_err();
        assert_eq!(out, [7], "a refused table leaves nothing behind");
        error
    };
    let next = range("10.0.0.9", "10.0.0.20");
    assert_eq!(refused(next), EncodeError::Overlapping { previous: a, next });
    let next = range("9.0.0.0", "11.0.0.0");
    assert_eq!(refused(next), EncodeError::Overlapping { previous: a, next });
    let next = range("10.0.0.10", "10.0.0.20");
    assert_eq!(
        refused(next).to_string(),
        "range 10.0.0.10-10.0.0.20 touches 10.0.0.0-10.0.0.9: write them as one range"
    );
    let next = range("9.0.0.0", "9.0.0.1");
    assert_eq!(refused(next), EncodeError::Unsorted { previous: a, next });
    let error = encode([range("::1", "::1"), a], &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("IPv4 before IPv6"), "{error}");
}

/// Found by a property: such ranges were compared as if they were IPv4.
#[wasm_bindgen_test(unsupported = test)]
fn ipv6_ranges_in_the_mapped_block_are_ordered_as_ipv6() {
    let mapped = |first: u8, last: u8| {
        let ip = |low: u8| std::net::Ipv4Addr::new(10, 0, 0, low).to_ipv6_mapped();
        IpRange::from(edgefold_table::AddressRange::new(ip(first), ip(last)).unwrap())
    };
    let table = table(&[range("10.0.0.0", "10.0.0.255"), mapped(1, 2), mapped(4, 5)]);
    assert_eq!(table.iter().count(), 3);
    let error = encode([mapped(1, 4), mapped(4, 5)], &mut Vec::new()).unwrap_err();
    assert!(matches!(error, EncodeError::Overlapping { .. }), "{error}");
}

#[wasm_bindgen_test(unsupported = test)]
fn a_snapshot_gives_back_what_was_put_in() {
    let bytes = small_snapshot();
    let snapshot = Snapshot::open(bytes.as_slice()).unwrap();
    assert_eq!(snapshot.header().list, "edgefold");
    assert_eq!(snapshot.header().generation, Generation { next_offset: 2, expiry: None });
    assert_eq!((snapshot.header().ipv4_ranges, snapshot.header().ipv6_ranges), (2, 1));
    let text: Vec<_> = snapshot.table().iter().map(|range| range.to_string()).collect();
    assert_eq!(text, ["10.0.0.1-10.0.0.99", "10.0.0.101-10.0.0.255", "2001:db8::-2001:db8::ff"]);
}

#[wasm_bindgen_test(unsupported = test)]
fn every_truncation_is_refused() {
    let bytes = small_snapshot();
    for length in 0..bytes.len() {
        assert!(Snapshot::open(&bytes[..length]).is_err(), "the first {length} bytes were taken for a snapshot");
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn every_single_byte_corruption_is_refused() {
    let mut bytes = small_snapshot();
    for offset in 0..bytes.len() {
        for flip in 1..=255 {
            bytes[offset] ^= flip;
            assert!(Snapshot::open(&bytes).is_err(), "byte {offset} xor {flip:#x} was not noticed");
            bytes[offset] ^= flip;
        }
    }
    Snapshot::open(bytes).unwrap();
}

#[wasm_bindgen_test(unsupported = test)]
fn a_refusal_says_what_is_wrong() {
    let bytes = small_snapshot();
    let refused = |bytes: &[u8]| Snapshot::open(bytes.to_vec()).unwrap_err().to_string();
    assert!(refused(&[]).contains("no bytes at all"));
    assert!(refused(b"{\"snapshot\": 1}").contains("not an edgefold snapshot"));
    assert!(refused(&bytes[..20]).contains("truncated: 20 bytes"));
    assert!(refused(&bytes[..bytes.len() - 1]).contains("damaged or truncated"));
    let mut next_version = bytes.clone();
    next_version[8] = 4;
    assert!(refused(&next_version).contains("format version 4, but this build reads version 3"));
    let mut long_header = bytes;
    long_header[12..16].copy_from_slice(&70_000_u32.to_le_bytes());
    assert!(refused(&with_checksum(long_header)).contains("claims 70000 bytes, but at most 65536"));
}

/// A checksum is no secret: an attacker can give every change a right one.
#[wasm_bindgen_test(unsupported = test)]
fn with_a_right_checksum_no_corruption_panics() {
    let good = small_snapshot();
    for offset in 0..good.len() - 8 {
        for flip in [0x01, 0x80, 0xff, 0x7f, 0xfb] {
            let mut bytes = good.clone();
            bytes[offset] ^= flip;
            if let Ok(snapshot) = Snapshot::open(with_checksum(bytes)) {
                for ip in ["0.0.0.0", "10.0.0.100", "255.255.255.255", "::", "2001:db8::80"] {
                    snapshot.table().contains(ip.parse().unwrap());
                }
            }
        }
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn a_header_that_counts_other_ranges_than_the_table_is_refused() {
    let mut bytes = small_snapshot();
    // Behind the preamble: the name with its length, the next offset, no expiry, and the marker and 8 bytes of as-of.
    let ipv4_ranges = 16 + (1 + 8) + 1 + 1 + (1 + 8);
    assert_eq!(bytes[ipv4_ranges], 2);
    bytes[ipv4_ranges] = 3;
    let error = Snapshot::open(with_checksum(bytes)).unwrap_err();
    assert_eq!(error.to_string(), "the header counts 3 IPv4 and 1 IPv6 ranges, but the table holds 2 and 1");
}

fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let content = bytes.len() - 8;
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..content]);
    bytes[content..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[wasm_bindgen_test(unsupported = test)]
fn every_kind_of_chunk_agrees_with_a_btreemap() {
    for Sample { name, ranges } in samples() {
        let (table, oracle) = (table(&ranges), Oracle::new(&ranges));
        assert!(table.iter().eq(ranges.iter().copied()), "{name}: other ranges came back");
        assert_eq!(table.ipv4_ranges() + table.ipv6_ranges(), ranges.len(), "{name}");
        let asked = asked(&ranges);
        // `find` counts ranges, which takes its time where they are dense.
        let step = asked.len().div_ceil(10_000);
        for (place, &ip) in asked.iter().enumerate() {
            let expected = oracle.find(ip);
            assert_eq!(table.contains(ip), expected.is_some(), "{name}: {ip}");
            if place % step != 0 {
                continue;
            }
            let found = table.find(ip).map(|Match { range, index }| (range.first(), range.last(), index));
            assert_eq!(found, expected, "{name}: {ip}");
        }
    }
}
