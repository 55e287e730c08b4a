//! A watcher that sees each state of the view of a SQLite log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use edgefold::view::{OFFSET_KEY, watch_view};

use crate::history::Sent;
use crate::log::open;
use crate::oracle::Comparison;

/// Reads the view on its own thread, whenever it has changed.
pub(crate) struct Watching {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<BTreeMap<String, String>>>>,
}

impl Watching {
    pub(crate) fn start(url: &str) -> Self {
        let (log, stop) = (open(url), Arc::<AtomicBool>::default());
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut reader = log.view().unwrap();
            let mut states = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                reader.read(Duration::from_millis(100), &mut |_, _| {}).unwrap();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let mut view = BTreeMap::new();
                let read = watch_view(&*log, |key, value| {
                    let key = text(key.unwrap());
                    match value {
                        Some(value) => drop(view.insert(key, text(value))),
                        None => drop(view.remove(&key)),
                    }
                });
                drop(read.unwrap());
                if !view.is_empty() && states.last() != Some(&view) {
                    states.push(view);
                }
            }
            states
        });
        Self { stop, thread: Some(thread) }
    }

    /// Stops watching, and compares each state that was seen with the oracle.
    pub(crate) fn assert_each_state_is_right(mut self, commands: &[&Sent]) {
        self.stop.store(true, Ordering::Relaxed);
        let states = self.thread.take().unwrap().join().unwrap();
        let mut comparison = Comparison::with(commands);
        let count = states.len();
        for mut ranges in states {
            let offset = ranges.remove(OFFSET_KEY).expect("an offset with the ranges");
            comparison.assert_next(&ranges, &offset);
        }
        comparison.assert_at_end();
        println!("each of {count} states of the view was right");
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
