//! Property tests with shrinking. Native only.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test helper may panic, like the test")]
#![cfg(not(target_arch = "wasm32"))]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use edgefold_snapshot::{Generation, ListAction, NewList, NewSnapshot, Settings, Snapshot};
use edgefold_table::{IpRange, Table, encode};
use proptest::prelude::*;

/// Ranges from steps: each is a gap after the previous range, of at least one address, and a length.
fn ranges(edges: &[(u8, u8)]) -> Vec<(u32, u32)> {
    let mut next = 0_u32;
    edges
        .iter()
        .map(|&(gap, length)| {
            let first = next + u32::from(gap);
            let last = first + u32::from(length);
            next = last + 2;
            (first, last)
        })
        .collect()
}

proptest! {
    #[test]
    fn a_table_agrees_with_a_btreemap_at_every_address(
        v4 in proptest::collection::vec((0..20_u8, 0..20_u8), 0..40),
        v6 in proptest::collection::vec((0..20_u8, 0..20_u8), 0..40),
        high in any::<bool>(),
    ) {
        // The lowest or the highest addresses of the family, to cover both ends.
        let v4_at = |low: u32| Ipv4Addr::from_bits(if high { u32::MAX - 2000 + low } else { low });
        let v6_at = |low: u32| Ipv6Addr::from_bits(if high { u128::MAX - 2000 + u128::from(low) } else { low.into() });
        let v4: BTreeMap<_, _> = ranges(&v4).into_iter().map(|(first, last)| (v4_at(first), v4_at(last))).collect();
        let v6: BTreeMap<_, _> = ranges(&v6).into_iter().map(|(first, last)| (v6_at(first), v6_at(last))).collect();
        let all: Vec<IpRange> = v4.iter().map(|(&a, &b)| IpRange::new(a.into(), b.into()).unwrap())
            .chain(v6.iter().map(|(&a, &b)| IpRange::new(a.into(), b.into()).unwrap()))
            .collect();
        let mut bytes = Vec::new();
        encode(all.iter().copied(), &mut bytes).unwrap();
        let table = Table::open(&bytes).unwrap();
        prop_assert!(table.iter().eq(all.iter().copied()));
        for low in 0..=2000 {
            let (ip4, ip6) = (v4_at(low), v6_at(low));
            let in_v4 = v4.range(..=ip4).next_back().filter(|&(_, &last)| ip4 <= last);
            let in_v6 = v6.range(..=ip6).next_back().filter(|&(_, &last)| ip6 <= last);
            prop_assert_eq!(table.contains(ip4.into()), in_v4.is_some());
            prop_assert_eq!(table.contains(ip6.into()), in_v6.is_some());
            let expected = in_v4.map(|(&first, &last)| IpRange::new(first.into(), last.into()).unwrap());
            prop_assert_eq!(table.range(ip4.into()), expected);
            let expected = in_v6.map(|(&first, &last)| IpRange::new(first.into(), last.into()).unwrap());
            prop_assert_eq!(table.range(ip6.into()), expected);
        }
        let generation = Generation { epoch: 0, next_offset: 7, expiry: Some(9) };
        let settings = &Settings::default();
        let new = NewSnapshot { name: "edgefold", generation, as_of: 9, settings, cut_at: 0 };
        let action = ListAction::Tag;
        let lists = [("default", &all[..]), ("a", &[])].map(|(name, ranges)| {
            NewList { name: name.parse().unwrap(), action: &action, ranges: ranges.iter().copied() }
        });
        let mut snapshot = Snapshot::open(new.encode(lists).unwrap()).unwrap();
        prop_assert!(snapshot.table(0).unwrap().iter().eq(all));
        snapshot.prepare();
        for ip in (0..=2000).flat_map(|low| [v4_at(low).into(), v6_at(low).into(), v4_at(low).to_ipv6_mapped().into()]) {
            prop_assert!(snapshot.may_have(ip) || !snapshot.contains(0, ip), "{}", ip);
        }
        prop_assert!(high || !snapshot.may_have("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(table) = Table::open(&bytes) {
            for ip in ["0.0.0.0", "128.0.0.0", "255.255.255.255", "::", "8000::"] {
                let ip = ip.parse().unwrap();
                prop_assert_eq!(table.range(ip).is_some(), table.contains(ip));
            }
        }
        let _ = Snapshot::open(&bytes);
    }
}
