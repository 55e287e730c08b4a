//! How the lists have grown: what was on each at evenly spaced moments.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use edgefold::{Checkpoints, Error, List, ListName, Log, LogTime, Moment, Timeline};

/// The most moments.
const MOST: u64 = 32;
/// The distances between them: what people count time in.
const STEPS: [u64; 14] = [
    60,
    300,
    900,
    3_600,
    10_800,
    21_600,
    43_200,
    86_400,
    172_800,
    604_800,
    2_592_000,
    7_776_000,
    31_536_000,
    315_360_000,
];

/// Ranges on each list.
pub(super) type Counts = BTreeMap<ListName, u64>;

/// What was found out. A moment that log time has passed never changes.
#[derive(Debug, Default)]
pub(super) struct Growth(Mutex<BTreeMap<LogTime, Counts>>);

impl Growth {
    /// The moments, and what was on each list.
    ///
    /// # Errors
    /// Those of [`Checkpoints::replay`].
    pub(super) fn samples(
        &self,
        log: &dyn Log,
        checkpoints: &Checkpoints,
        timeline: &Timeline,
    ) -> Result<Vec<(LogTime, Counts)>, Error> {
        let moments = moments(timeline);
        let missing: Vec<LogTime> = {
            let mut known = self.known();
            known.retain(|time, _| moments.contains(time));
            moments.iter().filter(|time| !known.contains_key(time)).copied().collect()
        };
        for time in missing {
            let fold = checkpoints.replay(log, Moment::Time(time))?;
            let on = |list: &List| list.ranges_at(time).count() as u64;
            let counts = fold.lists().iter().map(|list| (list.name(), on(list))).collect();
            self.known().insert(time, counts);
        }
        Ok(self.known().iter().map(|(time, counts)| (*time, counts.clone())).collect())
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.known().clear();
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<LogTime, Counts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Evenly spaced moments from the first command to the last.
fn moments(timeline: &Timeline) -> Vec<LogTime> {
    let (Some((first, _)), Some((last, _))) = (timeline.buckets.first(), timeline.buckets.last()) else {
        return Vec::new();
    };
    let span = (last.millis() - first.millis()) / 1000;
    let step = STEPS.into_iter().find(|step| span / step < MOST).unwrap_or(span / MOST + 1);
    let start = LogTime::from_millis(first.millis() / 1000 / step * step * 1000).unwrap_or_default();
    let next = |time: &LogTime| time.checked_add(Duration::from_secs(step));
    std::iter::successors(Some(start), next).skip(1).take_while(|time| time <= last).collect()
}
