//! Tables crafted to do harm, one test for each trick, and every flipped bit in every kind of chunk. Native only.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test helper may panic, like the test")]
#![cfg(not(target_arch = "wasm32"))]

use edgefold_format_tests::samples::{Sample, samples, v4, v6};
use edgefold_snapshot::{Generation, NewSnapshot, Settings, Snapshot};
use edgefold_table::{IpRange, Table, encode};

/// Where the parts of a table with an IPv4 section are: after the length of the section, the index bits, then the
/// index.
const INDEX_BITS: usize = 4;
const INDEX: usize = 5;

fn table(ranges: &[IpRange]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(ranges.iter().copied(), &mut bytes).unwrap();
    bytes
}

/// Opens the table after a change, and returns the message of the error.
fn refused(ranges: &[IpRange], change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = table(ranges);
    Table::open(&bytes).unwrap();
    change(&mut bytes);
    Table::open(&bytes).expect_err("the changed table was accepted").to_string()
}

/// Two chunks of four-byte edges: `0.0.0.1-0.0.0.9` and `0.0.0.11`, and `16.0.0.0`.
fn coarse() -> Vec<IpRange> {
    v4(&[(1, 9), (11, 11), (0x1000_0000, 0x1000_0000)])
}

/// Where the columns start, after an index of `bits`.
fn edges_after(bits: u32) -> usize {
    INDEX + (1 << bits) / 16 * 36 + 4
}

/// These ranges in the first chunks, and after them so many more that the index has 17 bits.
fn fine(first: &[(u32, u32)]) -> Vec<IpRange> {
    let many = (0..0x8_0000_u32).map(|place| (0x1000_0000 + 4 * place, 0x1000_0000 + 4 * place));
    v4(&first.iter().copied().chain(many).collect::<Vec<_>>())
}

#[test]
fn a_section_longer_than_the_table() {
    assert_eq!(
        refused(&coarse(), |bytes| bytes[3] = 0xff),
        "the table is 93 bytes long, but needs at least 4278190173"
    );
    assert_eq!(Table::open([1, 0]).unwrap_err().to_string(), "the table is 2 bytes long, but needs at least 4");
}

#[test]
fn an_index_with_an_invalid_number_of_bits() {
    for bits in [0, 3, 18, 32, 255] {
        let words = refused(&coarse(), |bytes| bytes[INDEX_BITS] = bits);
        assert_eq!(words, "the IPv4 section is damaged: its index must have 4 to 17 bits");
    }
    for bits in [0, 21, 64, 255] {
        let words = refused(&v6(&[(1, 1)]), |bytes| bytes[5] = bits);
        assert!(words.contains("its index must have 1 to 20 bits"), "{words}");
    }
    let words = refused(&v6(&[(1, 1)]), |bytes| bytes[4] = 63);
    assert!(words.contains("within the first 63 bits of the address"), "{words}");
}

#[test]
fn an_index_that_claims_more_edges_than_there_are() {
    let end = edges_after(4) - 4;
    for claimed in [5_u32, 0x4000_0000, u32::MAX] {
        let words = refused(&coarse(), |bytes| bytes[end..end + 4].copy_from_slice(&claimed.to_le_bytes()));
        assert_eq!(words, "the IPv4 section is damaged: its length does not match its index");
    }
}

#[test]
fn an_index_with_descending_offsets() {
    // The second chunk of the group starts at unit 3, and the third at 4.
    assert_eq!(table(&coarse())[INDEX + 4..INDEX + 10], [0, 0, 3, 0, 4, 0]);
    let fallen = [
        refused(&coarse(), |bytes| bytes[INDEX + 8] = 2),
        refused(&coarse(), |bytes| bytes[INDEX + 4] = 1),
        refused(&coarse(), |bytes| bytes[INDEX + 34] = 5),
        refused(&coarse(), |bytes| bytes[INDEX] = 1),
    ];
    for words in fallen {
        assert_eq!(words, "the IPv4 section is damaged: the offsets in its index do not ascend from zero");
    }
    let words = refused(&v6(&[(1, 1)]), |bytes| bytes[14] = 1);
    assert_eq!(words, "the IPv6 section is damaged: its index does not start at zero");
    let words = refused(&v6(&[(1, 1)]), |bytes| bytes[18] = 0xff);
    assert!(words.starts_with("chunk 0 of the IPv6 section is damaged: it extends past"), "{words}");
    let words = refused(&v6(&[(1, 1)]), |bytes| bytes[18] -= 1);
    assert!(words.starts_with("chunk 0 of the IPv6 section is damaged"), "{words}");
}

#[test]
fn an_index_that_claims_a_range_continues_where_none_does() {
    let words = refused(&coarse(), |bytes| bytes[INDEX + 7] |= 0x80);
    assert!(
        words.starts_with("chunk 1 of the IPv4 section is damaged: the index and the previous chunk disagree"),
        "{words}"
    );
    let words = refused(&v6(&[(1, 1)]), |bytes| bytes[17] |= 0x80);
    assert!(
        words.starts_with("chunk 0 of the IPv6 section is damaged: the index and the previous chunk disagree"),
        "{words}"
    );
}

#[test]
fn ranges_that_are_not_in_order_overlap_or_touch() {
    let lows = edges_after(4) + 3 * 2;
    assert_eq!(table(&coarse())[lows..lows + 6], [0x11, 0, 0x90, 0, 0xb0, 0]);
    for (edge, low) in [(0, 0x90), (1, 0x91), (1, 0xa0), (2, 0x90), (2, 0x80), (1, 0x10)] {
        let words = refused(&coarse(), |bytes| bytes[lows + 2 * edge] = low);
        assert_eq!(
            words, "chunk 0 of the IPv4 section is damaged: its ranges are out of order, overlap, touch or do not end",
            "{edge} {low:#x}"
        );
    }
    // A position between two addresses: the flag is the lowest bit, and the three bits above it must be zero.
    let words = refused(&coarse(), |bytes| bytes[lows] = 0x13);
    assert!(words.ends_with("an edge has bits set between its position and its flag"), "{words}");
}

#[test]
fn a_last_range_that_does_not_end() {
    let last = edges_after(4) + 4 * 2 + 3 * 2;
    let words = refused(&v4(&[(1, 9), (11, 11), (0xf000_0000, 0xf000_0000)]), |bytes| bytes[last] |= 1);
    assert_eq!(words, "the IPv4 section is damaged: its last range does not end");
}

#[test]
fn padding_that_is_not_zero() {
    let words = refused(&coarse(), |bytes| *bytes.last_mut().unwrap() = 1);
    assert_eq!(words, "the IPv4 section is damaged: its padding is not zero");
    let words = refused(&v6(&[(1, 1)]), |bytes| *bytes.last_mut().unwrap() = 1);
    assert_eq!(words, "the IPv6 section is damaged: its padding is not zero");
}

#[test]
fn a_section_without_ranges() {
    let mut bytes = vec![0; 4 + 1 + 36 + 4 + 32];
    bytes[0] = bytes.len() as u8 - 4;
    bytes[INDEX_BITS] = 4;
    let words = Table::open(bytes).unwrap_err().to_string();
    assert_eq!(words, "the IPv4 section is damaged: it has no ranges but is not empty");
}

#[test]
fn a_split_chunk_whose_counts_do_not_match_its_edges() {
    // 33 single addresses in the first chunk: 16 counts, 17 bytes of half bytes, 33 bytes, no padding.
    let ranges = fine(&(0..33).map(|place| (100 * place, 100 * place)).collect::<Vec<_>>());
    let split = edges_after(17);
    let bytes = table(&ranges);
    assert_eq!((bytes[INDEX_BITS], bytes[split], bytes[split + 15]), (17, 21, 33));
    let prefix = "chunk 0 of the IPv4 section is damaged: ";
    let words = refused(&ranges, |bytes| bytes[split + 15] = 35);
    assert_eq!(words, format!("{prefix}the length of a split chunk does not match its number of edges"));
    let words = refused(&ranges, |bytes| bytes[split + 3] = 32);
    assert_eq!(words, format!("{prefix}the edge counts of a split chunk do not ascend"));
    let words = refused(&ranges, |bytes| bytes[split + 16 + 16] |= 0x10);
    assert_eq!(words, format!("{prefix}the padding of a split chunk is not zero"));
    // A changed half byte moves an edge, here out of order.
    let words = refused(&ranges, |bytes| bytes[split + 16] = 0x9);
    assert!(words.contains("its ranges are out of order"), "{words}");
}

#[test]
fn a_bitmap_that_does_not_continue_as_the_index_claims() {
    // Every other address of the first chunk, except its first and last.
    let ranges = fine(&(1..16_383).map(|place| (2 * place, 2 * place)).collect::<Vec<_>>());
    let bytes = table(&ranges);
    assert_eq!(bytes[INDEX + 6..INDEX + 8], 2048_u16.to_le_bytes(), "the first chunk is a bitmap");
    let words = refused(&ranges, |bytes| bytes[INDEX + 7] |= 0x80);
    assert!(words.contains("a range continues across an end of a bitmap, but the bit there is not set"), "{words}");
    // With the last bit set the range continues, as the index claims, but nothing ends it.
    let words = refused(&ranges, |bytes| {
        bytes[INDEX + 7] |= 0x80;
        bytes[edges_after(17) + 4095] |= 0x80;
    });
    assert!(
        words.starts_with("chunk 2 of the IPv4 section is damaged: the index and the previous chunk disagree"),
        "{words}"
    );
}

#[test]
fn invalid_ipv6_entries() {
    // One prefix of 64 bits: a shared prefix of 62 bits, an index of one bit, and a chunk of one column.
    let ranges = v6(&[(0x2001_0db8_u128 << 96, (0x2001_0db8_u128 << 96) | u128::from(u64::MAX))]);
    let chunk = 4 + 2 + 8 + 2 * 4 + 4;
    assert_eq!(table(&ranges)[chunk..chunk + 4], [0, 0, 1, 0]);
    let kind = |kind| refused(&ranges, |bytes| bytes[chunk + 2] = kind);
    assert!(kind(17).ends_with("a prefix has bits set past its length"), "longer than the column");
    assert!(kind(200).ends_with("a prefix has bits set past its length"));
    assert!(kind(254).starts_with("chunk 1 of the IPv6 section is damaged: the index and the previous chunk disagree"));
    assert!(kind(255).ends_with("a range ends that never began, or begins inside another"));
    let words = refused(&ranges, |bytes| bytes[chunk + 1] = 0x40);
    assert!(words.ends_with("a prefix has bits set past its length"), "{words}");
    let words = refused(&ranges, |bytes| bytes[chunk + 3] = 1);
    assert!(words.ends_with("padded with zeros to a whole unit"), "{words}");
    let words = refused(&ranges, |bytes| bytes[6] = 1);
    assert!(words.ends_with("the prefix that its ranges share has bits set past its length"), "{words}");
}

#[test]
fn a_nested_ipv6_index() {
    // 100 single addresses in one /32, and one far away: the chunk of the /32 has a nested index.
    let near = |place: u128| 0x2001_0db8_u128 << 96 | place << 64;
    let mut ranges: Vec<_> = (0..100).map(|place| (near(place), near(place))).collect();
    ranges.push((0x2001_1db8_u128 << 96, 0x2001_1db8_u128 << 96));
    let ranges = v6(&ranges);
    let bytes = table(&ranges);
    let root_chunks = 4 + 10 + (4 << bytes[5]) + 4;
    let entries = bytes[14..root_chunks].as_chunks().0.iter().copied().map(u32::from_le_bytes);
    let entry = entries.clone().find(|entry| entry & 1 << 27 != 0).expect("no chunk has a nested index");
    let node = root_chunks + 2 * (entry & 0x7ff_ffff) as usize;
    let (shared, bits) = (bytes[node], bytes[node + 1]);
    assert!(shared > 32 && bits >= 4, "{shared} {bits}");
    let words = |offset: usize, value: u8| refused(&ranges, |bytes| bytes[offset] = value);
    assert!(words(node, 1).ends_with("the prefix that its ranges share has bits set past its length"));
    assert!(words(node, 63).contains("within the first 63 bits of the address"));
    assert!(words(node, 200).contains("within the first 63 bits of the address"));
    assert!(words(node + 1, 0).contains("its index must have 1 to 20 bits"));
    assert!(words(node + 1, 255).contains("its index must have 1 to 20 bits"));
    assert!(words(node + 9, 0x30).ends_with("the prefix of a nested index is outside its chunk"));
    assert!(words(node + 2, 1).ends_with("the prefix that its ranges share has bits set past its length"));
    let end = node + 10 + (4 << bits);
    assert!(words(end, bytes[end] ^ 1).ends_with("its length does not match its nested index"));
    assert!(words(end + 3, 0x80).ends_with("a nested index and its last chunk disagree on whether a range continues"));
    assert!(words(end + 3, 0x08).ends_with("the last entry of an index has unused bits set"));
    assert!(
        words(node + 13, bytes[node + 13] | 0x80)
            .ends_with("a nested index and the previous chunk disagree on whether a range continues")
    );
    // A leaf that claims to be an index.
    assert!(!words(node + 13, bytes[node + 13] | 0x08).is_empty());
    // Only in the root: no range may continue past the last chunk.
    let words = refused(&ranges, |bytes| bytes[root_chunks - 1] |= 0x80);
    assert_eq!(words, "the IPv6 section is damaged: its last range does not end");
}

/// What the checksum is for, in tables with every kind of chunk. The tests above and the fuzzers cover attackers, who
/// can make a valid checksum.
#[test]
fn truncations_and_flipped_bits_are_refused() {
    /// A snapshot is hashed as often as it has offsets that are tried. All of them, for all but the largest.
    const MOST_OFFSETS: usize = 10_000;
    for Sample { name, ranges } in samples() {
        let generation = Generation { epoch: 0, next_offset: 2, expiry: None };
        let new = NewSnapshot { name: "edgefold", generation, as_of: 1, settings: &Settings::default(), cut_at: 0 };
        let bytes = new.encode_default_list(ranges).unwrap();
        let step = bytes.len().div_ceil(MOST_OFFSETS);
        // A thread for each half.
        std::thread::scope(|scope| {
            for half in 0..2 {
                let mut bytes = bytes.clone();
                scope.spawn(move || {
                    for offset in (half * step..bytes.len()).step_by(2 * step) {
                        assert!(
                            Snapshot::open(&bytes[..offset]).is_err(),
                            "{name}: the first {offset} bytes were accepted"
                        );
                        for bit in 0..8 {
                            bytes[offset] ^= 1 << bit;
                            assert!(
                                Snapshot::open(&bytes).is_err(),
                                "{name}: flipping bit {bit} of byte {offset} was not detected"
                            );
                            bytes[offset] ^= 1 << bit;
                        }
                    }
                });
            }
        });
    }
}
