//! One filter for all threads of a process: while one configures it again and again, the others look through it.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod hosts;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

use edgefold_filter_native::process::{Process, SharedFilter};
use edgefold_snapshot::{Generation, ListAction, NewList, NewSnapshot};

use crate::hosts::{Configuring, base, configure, number_of, overlay, ranges, request, settings, snapshot};

/// How often the filter is configured, and how many threads look.
const RELOADS: u64 = 1_000;
const READERS: usize = 3;

/// Configures the filter with each of `generations`, while threads look. No thread may ever see anything but one whole generation, nor go
/// back, and what no thread looks at any more must be freed.
fn reload(filter: &Arc<SharedFilter>, generations: impl Iterator<Item = (u64, Vec<Vec<u8>>)>) {
    let is_over = AtomicBool::new(false);
    let looks: Vec<AtomicU64> = (0..READERS).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        for looks in &looks {
            let (filter, is_over) = (Arc::clone(filter), &is_over);
            scope.spawn(move || {
                // Whoever panics must not be waited for.
                let _end = OnDrop(|| is_over.store(true, Ordering::Relaxed));
                let mut newest = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let number = number_of(&filter.serving());
                    assert!(number >= newest, "{number} after {newest}");
                    newest = number;
                    looks.fetch_add(1, Ordering::Relaxed);
                    // There may be fewer cores than threads.
                    thread::yield_now();
                }
            });
        }
        let all_have_looked_twice = || {
            // The first of them may have begun before.
            let before: Vec<u64> = looks.iter().map(|looks| looks.load(Ordering::Relaxed)).collect();
            let have_looked =
                || looks.iter().zip(&before).all(|(looks, before)| looks.load(Ordering::Relaxed) >= before + 2);
            while !have_looked() && !is_over.load(Ordering::Relaxed) {
                thread::yield_now();
            }
        };
        // Whatever happens, the threads must end.
        let _end = OnDrop(|| is_over.store(true, Ordering::Relaxed));
        for (number, snapshots) in generations {
            let before = Arc::downgrade(&filter.serving());
            for snapshot in snapshots {
                assert!(configure(filter, snapshot));
            }
            assert_eq!(number_of(&filter.serving()), number);
            all_have_looked_twice();
            assert_eq!(Weak::strong_count(&before), 0, "what served before {number} is freed");
        }
    });
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn threads_see_one_whole_snapshot_at_a_time_and_old_ones_are_freed() {
    let filter = Process::new().filter(b"edgefold");
    assert!(configure(&filter, snapshot(1)));
    reload(&filter, (2..RELOADS).map(|number| (number, vec![snapshot(number)])));
}

#[test]
fn threads_see_one_whole_pair_at_a_time_and_old_ones_are_freed() {
    let filter = Process::new().filter(b"edgefold");
    assert!(configure(&filter, base(1)) && configure(&filter, overlay(2, &base(1), 1)));
    // A new base comes with every tenth overlay, before or after it.
    let mut base_number = 1;
    reload(
        &filter,
        (3..RELOADS).map(|number| {
            if number % 10 != 0 {
                return (number, vec![overlay(number, &base(base_number), base_number)]);
            }
            base_number = number - 1;
            let mut pair = vec![base(base_number), overlay(number, &base(base_number), base_number)];
            if number % 20 == 0 {
                pair.reverse();
            }
            (number, pair)
        }),
    );
}

/// Configures the filter with a snapshot that the configuration names, and says whether that was read.
fn name(filter: &SharedFilter, snapshot: &[u8]) -> bool {
    let host = Configuring { snapshot: snapshot.to_vec(), is_named: true, ..Configuring::default() };
    assert!(filter.configure(b"edgefold", &host));
    host.reads.get() > 0
}

/// Each kind of filter and each listener is configured with it.
#[test]
fn a_snapshot_that_is_there_is_not_read_again() {
    let filter = Process::new().filter(b"edgefold");
    assert!(name(&filter, &snapshot(1)) && !name(&filter, &snapshot(1)), "a whole one");
    let (base, over) = (base(2), overlay(3, &base(2), 2));
    assert!(name(&filter, &base) && !name(&filter, &base), "a spare base");
    assert!(name(&filter, &over) && !name(&filter, &over) && !name(&filter, &base), "a pair");
    let waiting = overlay(5, &hosts::base(4), 4);
    assert!(name(&filter, &waiting) && !name(&filter, &waiting), "an overlay that waits");
    assert!(name(&filter, &snapshot(3)), "what is not there");
    assert_eq!(number_of(&filter.serving()), 3);
}

/// Found by a review: a base that served because nothing else was there counted as one that was kept for an overlay.
#[test]
fn a_base_that_has_given_way_to_another_is_taken_again() {
    let filter = Process::new().filter(b"edgefold");
    name(&filter, &overlay(2, &base(1), 1));
    let (first, second) = (base(3), base(4));
    assert!(name(&filter, &first) && name(&filter, &second) && name(&filter, &first));
    name(&filter, &overlay(5, &first, 3));
    assert_eq!(number_of(&filter.serving()), 5);
}

#[test]
fn a_filter_lives_as_long_as_something_has_it() {
    let process = Process::new();
    let (first, again) = (process.filter(b"edgefold"), process.filter(b"edgefold"));
    assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &process.filter(b"other")));
    assert!(configure(&first, snapshot(7)));
    drop(first);
    assert_eq!(number_of(&again.serving()), 7);
    drop(again);
    let fresh = process.filter(b"edgefold");
    assert_eq!(request(&fresh.serving(), [192, 0, 2, 9].into()).map(|(status, _)| status), Some(503));
}

#[test]
fn what_is_rejected_changes_nothing() {
    let filter = Process::new().filter(b"edgefold");
    assert!(configure(&filter, snapshot(7)));
    let mut damaged = snapshot(8);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    assert!(!configure(&filter, damaged) && !configure(&filter, b"EDGEFOLD".to_vec()));
    assert!(configure(&filter, snapshot(6)), "an older one is accepted, because another kind of filter may need it");
    assert_eq!(number_of(&filter.serving()), 7, "and does not serve");
}

/// Envoy numbers metrics anew in each configuration, so each must define the same ones in the same order.
#[test]
fn each_configuration_defines_the_metrics_of_those_before_it() {
    let filter = Process::new().filter(b"edgefold");
    let defined = |number, lists: &[&str]| {
        let (settings, generation) = (settings(number), Generation { next_offset: number, ..Generation::default() });
        let new = NewSnapshot { name: "edgefold", generation, as_of: 0, settings: &settings, cut_at: 0 };
        let action = &ListAction::default();
        let lists = lists.iter().map(|name| NewList { name: name.parse().unwrap(), action, ranges: ranges([]) });
        let host = Configuring { snapshot: new.encode(lists).unwrap(), ..Configuring::default() };
        assert!(filter.configure(b"edgefold", &host), "{:?}", host.errors);
        format!("{:?}", host.names.into_inner())
    };
    let first = defined(1, &["default"]);
    assert_eq!(defined(2, &["default"]), first);
    let with_feed = defined(3, &["default", "feed"]);
    assert!(with_feed.starts_with(first.trim_end_matches("])")) && with_feed.contains("feed"), "{with_feed}");
    assert_eq!(defined(4, &["default"]), with_feed);
}
