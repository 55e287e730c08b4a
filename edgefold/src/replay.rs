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
    replay_on(&mut *log.commands(Position::default())?, Fold::default(), moment, |_, _, _| ())
}

/// Replays the commands after `fold`, which must not be later than `moment`, up to `moment`. `reader` reads them. Calls `folded` with
/// each record after it is folded, with what it says if that can be read, and with the fold after it.
///
/// # Errors
/// As for [`replay`].
pub(crate) fn replay_on(
    reader: &mut dyn CommandReader,
    mut fold: Fold,
    moment: Moment,
    mut folded: impl FnMut(&Record, Option<&Effect>, &Fold),
) -> Result<Fold, Error> {
    let (mut edits, mut stopped) = (Edits::default(), false);
    let start = fold.position().next_offset;
    let mut fold_one = |record: &Record, effect: Option<&Effect>, hash| {
        // A record that is delivered twice counts once.
        if record.offset < fold.position().next_offset {
            return true;
        }
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
            folded(record, effect, &fold);
        }
        !stopped
    };
    thread::scope(|scope| {
        // Reading and parsing takes about as long as folding.
        let (sender, batches) = mpsc::sync_channel::<Vec<(Record, Option<Effect>, RecordHash)>>(BATCHES_AHEAD);
        let reading = scope.spawn(move || {
            read_batches(reader, start, |records| {
                let parsed = records.into_iter().map(|record| {
                    let (effect, hash) = (record.effect().ok(), record.hash());
                    (record, effect, hash)
                });
                sender.send(parsed.collect()).is_ok()
            })
        });
        for batch in &batches {
            if !batch.iter().all(|(record, effect, hash)| fold_one(record, effect.as_ref(), *hash)) {
                break;
            }
        }
        // Nobody waits for more.
        drop(batches);
        reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
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
        if let Some(last) = batch.records.last() {
            next_offset = last.offset + 1;
            progressed = Instant::now();
        }
        if !each(batch.records) || batch.at_end {
            return Ok(());
        }
        if progressed.elapsed() > STALL_TIMEOUT {
            return Err(Error::Stalled { next_offset, seconds: STALL_TIMEOUT.as_secs() });
        }
    }
    Ok(())
}
