//! The lists as they were: the folds of the moments that were looked at last.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use edgefold::{Checkpoints, Fold, List, Log, Moment};

use super::ranges::Ranges;

/// How many moments are kept: one with the four before it that tell the age of blocks, and the other end of a comparison.
const MOST: usize = 8;
/// How many blocks they may have together. A block takes about 60 bytes.
const MOST_BLOCKS: u64 = 20_000_000;

/// The lists at a moment. They never change.
pub(super) struct Then {
    pub(super) fold: Fold,
    /// What they refuse of IPv4, once it was asked for. It is apart, because it takes much less than the fold.
    pub(super) refused: OnceLock<Arc<Ranges<Ipv4Addr>>>,
}

/// What is being made, or was made, or why it could not be.
type Slot = Arc<OnceLock<Result<Arc<Then>, String>>>;

/// A moment, and where the log ended when it was looked at, as long as commands may come that belong to it.
pub(super) type Key = (Moment, Option<u64>);

/// Replays the log to moments.
pub(super) struct Past {
    log: Arc<dyn Log>,
    checkpoints: Arc<Checkpoints>,
    /// The one that was looked at last is the last.
    slots: Mutex<Vec<(Key, Slot)>>,
    /// One replay at a time: each takes a core, and memory.
    replaying: Mutex<()>,
}

impl Past {
    pub(super) fn new(log: Arc<dyn Log>, checkpoints: Arc<Checkpoints>) -> Self {
        Self { log, checkpoints, slots: Mutex::default(), replaying: Mutex::default() }
    }

    /// The lists at a moment. Whoever asks for the same while it is made waits for it.
    ///
    /// # Errors
    /// Those of [`Checkpoints::replay`], in words.
    pub(super) fn then(&self, key: Key) -> Result<Arc<Then>, String> {
        let slot = {
            let mut slots = self.slots();
            let known = slots.iter().position(|(of, _)| *of == key).map(|at| slots.remove(at).1);
            let slot = known.unwrap_or_default();
            slots.push((key, Arc::clone(&slot)));
            slot
        };
        let outcome = slot.get_or_init(|| {
            let _one_at_a_time = self.replaying.lock().unwrap_or_else(PoisonError::into_inner);
            let fold = self.checkpoints.replay(&*self.log, key.0).map_err(|error| error.to_string())?;
            Ok(Arc::new(Then { fold, refused: OnceLock::new() }))
        });
        let outcome = outcome.clone();
        let mut slots = self.slots();
        if outcome.is_err() {
            // It may succeed the next time.
            slots.retain(|(_, other)| !Arc::ptr_eq(other, &slot));
        }
        make_room(&mut slots);
        outcome
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.slots().clear();
    }

    fn slots(&self) -> MutexGuard<'_, Vec<(Key, Slot)>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets those that were looked at the longest time ago, but never the last.
fn make_room(slots: &mut Vec<(Key, Slot)>) {
    let blocks = |(_, slot): &(Key, Slot)| match slot.get() {
        Some(Ok(then)) => then.fold.lists().iter().map(List::len).sum(),
        _ => 0,
    };
    while slots.len() > 1 && (slots.len() > MOST || slots.iter().map(blocks).sum::<u64>() > MOST_BLOCKS) {
        slots.remove(0);
    }
}
