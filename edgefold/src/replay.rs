//! Replaying the commands to any moment of the log.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::log::{CommandReader, Log};
use crate::{Edits, Effect, Error, Fold, LogTime, Position, Record, RecordHash};

/// How long reading may make no progress before it gives up.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait for records at a time.
pub(crate) const POLL: Duration = Duration::from_millis(100);

/// How many batches are read and parsed before they are folded.
const BATCHES_AHEAD: usize = 2;

/// A moment of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// After all commands below an offset.
    Offset(u64),
    /// Before the first command that moves log time past a time.
    Time(LogTime),
}

/// Replays the commands from offset 0 up to `moment`. The view is not read. [`Checkpoints`](crate::Checkpoints) do the same without
/// reading everything each time.
///
/// # Errors
/// Those of the log, [`Error::Gone`] if it does not start at offset 0, [`Error::Stalled`], and [`Error::NotYet`].
pub fn replay(log: &dyn Log, moment: Moment) -> Result<Fold, Error> {
    replay_on(&mut *log.commands(Position::default())?, Fold::default(), moment, |_, _| ())
}

/// A step of a replay.
pub(crate) enum Step<'a> {
    /// This record comes next. It may be after the moment.
    Next(&'a Record),
    /// This record is folded, with what it says if that can be read.
    Folded(&'a Record, Option<&'a Effect>),
}

/// Replays the commands after `fold`, which must not be later than `moment`, up to `moment`. `reader` reads them. Calls `each` at each
/// step, with the fold as it is then.
///
/// # Errors
/// As for [`replay`].
pub(crate) fn replay_on(
    reader: &mut dyn CommandReader,
    mut fold: Fold,
    moment: Moment,
    mut each: impl FnMut(Step<'_>, &Fold),
) -> Result<Fold, Error> {
    let (mut edits, mut stopped) = (Edits::default(), false);
    let start = fold.position().next_offset;
    let mut fold_one = |record: &Record, effect: Option<&Effect>, hash| {
        // A record that is delivered twice counts once.
        if record.offset < fold.position().next_offset {
            return true;
        }
        each(Step::Next(record), &fold);
        stopped = match moment {
            Moment::Offset(until) => record.offset >= until,
            // A record that is rejected does not move log time.
            Moment::Time(until) => effect.is_some_and(|effect| effect.time > until && fold.check(effect).is_ok()),
        };
        if !stopped {
            fold.advance(record.offset, hash);
            if let Some(effect) = effect {
                let _rejected = fold.apply_effect(effect, &mut edits);
                edits.clear();
            }
            each(Step::Folded(record, effect), &fold);
        }
        !stopped
    };
    let read = thread::scope(|scope| {
        // Reading and parsing takes about as long as folding.
        let (sender, batches) = mpsc::sync_channel::<Vec<(Record, Option<Effect>, RecordHash)>>(BATCHES_AHEAD);
        let read = move || {
            read_batches(reader, start, |records| {
                let parsed = records.into_iter().map(|record| {
                    let (effect, hash) = (record.effect().ok(), record.hash());
                    (record, effect, hash)
                });
                sender.send(parsed.collect()).is_ok()
            })
        };
        let reading = thread::Builder::new().spawn_scoped(scope, read).map_err(Error::Thread)?;
        for batch in &batches {
            if !batch.iter().all(|(record, effect, hash)| fold_one(record, effect.as_ref(), *hash)) {
                break;
            }
        }
        // Nobody waits for more.
        drop(batches);
        reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    // Once the moment is reached, it does not matter what comes after it.
    if !stopped {
        read?;
    }
    let end = fold.position().next_offset;
    match moment {
        Moment::Offset(wanted) if !stopped && wanted > end => Err(Error::NotYet { wanted, end }),
        _ => Ok(fold),
    }
}

/// Passes all commands to `each`, from offset 0 up to the end of the log or until it returns false.
///
/// # Errors
/// Those of the log, [`Error::Gone`] if it does not start at offset 0, and [`Error::Stalled`].
pub fn each_command(log: &dyn Log, each: impl FnMut(&Record) -> bool) -> Result<(), Error> {
    read_to_end(&mut *log.commands(Position::default())?, 0, each)
}

/// Passes the records of `reader`, which starts at offset `start`, to `each`, up to the end of the log or until it returns
/// false. If there are none, it still reads until the reader has proved that this is the log that was read up to `start`.
pub(crate) fn read_to_end(
    reader: &mut dyn CommandReader,
    start: u64,
    mut each: impl FnMut(&Record) -> bool,
) -> Result<(), Error> {
    read_batches(reader, start, |records| records.iter().all(&mut each))
}

/// As [`read_to_end`], with all records of a batch together.
fn read_batches(
    reader: &mut dyn CommandReader,
    start: u64,
    mut each: impl FnMut(Vec<Record>) -> bool,
) -> Result<(), Error> {
    // The end as it was at the start: while commands keep coming, the log never ends.
    let end = reader.end();
    let mut next_offset = start;
    let mut progressed = Instant::now();
    // If there is no new command, one read is needed all the same: with it the reader proves that this is the same log.
    while next_offset < end || (start > 0 && next_offset == start) {
        let batch = reader.read(POLL)?;
        let last = batch.records.last().map(|record| record.offset);
        if !each(batch.records) || batch.at_end {
            return Ok(());
        }
        if let Some(last) = last {
            next_offset = last + 1;
            // What `each` did with them may have taken long.
            progressed = Instant::now();
        } else if progressed.elapsed() > STALL_TIMEOUT {
            return Err(Error::Stalled { next_offset, seconds: STALL_TIMEOUT.as_secs() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Batch;

    /// Returns a batch of one command at a time, from offset 0 on, and then does what `then` does.
    struct Script<F> {
        commands: u64,
        next: u64,
        then: F,
    }

    impl<F: FnMut() -> Result<Batch, Error> + Send> CommandReader for Script<F> {
        fn read(&mut self, _timeout: Duration) -> Result<Batch, Error> {
            if self.next == self.commands {
                return (self.then)();
            }
            let (key, value) = (Some(b"2026-01-01T00:00:00Z".to_vec()), Some(b"BLACKLIST 10.0.0.1".to_vec()));
            let record = Record { offset: self.next, timestamp: None, key, value };
            self.next += 1;
            Ok(Batch { records: vec![record], ..Batch::default() })
        }

        fn end(&self) -> u64 {
            self.commands + 1
        }
    }

    fn replay(moment: u64, then: impl FnMut() -> Result<Batch, Error> + Send) -> Result<Fold, Error> {
        let mut reader = Script { commands: 5, next: 0, then };
        let slow = |_: Step<'_>, _: &Fold| thread::sleep(Duration::from_millis(5));
        replay_on(&mut reader, Fold::default(), Moment::Offset(moment), slow)
    }

    fn other_log() -> Result<Batch, Error> {
        Err(Error::OtherLog { offset: 4 })
    }

    /// The thread that reads is ahead of the fold.
    #[test]
    fn an_error_after_the_moment_is_ignored() {
        assert_eq!(replay(3, other_log).unwrap().position().next_offset, 3);
        let error = replay(6, other_log).unwrap_err();
        assert!(matches!(error, Error::OtherLog { offset: 4 }), "{error}");
    }

    #[test]
    #[should_panic(expected = "a bug in a reader")]
    fn a_panic_of_the_reader_is_passed_on() {
        let _never = replay(6, || panic!("a bug in a reader"));
    }
}
