//! What an operator reads when a snapshot is damaged.
#![allow(clippy::unwrap_used, reason = "a test helper may panic, like the test")]

use edgefold_snapshot::{
    ClientAddress, Generation, MAX_SNAPSHOT_BYTES, NewSnapshot, Settings, Snapshot, TrustedProxies,
};
use xxhash_rust::xxh3::xxh3_64;

/// The worked example of `docs/format.md`, which names its bytes.
const SAMPLE: &[u8] = include_bytes!("fixtures/v4.snapshot");
const HEADER_LENGTH: usize = 12;
const LIST: usize = 16;
const NEXT_OFFSET: usize = 26;
const EXPIRY: usize = 27;
const IPV4_RANGES: usize = 37;
const MODE: usize = 39;
const STATUS: usize = 40;

fn error(bytes: &[u8]) -> String {
    Snapshot::open(bytes).unwrap_err().to_string()
}

/// The error of the sample after `bytes` were written at `offset`, with a checksum that is right.
fn error_with(offset: usize, bytes: &[u8]) -> String {
    error_in(SAMPLE, offset, bytes)
}

fn error_in(snapshot: &[u8], offset: usize, bytes: &[u8]) -> String {
    let mut content = snapshot[..snapshot.len() - 8].to_vec();
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
    let checksum = xxh3_64(&content);
    error(&[content, checksum.to_le_bytes().to_vec()].concat())
}

#[test]
fn bytes_that_end_early_are_counted() {
    assert_eq!(error(&[]), "no bytes at all: the configuration must hold an edgefold snapshot");
    assert_eq!(error(&SAMPLE[..7]), "not an edgefold snapshot: the first 8 bytes are not \"EDGEFOLD\"");
    for length in [11, 12, 23] {
        assert_eq!(error(&SAMPLE[..length]), format!("truncated: {length} bytes, but at least 24 are needed"));
    }
    let damaged = error(&SAMPLE[..SAMPLE.len() - 1]);
    assert!(damaged.starts_with("damaged or truncated: the checksum is 0x"), "{damaged}");
}

#[test]
fn a_header_of_another_length_is_refused() {
    let length = |bytes: u32| error_with(HEADER_LENGTH, &bytes.to_le_bytes());
    assert_eq!(length(65537), "the header claims 65537 bytes, but at most 65536 are allowed");
    assert_eq!(length(65536), "truncated: 235 bytes, but at least 65560 are needed");
    assert_eq!(length(53), "the header cannot be decoded: it ends early");
    assert_eq!(length(55), "the header claims 55 bytes, but ends after 54");
}

#[test]
fn a_header_with_other_fields_is_refused() {
    let undecodable = |offset, bytes: &[u8]| {
        let error = error_with(offset, bytes);
        error.strip_prefix("the header cannot be decoded: ").map(str::to_owned).ok_or(error).unwrap()
    };
    let long = [&[0xfd][..], &u64::MAX.to_le_bytes()].concat();
    assert_eq!(undecodable(LIST, &long), "a text or list in it claims to be longer than the whole header may be");
    assert_eq!(undecodable(LIST + 1, &[0xff]), "a text in it is not UTF-8");
    assert_eq!(undecodable(NEXT_OFFSET, &[0xfe]), "a number in it is too large");
    let unknown = "a field in it has a value that this version does not know";
    assert_eq!(undecodable(EXPIRY, &[2]), unknown);
    assert_eq!(undecodable(MODE, &[9]), unknown);
    let status = error_with(STATUS + 1, &42_u16.to_le_bytes());
    assert!(status.starts_with("the settings are invalid: ") && status.contains("42"), "{status}");
}

#[test]
fn a_trusted_proxy_that_is_no_range_is_refused() {
    let client_address = ClientAddress::Header {
        name: "x-real-ip".to_owned(),
        trusted_hops: 1,
        trusted_proxies: TrustedProxies(vec!["10.0.0.0/24".parse().unwrap()]),
    };
    let (generation, settings) =
        (Generation { epoch: 0, next_offset: 0, expiry: None }, Settings { client_address, ..Settings::default() });
    let new = NewSnapshot { list: "edgefold", generation, as_of: 0, settings: &settings, cut_at: 0 };
    let snapshot = new.encode([]).unwrap();
    // The family, and the bytes of the two addresses.
    let first = [0, 10, 0, 0, 0, 0, 10, 0, 0, 255];
    let at = snapshot.windows(first.len()).position(|bytes| bytes == first).unwrap();
    let expected = "the header cannot be decoded: an address is neither IPv4 nor IPv6";
    assert_eq!(error_in(&snapshot, at, &[2]), expected);
    let expected = "the header cannot be decoded: two addresses are not a range";
    assert_eq!(error_in(&snapshot, at + 1, &[11]), expected);
}

/// Its checksum is not even computed.
#[test]
fn a_snapshot_that_a_vm_could_not_change_to_is_refused() {
    let mut long = SAMPLE.to_vec();
    long.resize(MAX_SNAPSHOT_BYTES, 0);
    assert!(error(&long).starts_with("damaged or truncated"));
    long.push(0);
    assert_eq!(error(&long), "longer than 256 MiB, and two snapshots must fit into a VM: split the list");
}

#[test]
fn a_header_that_counts_other_ranges_is_refused() {
    let expected = "the header counts 3 IPv4 and 1 IPv6 ranges, but the table holds 2 and 1";
    assert_eq!(error_with(IPV4_RANGES, &[3]), expected);
    let expected = "the header counts 2 IPv4 and 4 IPv6 ranges, but the table holds 2 and 1";
    assert_eq!(error_with(IPV4_RANGES + 1, &[4]), expected);
}
