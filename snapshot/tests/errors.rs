//! What an operator reads when a snapshot is damaged.
#![allow(clippy::unwrap_used, reason = "a test helper may panic, like the test")]

use edgefold_snapshot::{
    ClientAddress, EncodeError, Fingerprint, Generation, ListAction, ListName, MAX_NAMED_LISTS, MAX_SETTINGS_BYTES,
    MAX_SNAPSHOT_BYTES, NewList, NewOverlayList, NewSnapshot, Overlay, Refusal, Role, Settings, Share, Snapshot,
    TrustedProxies,
};
use xxhash_rust::xxh3::xxh3_64;

/// The worked example of `docs/format.md`, which names its bytes.
const SAMPLE: &[u8] = include_bytes!("fixtures/v6.snapshot");
const HEADER_LENGTH: usize = 12;
const ROLE: usize = 16;
const NAME: usize = 17;
const NEXT_OFFSET: usize = 27;
const EXPIRY: usize = 28;
const MODE: usize = 38;
const STATUS: usize = 39;
/// The number of lists. The name of the first follows.
const LISTS: usize = 86;
const SHARE: usize = 96;
const IPV4_RANGES: usize = 98;
const TABLE_BYTES: usize = 100;
/// The name of the second list.
const SECOND_LIST: usize = 101;
const ACTION: usize = 112;
const IPV4_SECTION_LENGTH: usize = 116;

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
    assert_eq!(error(b"EDGY"), "not an edgefold snapshot: the first 8 bytes are not \"EDGEFOLD\"");
    for length in [2, 7, 8, 11, 12, 23] {
        assert_eq!(error(&SAMPLE[..length]), format!("truncated: {length} bytes, but at least 24 are needed"));
    }
    let damaged = error(&SAMPLE[..SAMPLE.len() - 1]);
    assert!(damaged.starts_with("damaged or truncated: the checksum is 0x"), "{damaged}");
}

#[test]
fn a_header_of_another_length_is_refused() {
    let length = |bytes: u32| error_with(HEADER_LENGTH, &bytes.to_le_bytes());
    assert_eq!(length(1_048_577), "the header claims 1048577 bytes, but at most 1048576 are allowed");
    assert_eq!(length(1_048_576), "truncated: 362 bytes, but at least 1048600 are needed");
    assert_eq!(length(99), "the header cannot be decoded: it ends early");
    assert_eq!(length(101), "the header claims 101 bytes, but ends after 100");
}

#[test]
fn a_header_with_other_fields_is_refused() {
    let undecodable = |offset, bytes: &[u8]| {
        let error = error_with(offset, bytes);
        error.strip_prefix("the header cannot be decoded: ").map(str::to_owned).ok_or(error).unwrap()
    };
    let long = [&[0xfd][..], &u64::MAX.to_le_bytes()].concat();
    assert_eq!(undecodable(NAME, &long), "a text or list in it claims to be longer than the whole header may be");
    assert_eq!(undecodable(NAME + 1, &[0xff]), "a text in it is not UTF-8");
    assert_eq!(undecodable(NEXT_OFFSET, &[0xfe]), "a number in it is too large");
    let unknown = "a field in it has a value that this version does not know";
    assert_eq!(undecodable(EXPIRY, &[2]), unknown);
    assert_eq!(undecodable(MODE, &[9]), unknown);
    assert_eq!(undecodable(ROLE, &[3]), unknown);
    assert_eq!(undecodable(ACTION, &[4]), unknown);
    assert_eq!(undecodable(SHARE, &[101]), "a share is more than 100 percent");
    assert_eq!(undecodable(SECOND_LIST + 1, b"M"), "the name of a list has another form");
    assert_eq!(undecodable(LISTS, &[66]), "it ends early");
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
    let snapshot =
        encoded(&Settings { client_address, ..Settings::default() }, &[(ListName::DEFAULT, ListAction::default())]);
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
    assert_eq!(
        error(&long),
        "longer than 256 MiB, and two snapshots must fit into a VM: put some ranges into another log, with a filter of its own"
    );
}

#[test]
fn a_header_that_counts_other_ranges_or_bytes_is_refused() {
    let expected = "list default counts 3 IPv4 and 1 IPv6 ranges, but its table holds 2 and 1";
    assert_eq!(error_with(IPV4_RANGES, &[3]), expected);
    let expected = "list default counts 2 IPv4 and 4 IPv6 ranges, but its table holds 2 and 1";
    assert_eq!(error_with(IPV4_RANGES + 1, &[4]), expected);
    assert_eq!(error_with(TABLE_BYTES, &[156]), "the lists state 237 bytes of tables, but there are 238");
    let table = error_with(IPV4_SECTION_LENGTH, &[0xff]);
    assert!(
        table.starts_with("the table of list default is invalid: the table is 157 bytes long, but needs"),
        "{table}"
    );
}

#[test]
fn lists_out_of_order_are_refused() {
    assert_eq!(error_with(LISTS + 2, b"d-fault"), "the first list is not the default list");
    let names = ["default", "a", "b"].map(|name| name.parse::<ListName>().unwrap());
    let with = |names: &[ListName]| {
        let lists: Vec<_> = names.iter().map(|name| (*name, ListAction::Tag)).collect();
        try_encoded(&Settings::default(), &lists).unwrap_err().to_string()
    };
    assert_eq!(with(&[]), "the first list is not the default list");
    assert_eq!(with(&[names[0], names[2], names[1]]), "list a is out of order, or comes twice");
    assert_eq!(with(&[names[0], names[1], names[1]]), "list a is out of order, or comes twice");
    let many: Vec<ListName> =
        [names[0]].into_iter().chain((10..75).map(|at| format!("l{at}").parse().unwrap())).collect();
    assert_eq!(with(&many), "there are 66 lists, but at most 65 are possible");
}

/// Whoever may write to the log must not be able to stop the shipping.
#[test]
fn all_lists_that_a_log_can_have_fit_into_a_header() {
    let refusal =
        Refusal { body: "x".repeat(4096), headers: vec![("a".to_owned(), "b".to_owned()); 400], ..Refusal::default() };
    let action = ListAction::Deny { share: Share::ALL, refusal: Some(refusal) };
    let names = (0..MAX_NAMED_LISTS).map(|at| format!("{at:063}").parse().unwrap());
    let lists: Vec<_> = [ListName::DEFAULT].into_iter().chain(names).map(|name| (name, action.clone())).collect();
    let mut settings = Settings::default();
    settings.refusal.body = "x".repeat(MAX_SETTINGS_BYTES - 200);
    assert_eq!(Snapshot::open(encoded(&settings, &lists)).unwrap().header().lists.len(), 65);
    settings.refusal.body.push_str(&"x".repeat(200));
    assert!(
        try_encoded(&settings, &lists).unwrap_err().to_string().starts_with("the settings do not fit into 65536 bytes")
    );
}

#[test]
fn an_overlay_that_contradicts_itself_is_refused() {
    let (settings, name, action) = (Settings::default(), ListName::DEFAULT, &ListAction::default());
    let generation = Generation { epoch: 0, next_offset: 4, expiry: None };
    let new = NewSnapshot { name: "edgefold", generation, as_of: 0, settings: &settings, cut_at: 0 };
    let added = NewList { name, action, ranges: vec!["10.0.0.0/24".parse().unwrap()] };
    let removed = Some(vec!["10.0.0.7".parse().unwrap()]);
    let fingerprint = Fingerprint::of(SAMPLE).unwrap();
    let overlay = new.encode_overlay(fingerprint, [NewOverlayList { added, removed }]).unwrap();
    let Role::Overlay(Overlay { base, lists }) = Snapshot::open(&*overlay).unwrap().header().role.clone() else {
        panic!("it is an overlay")
    };
    assert_eq!((base, lists.len()), (fingerprint, 1));
    // After the role come the checksum of the base, with a marker, and its length, with another.
    let removals = ROLE + 1 + 9 + 3;
    let error_with = |offset, bytes: &[u8]| error_in(&overlay, removals + offset, bytes);
    assert_eq!(
        overlay[removals..removals + 5],
        [1, 1, 1, 0, 81],
        "one removal, of one IPv4 range, in a table of 81 bytes"
    );
    assert_eq!(
        error_with(1, &[2]),
        "the header cannot be decoded: a field in it has a value that this version does not know"
    );
    assert_eq!(error_with(2, &[2]), "list default counts 2 IPv4 and 0 IPv6 ranges, but its table holds 1 and 0");
    assert_eq!(error_with(4, &[80]), "the lists state 165 bytes of tables, but there are 166");
    assert_eq!(error_with(4, &[0]), "the lists state 85 bytes of tables, but there are 166");
    // Without its one removal, the header starts its name where the removal was.
    let mut content = overlay[..overlay.len() - 8].to_vec();
    content.drain(removals + 1..removals + 5);
    content[removals] = 0;
    content[HEADER_LENGTH] -= 4;
    let checksum = xxh3_64(&content);
    let error = error(&[content, checksum.to_le_bytes().to_vec()].concat());
    assert_eq!(error, "the overlay says what becomes of 0 lists of its base, but has 1 lists");
}

fn encoded(settings: &Settings, lists: &[(ListName, ListAction)]) -> Vec<u8> {
    try_encoded(settings, lists).unwrap()
}

/// A snapshot of empty lists.
fn try_encoded(settings: &Settings, lists: &[(ListName, ListAction)]) -> Result<Vec<u8>, EncodeError> {
    let generation = Generation { epoch: 0, next_offset: 0, expiry: None };
    let new = NewSnapshot { name: "edgefold", generation, as_of: 0, settings, cut_at: 0 };
    new.encode(lists.iter().map(|(name, action)| NewList { name: *name, action, ranges: [] }))
}
