//! Requests without a break, none of which may fail.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use edgefold_tests::Envoy;

/// Clients that get answers without a break, until they are stopped: one that is refused, and one that is not.
pub(crate) fn under_load(envoy: &Envoy, act: impl FnOnce()) -> u64 {
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for (client, status) in [("10.0.0.1", 403), ("192.0.2.1", 200)] {
            let (stop, count) = (&stop, &count);
            scope.spawn(move || {
                let connection = envoy.client("127.0.0.1");
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(connection.status_for(client), status, "{client}");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _stopped = Stop(&stop);
        act();
    });
    count.into_inner()
}

/// Stops the clients, also after a panic.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
