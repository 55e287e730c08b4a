//! Tests that run both natively and, with `wasm-bindgen-test`, as wasm under Node.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test helper may panic, like the test")]

use std::net::Ipv4Addr;

use edgefold_format_tests::samples::{Oracle, Sample, asked, long_ranges, samples, v4};
use edgefold_snapshot::{Generation, NewSnapshot, Settings, Snapshot};
use edgefold_table::{AddressRange, EncodeError, IpRange, Table, encode};
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
    let generation = Generation { epoch: 0, next_offset: 2, expiry: None };
    let settings = &Settings::default();
    let new = NewSnapshot { name: "edgefold", generation, as_of: 1_473_695_073_000, settings, cut_at: 0 };
    new.encode_default_list(ranges).unwrap()
}

#[wasm_bindgen_test(unsupported = test)]
fn a_range_contains_its_ends_but_not_its_neighbours() {
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
fn lookup_works_at_the_ends_of_both_families() {
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
fn a_mapped_address_is_looked_up_as_ipv4() {
    let v4 = table(&[range("10.0.0.0", "10.0.0.255")]);
    assert!(contains(&v4, "::ffff:10.0.0.7"));
    assert!(contains(&v4, "::ffff:a00:7"));
    assert!(!contains(&v4, "::ffff:10.0.1.7"));
    let v6 = table(&[range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]);
    assert!(!contains(&v6, "::ffff:10.0.0.7"), "a mapped address was looked up as IPv6");
    assert_eq!(range("::ffff:10.0.0.1", "::ffff:10.0.0.9"), range("10.0.0.1", "10.0.0.9"));
}

#[wasm_bindgen_test(unsupported = test)]
fn range_returns_the_whole_range_of_a_mapped_address_too() {
    let all6 = range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    let table = table(&[range("10.0.0.1", "10.0.0.99"), range("10.0.0.101", "10.0.0.101"), all6]);
    let found = |ip: &str| table.range(ip.parse().unwrap());
    assert_eq!(found("::ffff:10.0.0.7"), Some(range("10.0.0.1", "10.0.0.99")));
    assert_eq!(found("::ffff:10.0.0.101"), Some(range("10.0.0.101", "10.0.0.101")));
    assert_eq!(found("::ffff:10.0.0.100"), None, "a mapped address was looked up as IPv6");
    // The neighbours of the mapped block are IPv6, and their range continues across it.
    assert_eq!(found("::fffe:ffff:ffff"), Some(all6));
    assert_eq!(found("::1:0:0:0"), Some(all6));
}

#[wasm_bindgen_test(unsupported = test)]
fn an_empty_table_is_valid() {
    let table = table(&[]);
    assert!(!contains(&table, "0.0.0.0"));
    assert!(!contains(&table, "::"));
    assert_eq!(table.iter().count(), 0);
}

#[wasm_bindgen_test(unsupported = test)]
fn bad_input_is_refused_and_the_error_names_both_ranges() {
    let a = range("10.0.0.0", "10.0.0.9");
    let mut out = vec![7];
    let mut refused = |next: IpRange| {
        let error = encode([a, next], &mut out).unwrap_err();
        assert_eq!(out, [7], "a refused table left bytes behind");
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

/// Found by a property test: such ranges were compared as if they were IPv4.
#[wasm_bindgen_test(unsupported = test)]
fn ipv6_ranges_in_the_mapped_block_are_ordered_as_ipv6() {
    let mapped = |first: u8, last: u8| {
        let ip = |low: u8| Ipv4Addr::new(10, 0, 0, low).to_ipv6_mapped();
        IpRange::from(AddressRange::new(ip(first), ip(last)).unwrap())
    };
    let table = table(&[range("10.0.0.0", "10.0.0.255"), mapped(1, 2), mapped(4, 5)]);
    assert_eq!(table.iter().count(), 3);
    let error = encode([mapped(1, 4), mapped(4, 5)], &mut Vec::new()).unwrap_err();
    assert!(matches!(error, EncodeError::Overlapping { .. }), "{error}");
}

#[wasm_bindgen_test(unsupported = test)]
fn a_snapshot_round_trips() {
    let bytes = small_snapshot();
    let snapshot = Snapshot::open(bytes.as_slice()).unwrap();
    assert_eq!(snapshot.header().name, "edgefold");
    assert_eq!(snapshot.header().generation, Generation { epoch: 0, next_offset: 2, expiry: None });
    assert_eq!(snapshot.header().ranges(), (2, 1));
    let text: Vec<_> = snapshot.table(0).unwrap().iter().map(|range| range.to_string()).collect();
    assert_eq!(text, ["10.0.0.1-10.0.0.99", "10.0.0.101-10.0.0.255", "2001:db8::-2001:db8::ff"]);
}

#[wasm_bindgen_test(unsupported = test)]
fn every_truncation_is_refused() {
    let bytes = small_snapshot();
    for length in 0..bytes.len() {
        assert!(Snapshot::open(&bytes[..length]).is_err(), "the first {length} bytes were accepted as a snapshot");
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn every_single_byte_corruption_is_refused() {
    let mut bytes = small_snapshot();
    for offset in 0..bytes.len() {
        for flip in 1..=255 {
            bytes[offset] ^= flip;
            assert!(Snapshot::open(&bytes).is_err(), "byte {offset} xor {flip:#x} was not detected");
            bytes[offset] ^= flip;
        }
    }
    Snapshot::open(bytes).unwrap();
}

#[wasm_bindgen_test(unsupported = test)]
fn errors_say_what_is_wrong() {
    let bytes = small_snapshot();
    let refused = |bytes: &[u8]| Snapshot::open(bytes.to_vec()).unwrap_err().to_string();
    assert!(refused(&[]).contains("no bytes at all"));
    assert!(refused(b"{\"snapshot\": 1}").contains("not an edgefold snapshot"));
    assert!(refused(&bytes[..20]).contains("truncated: 20 bytes"));
    assert!(refused(&bytes[..bytes.len() - 1]).contains("damaged or truncated"));
    let mut next_version = bytes.clone();
    next_version[8] = 7;
    assert!(refused(&next_version).contains("format version 7, but this build reads version 6"));
    let mut long_header = bytes;
    long_header[12..16].copy_from_slice(&2_000_000_u32.to_le_bytes());
    assert!(refused(&with_checksum(long_header)).contains("claims 2000000 bytes, but at most 1048576"));
}

/// The checksum is not a secret: an attacker can make a valid one for any change.
#[wasm_bindgen_test(unsupported = test)]
fn corruption_with_a_valid_checksum_never_panics() {
    let good = small_snapshot();
    for offset in 0..good.len() - 8 {
        for flip in [0x01, 0x80, 0xff, 0x7f, 0xfb] {
            let mut bytes = good.clone();
            bytes[offset] ^= flip;
            if let Ok(snapshot) = Snapshot::open(with_checksum(bytes)) {
                for ip in ["0.0.0.0", "10.0.0.100", "255.255.255.255", "::", "2001:db8::80"] {
                    snapshot.contains(0, ip.parse().unwrap());
                }
            }
        }
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn a_header_with_wrong_range_counts_is_refused() {
    let mut bytes = small_snapshot();
    // After the name of the list, which is not the value of any other field: what it does (three bytes).
    let name = bytes.windows(7).position(|bytes| bytes == b"default").unwrap();
    let ipv4_ranges = name + 7 + 3;
    assert_eq!(bytes[ipv4_ranges], 2);
    bytes[ipv4_ranges] = 3;
    let error = Snapshot::open(with_checksum(bytes)).unwrap_err();
    assert_eq!(error.to_string(), "list default counts 3 IPv4 and 1 IPv6 ranges, but its table holds 2 and 1");
}

fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let content = bytes.len() - 8;
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..content]);
    bytes[content..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[wasm_bindgen_test(unsupported = test)]
fn every_kind_of_chunk_agrees_with_a_btreemap() {
    for Sample { name, ranges } in samples().into_iter().chain([long_ranges()]) {
        agrees_with_a_btreemap(name, &table(&ranges), &ranges);
    }
}

fn agrees_with_a_btreemap(name: &str, table: &Table<Vec<u8>>, ranges: &[IpRange]) {
    let oracle = Oracle::new(ranges);
    assert!(table.iter().eq(ranges.iter().copied()), "{name}: the ranges changed");
    assert_eq!(table.ipv4_ranges() + table.ipv6_ranges(), ranges.len(), "{name}");
    for ip in asked(ranges) {
        let expected = oracle.find(ip);
        assert_eq!(table.contains(ip), expected.is_some(), "{name}: {ip}");
        let range = table.range(ip).map(|range| (range.first(), range.last()));
        assert_eq!(range, expected, "{name}: {ip}");
    }
}

/// A bitmap in which no range begins or ends is valid, although our encoder never writes one.
#[wasm_bindgen_test(unsupported = test)]
fn a_range_continues_across_bitmaps_of_ones() {
    const CHUNK: u32 = 1 << 15;
    const BITMAP: usize = 4096;
    let ranges = [(2 * CHUNK + 5, 40 * CHUNK), (41 * CHUNK, 42 * CHUNK - 1), (42 * CHUNK + 64, 42 * CHUNK + 127)];
    let mut third = [0; BITMAP];
    third[8..16].fill(0xff);
    let edge = |position: u16, begins: u16| (position << 1 | begins).to_le_bytes().to_vec();
    let ones = vec![0xff; BITMAP];
    let filled = [
        (2, edge(5, 1)),
        (3, ones.clone()),
        (17, ones.clone()),
        (18, ones.clone()),
        (40, edge(0, 0)),
        (41, ones),
        (42, third.to_vec()),
        (50, vec![0; BITMAP]),
    ];
    let (mut index, mut chunks) = (vec![17], Vec::new());
    for chunk in 0..1 << 17 {
        if chunk % 16 == 0 {
            index.extend((chunks.len() as u32 / 2).to_le_bytes());
        }
        let group: [u8; 4] = index[1 + chunk / 16 * 36..][..4].try_into().unwrap();
        let start = (chunks.len() / 2) as u16 - u32::from_le_bytes(group) as u16;
        let goes_on = (3..=40).contains(&chunk);
        index.extend((start | u16::from(goes_on) << 15).to_le_bytes());
        chunks.extend(filled.iter().filter(|(place, _)| *place == chunk).flat_map(|(_, bytes)| bytes));
    }
    index.extend((chunks.len() as u32 / 2).to_le_bytes());
    let section = [index, chunks, vec![0; 32]].concat();
    let table = Table::open([&(section.len() as u32).to_le_bytes(), &section[..]].concat()).unwrap();
    agrees_with_a_btreemap("bitmaps of ones", &table, &v4(&ranges));
}

/// A node without edges is valid too, and so is a prefix stored as two entries with the same position.
#[wasm_bindgen_test(unsupported = test)]
fn a_range_continues_across_a_node_without_edges() {
    const NODE: u32 = 1 << 27;
    const GOES_ON: u32 = 1 << 31;
    let index = |entries: &[u32]| entries.iter().flat_map(|entry| entry.to_le_bytes()).collect::<Vec<_>>();
    // An index of two bits, and positions of 16 bits.
    let root = index(&[0, 2 | NODE | GOES_ON, 13 | GOES_ON, 13 | GOES_ON, 18]);
    let first = [4, 0, 0xfe, 0];
    let node = [vec![4, 1, 0, 0, 0, 0, 0, 0, 0, 0x40], index(&[GOES_ON; 3])].concat();
    let fourth = [4, 0, 16, 0, 16, 0, 0xff, 0xfe, 0xff, 0];
    let section = [vec![0, 2], vec![0; 8], root, first.to_vec(), node, fourth.to_vec(), vec![0; 32]].concat();
    let table = Table::open([&[0; 4], &section[..]].concat()).unwrap();
    let ranges = [
        range("1::", "c001:3fff:ffff:ffff:ffff:ffff:ffff:ffff"),
        range("c004::", "c004:3fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ];
    agrees_with_a_btreemap("a node without edges", &table, &ranges);
}
