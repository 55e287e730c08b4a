//! What is written in a format reads back as the same addresses, and with the same ends in formats that have ends.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use edgefold_formats::{Block, Format, LogTime, ReadOptions, Until, WriteOptions, read, write};
use edgefold_table::{AddressRange, IPV4_MAPPED, IpRange};
use proptest::prelude::*;

/// The longest time of a block: that of ipset, which counts to 24 days.
const MOST_MILLIS: u64 = 2_147_483_000;
/// The first address after `::/96`, where MaxMind databases have IPv4, and no IPv6.
const AFTER_IPV4_COMPATIBLE: u128 = 1 << 32;

fn now() -> LogTime {
    "2026-11-26T12:00:00.250Z".parse().unwrap()
}

fn blocks_after_write_and_read(format: Format, blocks: &[Block], name: &str) -> Vec<Block> {
    let mut file = Vec::new();
    let options = WriteOptions { now: now(), name: name.to_owned() };
    write(format, &mut blocks.iter().copied(), &options, &mut file).unwrap();
    let mut found = Vec::new();
    let options = ReadOptions { now: now(), ..ReadOptions::default() };
    read(format, &mut file.as_slice(), &options, &mut |entry| {
        found.push(entry.unwrap_or_else(|bad| panic!("{format}: {bad}")));
        true
    })
    .unwrap_or_else(|error| panic!("{format}: {error}"));
    found
}

/// The first and the last address, as numbers.
fn ends(range: IpRange) -> (bool, u128, u128) {
    let number = |address| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    (matches!(range, IpRange::V4(_)), number(range.first()), number(range.last()))
}

/// When the block of an address ends, of any that contain it the last; `None` if none does.
fn end_of(is_v4: bool, address: u128, blocks: &[Block]) -> Option<Until> {
    let contains = |block: &&Block| {
        let (family, first, last) = ends(block.range);
        family == is_v4 && first <= address && address <= last
    };
    blocks.iter().filter(contains).map(|block| block.until).max()
}

/// Compares at every address where one side could change.
fn assert_same(format: Format, expected: &[Block], found: &[Block]) {
    let (mapped_first, mapped_last) = (IPV4_MAPPED.first().to_bits(), IPV4_MAPPED.last().to_bits());
    let mut points = vec![(true, 0), (false, 0), (false, AFTER_IPV4_COMPATIBLE), (false, mapped_last + 1)];
    for block in expected.iter().chain(found) {
        let (is_v4, first, last) = ends(block.range);
        let most = if is_v4 { u128::from(u32::MAX) } else { u128::MAX };
        points.push((is_v4, first));
        points.extend(last.checked_add(1).filter(|next| *next <= most).map(|next| (is_v4, next)));
    }
    points.sort_unstable();
    points.dedup();
    for (is_v4, address) in points {
        if !is_v4 && (mapped_first..=mapped_last).contains(&address) {
            continue;
        }
        if !is_v4 && address < AFTER_IPV4_COMPATIBLE && format == Format::Mmdb {
            assert_eq!(end_of(is_v4, address, found), None, "{format}: the place of IPv4");
            continue;
        }
        // The only address that a format cannot say: see there.
        if format == Format::NginxDeny && is_v4 && address == u128::from(u32::MAX) {
            continue;
        }
        let (expected, found) = (end_of(is_v4, address, expected), end_of(is_v4, address, found));
        let shown = if is_v4 {
            IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(address).unwrap()))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(address))
        };
        assert_eq!(found.is_some(), expected.is_some(), "{format}: {shown}");
        let (Some(expected), Some(found)) = (expected, found) else { continue };
        match (format.says_ends(), expected.time(), found.time()) {
            (false, _, None) | (true, None, None) => {}
            (true, Some(expected), Some(found)) => {
                let late = found.millis().checked_sub(expected.millis());
                assert!(
                    late.is_some_and(|late| late < 1000),
                    "{format}: {shown} ends at {found} and not at {expected}"
                );
            }
            _ => panic!("{format}: {shown} ends at {found} and not at {expected}"),
        }
    }
}

fn assert_round_trip(blocks: &[Block]) {
    for format in Format::ALL.iter().copied().filter(|format| format.is_written() && format.is_read()) {
        assert_same(format, blocks, &blocks_after_write_and_read(format, blocks, "tor-exits"));
    }
}

fn until() -> impl Strategy<Value = Until> {
    prop_oneof![
        Just(Until::FOREVER),
        (1..MOST_MILLIS).prop_map(|millis| now().checked_add(Duration::from_millis(millis)).unwrap().into()),
    ]
}

/// Disjoint and sorted ranges between neighbours of sorted numbers.
fn disjoint(mut numbers: Vec<u128>) -> Vec<(u128, u128)> {
    numbers.sort_unstable();
    numbers.dedup();
    numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

/// Numbers near both ends, near the IPv4-mapped addresses, near powers of two, and others.
fn number(bits: u32) -> impl Strategy<Value = u128> {
    let most = u128::MAX >> (128 - bits);
    prop_oneof![
        Just(0),
        Just(most),
        (0_u128..4).prop_map(move |back| most - back),
        (0..bits, 0_u128..3).prop_map(move |(power, off)| ((1_u128 << power) - 1 + off).min(most)),
        (0_u128..3).prop_map(move |off| (0xffff_0000_0000 - 1 + off).min(most)),
        (0_u128..3).prop_map(move |off| (0xffff_ffff_ffff - 1 + off).min(most)),
        any::<u128>().prop_map(move |any| any >> (128 - bits)),
    ]
}

fn blocks() -> impl Strategy<Value = Vec<Block>> {
    let numbers = |bits| prop::collection::vec(number(bits), 0..12);
    (numbers(32), numbers(128), prop::collection::vec(until(), 12)).prop_map(|(v4, v6, untils)| {
        let v4 = disjoint(v4).into_iter().map(|(first, last)| {
            let address = |bits| Ipv4Addr::from_bits(u32::try_from(bits).unwrap());
            IpRange::V4(AddressRange::new(address(first), address(last)).unwrap())
        });
        let v6 = disjoint(v6).into_iter().map(|(first, last)| {
            IpRange::V6(AddressRange::new(Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last)).unwrap())
        });
        v4.chain(v6).zip(untils).map(|(range, until)| Block { range, until }).collect()
    })
}

proptest! {
    #[test]
    fn random_blocks_read_back_as_they_were_written(blocks in blocks()) {
        assert_round_trip(&blocks);
    }
}

fn forever(ranges: &[&str]) -> Vec<Block> {
    ranges.iter().map(|range| Block { range: range.parse().unwrap(), until: Until::FOREVER }).collect()
}

#[test]
fn all_addresses_read_back() {
    assert_round_trip(&forever(&["0.0.0.0/0", "::/0"]));
}

#[test]
fn single_addresses_at_the_ends_read_back() {
    let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    assert_round_trip(&forever(&["0.0.0.0", "255.255.255.255", "::", last]));
}

#[test]
fn an_empty_list_reads_back() {
    assert_round_trip(&[]);
}

#[test]
fn an_ipv6_range_over_the_ipv4_mapped_addresses_does_not_become_ipv4() {
    for range in ["::fffe:ffff:ffff-::1:0:0:1", "::1-::1:0:0:0", "::1-1::"] {
        assert_round_trip(&forever(&[range]));
    }
}

#[test]
fn a_block_that_has_ended_is_left_out() {
    let range = "192.0.2.0/24".parse().unwrap();
    let ended = Block { range, until: now().into() };
    for format in Format::ALL.iter().copied().filter(|format| format.is_written() && format.is_read()) {
        assert!(blocks_after_write_and_read(format, &[ended], "tor-exits").is_empty(), "{format}");
    }
}

#[test]
fn every_name_of_a_list_can_be_written() {
    let blocks = forever(&["192.0.2.0/24", "2001:db8::/32"]);
    for name in ["default", "1", "2024.tor_exits-all", &"a".repeat(63), "drop"] {
        for format in Format::ALL.iter().copied().filter(|format| format.is_written() && format.is_read()) {
            assert_same(format, &blocks, &blocks_after_write_and_read(format, &blocks, name));
        }
    }
}
