//! The filter of a process as a model: threads that configure it and threads that ask it, in orders that shuttle draws. A failure prints the
//! schedule, which `shuttle::replay` runs again.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod hosts;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use edgefold_filter_native::process::{Process, SharedFilter};
use shuttle::thread::{self, JoinHandle};

use crate::hosts::{base, configure, number_of, overlay, snapshot};

/// In how many orders a model runs: so many are drawn evenly, and as many by probabilistic concurrency testing (PCT).
const ORDERS: usize = 5_000;
/// How often PCT makes another thread go on, at moments that it draws.
const CHANGES: usize = 2;

fn in_many_orders(model: fn()) {
    shuttle::check_random(model, ORDERS);
    shuttle::check_pct(model, ORDERS, CHANGES + 1);
}

/// Asks a few times. What answers is one whole generation each time, and never an earlier one than before.
///
/// `overtaken` counts how often something else served when it had looked than when it began. It is not a part of the model.
fn reader(filter: &Arc<SharedFilter>, overtaken: &'static AtomicU64) -> JoinHandle<()> {
    let filter = Arc::clone(filter);
    thread::spawn(move || {
        let mut newest = 0;
        for _ in 0..3 {
            let serving = filter.serving();
            // Here others may go on, as they may while it looks.
            thread::sleep(Duration::ZERO);
            let number = number_of(&serving);
            assert!(number >= newest, "{number} after {newest}");
            newest = number;
            overtaken.fetch_add(u64::from(!Arc::ptr_eq(&filter.serving(), &serving)), Ordering::Relaxed);
        }
    })
}

/// Configures the filter with these, one after the other, as a listener or a kind of filter does.
fn writer(filter: &Arc<SharedFilter>, snapshots: Vec<Vec<u8>>) -> JoinHandle<()> {
    let filter = Arc::clone(filter);
    thread::spawn(move || snapshots.into_iter().for_each(|snapshot| assert!(configure(&filter, snapshot))))
}

/// Runs all of these, after which generation `last` must serve, and nothing else be there any more.
fn run(filter: &Arc<SharedFilter>, writers: Vec<Vec<Vec<u8>>>, last: u64, overtaken: &'static AtomicU64) {
    let before = Arc::downgrade(&filter.serving());
    let readers = [reader(filter, overtaken), reader(filter, overtaken)];
    let writers: Vec<_> = writers.into_iter().map(|snapshots| writer(filter, snapshots)).collect();
    readers.into_iter().chain(writers).for_each(|thread| thread.join().unwrap());
    assert_eq!((number_of(&filter.serving()), Weak::strong_count(&before)), (last, 0));
}

#[test]
fn whole_snapshots() {
    static OVERTAKEN: AtomicU64 = AtomicU64::new(0);
    in_many_orders(|| {
        let filter = Process::new().filter(b"edgefold");
        assert!(configure(&filter, snapshot(1)));
        run(&filter, vec![vec![snapshot(2), snapshot(4)], vec![snapshot(3), snapshot(4)]], 4, &OVERTAKEN);
    });
    assert!(OVERTAKEN.load(Ordering::Relaxed) > 0, "nothing has changed while a thread looked");
}

#[test]
fn pairs_whose_halves_come_in_any_order() {
    static OVERTAKEN: AtomicU64 = AtomicU64::new(0);
    in_many_orders(|| {
        let filter = Process::new().filter(b"edgefold");
        assert!(configure(&filter, base(1)) && configure(&filter, overlay(2, &base(1), 1)));
        let next = base(3);
        run(&filter, vec![vec![next.clone()], vec![overlay(4, &next, 3)], vec![overlay(4, &next, 3)]], 4, &OVERTAKEN);
    });
    assert!(OVERTAKEN.load(Ordering::Relaxed) > 0, "nothing has changed while a thread looked");
}

/// Envoy destroys an old configuration and creates a new one: whoever has the filter with a name has the one that others with it have.
#[test]
fn a_name_has_one_filter() {
    in_many_orders(|| {
        let process = Arc::new(Process::new());
        let holder = |number| {
            let process = Arc::clone(&process);
            thread::spawn(move || {
                let filter = process.filter(b"edgefold");
                assert!(configure(&filter, snapshot(number)));
                assert!(number_of(&filter.serving()) >= number);
                assert!(Arc::ptr_eq(&filter, &process.filter(b"edgefold")));
            })
        };
        let holders = [holder(1), holder(2), holder(3)];
        holders.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
