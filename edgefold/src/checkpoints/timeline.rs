//! How many commands there were in each interval of time.

use std::sync::Arc;

use crate::LogTime;

/// The shortest interval, in milliseconds.
const FINEST: u64 = 60_000;
/// With more buckets than this, the intervals double.
const MOST_BUCKETS: usize = 16_384;

/// How many commands there were in each interval of log time. Cloning it is cheap.
///
/// It is the same for the same commands, however they were read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Timeline {
    /// All commands below this offset are counted.
    pub next_offset: u64,
    /// How long each interval is, in milliseconds: a minute times a power of two. It doubles when there would be more than 16,384
    /// buckets.
    pub resolution: u64,
    /// The start of each interval in which there are commands, a multiple of the resolution, with their number. Sorted. A command counts
    /// when log time has reached its own time or, if log time is later, at log time. Records that are not commands are not counted.
    pub buckets: Arc<Vec<(LogTime, u64)>>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { next_offset: 0, resolution: FINEST, buckets: Arc::default() }
    }
}

impl Timeline {
    /// Counts `commands` at a log time, which must not be in an interval before the last one.
    pub(super) fn add(&mut self, log_time: LogTime, commands: u64) {
        let start = self.start(log_time);
        let buckets = Arc::make_mut(&mut self.buckets);
        match buckets.last_mut() {
            Some((last, count)) if *last >= start => *count = count.saturating_add(commands),
            _ => buckets.push((start, commands)),
        }
        while self.buckets.len() > MOST_BUCKETS {
            self.coarsen();
        }
    }

    /// Adds the commands that come next.
    pub(super) fn extend(&mut self, next: &Self) {
        while self.resolution < next.resolution {
            self.coarsen();
        }
        next.buckets.iter().for_each(|&(start, commands)| self.add(start, commands));
        self.next_offset = next.next_offset;
    }

    /// Whether it can be what was counted: sorted, and bounded.
    pub(super) fn is_valid(&self) -> bool {
        let is_resolution = self.resolution.is_multiple_of(FINEST) && (self.resolution / FINEST).is_power_of_two();
        is_resolution
            && self.buckets.len() <= MOST_BUCKETS
            && self.buckets.iter().all(|(start, _)| start.millis().is_multiple_of(self.resolution))
            && self.buckets.is_sorted_by(|one, next| one.0 < next.0)
    }

    fn start(&self, time: LogTime) -> LogTime {
        let millis = time.millis();
        LogTime::from_millis(millis - millis % self.resolution).unwrap_or(time)
    }

    fn coarsen(&mut self) {
        let buckets = std::mem::take(&mut self.buckets);
        self.resolution = self.resolution.saturating_mul(2);
        buckets.iter().for_each(|&(start, commands)| self.add(start, commands));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(minutes: u64) -> LogTime {
        LogTime::from_millis(minutes * FINEST).unwrap()
    }

    #[test]
    fn it_is_bounded_and_does_not_depend_on_how_it_was_built() {
        let mut whole = Timeline::default();
        let mut parts = Timeline::default();
        for part in 0..50 {
            let mut next = Timeline::default();
            for at in part * 1_000..(part + 1) * 1_000 {
                whole.add(time(at), 1);
                next.add(time(at), 1);
            }
            parts.extend(&next);
        }
        assert_eq!(parts, whole);
        assert_eq!(whole.resolution, 4 * FINEST, "50,000 minutes in at most 16,384 intervals");
        assert_eq!((whole.buckets.len(), whole.buckets[0]), (12_500, (time(0), 4)));
        assert_eq!(whole.buckets.iter().map(|(_, commands)| commands).sum::<u64>(), 50_000);
    }

    #[test]
    fn intervals_without_commands_are_left_out() {
        let mut timeline = Timeline::default();
        for minute in [10, 10, 500] {
            timeline.add(LogTime::from_millis(time(minute).millis() + 59_999).unwrap(), 1);
        }
        assert_eq!(*timeline.buckets, [(time(10), 2), (time(500), 1)]);
    }
}
