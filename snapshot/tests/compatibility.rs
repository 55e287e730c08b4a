//! Snapshots of released versions. From version 3 on, a sample of each version that was released stays in `fixtures/`.
//! When the version goes up, the new version gets a sample too, and the old samples must be refused by their number.
#![allow(clippy::unwrap_used, reason = "a test helper may panic, like the test")]

use edgefold_snapshot::{Generation, ListAction, OpenError, Role, Settings, Snapshot, VERSION};

/// The worked example of `docs/format.md`.
const V6: &[u8] = include_bytes!("fixtures/v6.snapshot");
const V5: &[u8] = include_bytes!("fixtures/v5.snapshot");
const V4: &[u8] = include_bytes!("fixtures/v4.snapshot");
const V3: &[u8] = include_bytes!("fixtures/v3.snapshot");

#[test]
fn the_sample_of_version_6_opens_with_what_the_document_says() {
    let snapshot = Snapshot::open(V6).unwrap();
    let ranges =
        |list| -> Vec<String> { snapshot.table(list).unwrap().iter().map(|range| range.shortest_text()).collect() };
    assert_eq!(ranges(0), ["10.0.0.1-10.0.0.99", "10.0.0.101-10.0.0.255", "2001:db8::/112"]);
    assert_eq!(ranges(1), ["10.0.0.7"]);
    let header = snapshot.header();
    assert_eq!((&header.role, header.name.as_str()), (&Role::Whole, "edgefold"));
    assert_eq!(header.generation, Generation { epoch: 0, next_offset: 4, expiry: None });
    assert_eq!(header.as_of, 1_473_694_320_000);
    assert_eq!(header.ranges(), (3, 1));
    assert_eq!(header.settings, Settings::default());
    let lists: Vec<(&str, &ListAction)> = header.lists.iter().map(|list| (list.name.as_str(), &list.action)).collect();
    assert_eq!(lists, [("default", &ListAction::default()), ("monitoring", &ListAction::Exempt)]);
}

#[test]
fn older_samples_are_refused_by_their_number() {
    assert!(matches!(Snapshot::open(V3), Err(OpenError::Version { found: 3 })));
    assert!(matches!(Snapshot::open(V4), Err(OpenError::Version { found: 4 })));
    assert!(matches!(Snapshot::open(V5), Err(OpenError::Version { found: 5 })));
}

/// Whatever else differs in another version, such as the checksum, cannot matter: the number is reported first.
#[test]
fn any_other_version_is_refused_by_its_number() {
    for version in (0..100).chain([1 << 8, 1 << 31, u32::MAX]).filter(|&version| version != VERSION) {
        let mut bytes = V6.to_vec();
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        for length in [bytes.len(), 12] {
            let refused = Snapshot::open(&bytes[..length]);
            let found = if let Err(OpenError::Version { found }) = refused { Some(found) } else { None };
            assert_eq!(found, Some(version), "{length} bytes");
        }
    }
}
