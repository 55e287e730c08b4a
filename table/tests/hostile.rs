//! Tables that somebody made to do harm: one test for each trick, and every small damage to every kind of chunk. Native only.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a helper of a test fails as the test does")]
#![cfg(not(target_arch = "wasm32"))]

mod samples;

use edgefold_table::{Generation, IpRange, Settings, Snapshot, Table, encode};
use samples::{Sample, samples, v4, v6};

/// Where the parts of a table with an IPv4 section lie: behind the length of the section, its index bits.
const INDEX_BITS: usize = 4;
const INDEX: usize = 5;

fn table(ranges: &[IpRange]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(ranges.iter().copied(), &mut bytes).unwrap();
    bytes
}

/// Opens the table after a change, and gives the words with which it is refused.
fn refused(ranges: &[IpRange], change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = table(ranges);
    Table::open(&bytes).unwrap();
    change(&mut bytes);
    Table::open(&bytes).expect_err("it was taken").to_string()
}

/// Two chunks of four-byte edges: `0.0.0.1-0.0.0.9` and `0.0.0.11`, and `16.0.0.0`.
fn coarse() -> Vec<IpRange> {
    v4(&[(1, 9), (11, 11), (0x1000_0000, 0x1000_0000)])
}

/// Where the columns start behind an index of `bits`.
fn edges_behind(bits: u32) -> usize {
    INDEX + (1 << bits) / 16 * 36 + 4
}

/// So many edges that the index has 17 bits, none of them in the first chunks but these.
fn fine(first: &[(u32, u32)]) -> Vec<IpRange> {
    let many = (0..0x8_0000_u32).map(|place| (0x1000_0000 + 4 * place, 0x1000_0000 + 4 * place));
    v4(&first.iter().copied().chain(many).collect::<Vec<_>>())
}

#[test]
fn a_section_that_is_longer_than_the_table() {
    assert_eq!(
        refused(&coarse(), |bytes| bytes[3] = 0xff),
        "the table is 93 bytes long, but needs at least 4278190173"
    );
    assert_eq!(Table::open([1, 0]).unwrap_err().to_string(), "the table is 2 bytes long, but needs at least 4");
}

#[test]
fn an_index_of_more_bits_than_an_address_has_left() {
    for bits in [0, 3, 18, 32, 255] {
        let words = refused(&coarse(), |bytes| bytes[INDEX_BITS] = bits);
        assert_eq!(words, "the IPv4 section is damaged: its index is not of 4 to 17 bits");
    }
    for bits in [0, 21, 64, 255] {
        let words = refused(&v6(&[(1, 1)]), |bytes| bytes[5] = bits);
        assert!(words.contains("its index is not of 1 to 20 bits"), "{words}");
    }
    let words = refused(&v6(&[(1, 1)]), |bytes| bytes[4] = 63);
    assert!(words.contains("is behind the upper half of the address"), "{words}");
}

#[test]
fn an_index_that_asks_for_more_edges_than_there_are() {
    let end = edges_behind(4) - 4;
    for claimed in [5_u32, 0x4000_0000, u32::MAX] {
        let words = refused(&coarse(), |bytes| bytes[end..end + 4].copy_from_slice(&claimed.to_le_bytes()));
        assert_eq!(words, "the IPv4 section is damaged: its length is not what its index asks for");
    }
}

#[test]
fn an_index_that_falls() {
    // The second chunk of the group starts at unit 3, and the third at 4.
    assert_eq!(table(&coarse())[INDEX + 4..INDEX + 10], [0, 0, 3, 0, 4, 0]);
    let fallen = [
        refused(&coarse(), |bytes| bytes[INDEX + 8] = 2),
        refused(&coarse(), |bytes| bytes[INDEX + 4] = 1),
        refused(&coarse(), |bytes| bytes[INDEX + 34] = 5),
        refused(&coarse(), |bytes| bytes[INDEX] = 1),
    ];
    for words in fallen {
        assert_eq!(words, "the IPv4 section is damaged: its index does not rise from zero");
    }
    let words = refused(&v6(&[(1, 1)]), |bytes| bytes[14] = 1);
    assert_eq!(words, "the IPv6 section is damaged: its index does not start at zero");
    let words = refused(&v6(&[(1, 1)]), |bytes| bytes[18] = 0xff);
    assert!(words.starts_with("chunk 0 of the IPv6 section is damaged: it reaches over"), "{words}");
    let words = refused(&v6(&[(1, 1)]), |bytes| bytes[18] -= 1);
    assert!(words.starts_with("chunk 0 of the IPv6 section is damaged"), "{words}");
}

#[test]
fn an_index_that_says_that_a_range_goes_on_where_none_does() {
    let words = refused(&coarse(), |bytes| bytes[INDEX + 7] |= 0x80);
    assert!(words.starts_with("chunk 1 of the IPv4 section is damaged: the index says otherwise"), "{words}");
    let words = refused(&v6(&[(1, 1)]), |bytes| bytes[17] |= 0x80);
    assert!(words.starts_with("chunk 0 of the IPv6 section is damaged: the index says otherwise"), "{words}");
}

#[test]
fn ranges_that_are_not_in_order_overlap_or_touch() {
    let lows = edges_behind(4) + 3 * 2;
    assert_eq!(table(&coarse())[lows..lows + 6], [0x11, 0, 0x90, 0, 0xb0, 0]);
    for (edge, low) in [(0, 0x90), (1, 0x91), (1, 0xa0), (2, 0x90), (2, 0x80), (1, 0x10)] {
        let words = refused(&coarse(), |bytes| bytes[lows + 2 * edge] = low);
        assert_eq!(
            words,
            "chunk 0 of the IPv4 section is damaged: its ranges are not in order, or overlap, touch or do not end",
            "{edge} {low:#x}"
        );
    }
    // A position between two addresses: the flag is the lowest bit, and the three above it are no part of an edge.
    let words = refused(&coarse(), |bytes| bytes[lows] = 0x13);
    assert!(words.ends_with("an edge has bits that no address of its chunk has"), "{words}");
}

#[test]
fn a_last_range_that_does_not_end() {
    let last = edges_behind(4) + 4 * 2 + 3 * 2;
    let words = refused(&v4(&[(1, 9), (11, 11), (0xf000_0000, 0xf000_0000)]), |bytes| bytes[last] |= 1);
    assert_eq!(words, "the IPv4 section is damaged: its last range does not end");
}

#[test]
fn padding_that_holds_something() {
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
    assert_eq!(words, "the IPv4 section is damaged: it has no ranges, and should be empty");
}

#[test]
fn a_split_chunk_with_other_counts_than_edges() {
    // 33 single addresses in the first chunk: 16 counts, 17 bytes of halves, 33 bytes, no padding.
    let ranges = fine(&(0..33).map(|place| (100 * place, 100 * place)).collect::<Vec<_>>());
    let split = edges_behind(17);
    let bytes = table(&ranges);
    assert_eq!((bytes[INDEX_BITS], bytes[split], bytes[split + 15]), (17, 21, 33));
    let prefix = "chunk 0 of the IPv4 section is damaged: ";
    let words = refused(&ranges, |bytes| bytes[split + 15] = 35);
    assert_eq!(words, format!("{prefix}the length of a split chunk is not what its count of edges asks for"));
    let words = refused(&ranges, |bytes| bytes[split + 3] = 32);
    assert_eq!(words, format!("{prefix}the groups of a split chunk do not rise"));
    let words = refused(&ranges, |bytes| bytes[split + 16 + 16] |= 0x10);
    assert_eq!(words, format!("{prefix}the padding of a split chunk is not zero"));
    // One group more or less for an edge puts it out of order, or somewhere else: no harm.
    let words = refused(&ranges, |bytes| bytes[split + 16] = 0x9);
    assert!(words.contains("its ranges are not in order"), "{words}");
}

#[test]
fn a_bitmap_that_does_not_go_on_as_the_index_says() {
    // Every other address of the first chunk but its first and last.
    let ranges = fine(&(1..16_383).map(|place| (2 * place, 2 * place)).collect::<Vec<_>>());
    let bytes = table(&ranges);
    assert_eq!(bytes[INDEX + 6..INDEX + 8], 2048_u16.to_le_bytes(), "the first chunk is a bitmap");
    let words = refused(&ranges, |bytes| bytes[INDEX + 7] |= 0x80);
    assert!(words.contains("a range goes on over an end of a bitmap that has no bit there"), "{words}");
    // With the last bit set the range goes on, as the index says, but nothing ends it.
    let words = refused(&ranges, |bytes| {
        bytes[INDEX + 7] |= 0x80;
        bytes[edges_behind(17) + 4095] |= 0x80;
    });
    assert!(words.starts_with("chunk 2 of the IPv4 section is damaged: the index says otherwise"), "{words}");
}

#[test]
fn ipv6_entries_that_are_none() {
    // One prefix of 64 bits: the prefix of 62 bits, an index of one, a chunk of one column.
    let ranges = v6(&[(0x2001_0db8_u128 << 96, (0x2001_0db8_u128 << 96) | u128::from(u64::MAX))]);
    let chunk = 4 + 2 + 8 + 2 * 4 + 4;
    assert_eq!(table(&ranges)[chunk..chunk + 4], [0, 0, 1, 0]);
    let kind = |kind| refused(&ranges, |bytes| bytes[chunk + 2] = kind);
    assert!(kind(17).ends_with("a prefix has bits behind its length"), "more than the column has");
    assert!(kind(200).ends_with("a prefix has bits behind its length"));
    assert!(kind(254).starts_with("chunk 1 of the IPv6 section is damaged: the index says otherwise"));
    assert!(kind(255).ends_with("a range ends that has not begun, or begins inside another"));
    let words = refused(&ranges, |bytes| bytes[chunk + 1] = 0x40);
    assert!(words.ends_with("a prefix has bits behind its length"), "{words}");
    let words = refused(&ranges, |bytes| bytes[chunk + 3] = 1);
    assert!(words.ends_with("padded with zero to a whole unit"), "{words}");
    let words = refused(&ranges, |bytes| bytes[6] = 1);
    assert!(words.ends_with("the prefix that its ranges share has bits behind its length"), "{words}");
}

#[test]
fn an_ipv6_index_within_another() {
    // 100 single addresses in one /32, and one far away: the chunk of the /32 has an index of its own.
    let near = |place: u128| 0x2001_0db8_u128 << 96 | place << 64;
    let mut ranges: Vec<_> = (0..100).map(|place| (near(place), near(place))).collect();
    ranges.push((0x2001_1db8_u128 << 96, 0x2001_1db8_u128 << 96));
    let ranges = v6(&ranges);
    let bytes = table(&ranges);
    let root_chunks = 4 + 10 + (4 << bytes[5]) + 4;
    let entries = bytes[14..root_chunks].as_chunks().0.iter().copied().map(u32::from_le_bytes);
    let entry = entries.clone().find(|entry| entry & 1 << 27 != 0).expect("no chunk has an index of its own");
    let node = root_chunks + 2 * (entry & 0x7ff_ffff) as usize;
    let (shared, bits) = (bytes[node], bytes[node + 1]);
    assert!(shared > 32 && bits >= 4, "{shared} {bits}");
    let words = |offset: usize, value: u8| refused(&ranges, |bytes| bytes[offset] = value);
    assert!(words(node, 1).ends_with("the prefix that its ranges share has bits behind its length"));
    assert!(words(node, 63).contains("is behind the upper half of the address"));
    assert!(words(node, 200).contains("is behind the upper half of the address"));
    assert!(words(node + 1, 0).contains("its index is not of 1 to 20 bits"));
    assert!(words(node + 1, 255).contains("its index is not of 1 to 20 bits"));
    assert!(words(node + 9, 0x30).ends_with("an index is not about the addresses of its chunk"));
    assert!(words(node + 2, 1).ends_with("the prefix that its ranges share has bits behind its length"));
    let end = node + 10 + (4 << bits);
    assert!(words(end, bytes[end] ^ 1).ends_with("an index in it asks for another length"));
    assert!(
        words(end + 3, 0x80).ends_with("an index in it says otherwise than its last chunk whether a range goes on")
    );
    assert!(words(end + 3, 0x08).ends_with("the end of an index has bits that tell nothing"));
    assert!(words(node + 13, bytes[node + 13] | 0x80).ends_with("than the chunk before whether a range goes on"));
    // A leaf that is said to be an index.
    assert!(!words(node + 13, bytes[node + 13] | 0x08).is_empty());
    // What is said of the root alone: nothing goes on behind all.
    let words = refused(&ranges, |bytes| bytes[root_chunks - 1] |= 0x80);
    assert_eq!(words, "the IPv6 section is damaged: its last range does not end");
}

/// What the checksum is for, whatever the bit tells: in a table with each kind of chunk. Those who can make a checksum, too,
/// are the matter of the tests above and of the fuzzers.
#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    for Sample { name, ranges } in samples() {
        let generation = Generation { next_offset: 2, expiry: None };
        let bytes = Snapshot::build("edgefold", generation, 1, Settings::default(), ranges).unwrap();
        // Each half by a thread: the largest has millions of bits, and all of it is hashed for each.
        let middle = bytes.len() / 2;
        std::thread::scope(|scope| {
            for part in [0..middle, middle..bytes.len()] {
                let mut bytes = bytes.clone();
                scope.spawn(move || {
                    for offset in part {
                        assert!(
                            Snapshot::open(&bytes[..offset]).is_err(),
                            "{name}: the first {offset} bytes were taken"
                        );
                        for bit in 0..8 {
                            bytes[offset] ^= 1 << bit;
                            assert!(
                                Snapshot::open(&bytes).is_err(),
                                "{name}: bit {bit} of byte {offset} was flipped unnoticed"
                            );
                            bytes[offset] ^= 1 << bit;
                        }
                    }
                });
            }
        });
    }
}
