//! Replaying the commands to any moment of the log.

use std::time::{Duration, Instant};

use crate::log::{CommandReader, Log};
use crate::{Edits, Effect, Error, Fold, LogTime, Position, Record};

/// How long reading may make no progress before it gives up.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait for records at a time.
pub(crate) const POLL: Duration = Duration::from_millis(100);

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
    read_to_end(reader, fold.position().next_offset, |record| {
        // A record that is delivered twice counts once.
        if record.offset < fold.position().next_offset {
            return true;
        }
        let effect = record.effect().ok();
        stopped = match moment {
            Moment::Offset(until) => record.offset >= until,
            // A record that is rejected does not move log time.
            Moment::Time(until) => {
                effect.as_ref().is_some_and(|effect| effect.time > until && fold.check(effect).is_ok())
            }
        };
        if !stopped {
            fold.advance(record.offset, record.hash());
            if let Some(effect) = &effect {
                let _rejected = fold.apply_effect(effect, &mut edits);
                edits.clear();
            }
            folded(record, effect.as_ref(), &fold);
        }
        !stopped
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
    // The end as it was at the start: while commands keep coming, the log never ends.
    let end = reader.end();
    let mut next_offset = start;
    let mut progressed = Instant::now();
    // If there is no new command, one read is needed all the same: with it the reader proves that this is the same log.
    while next_offset < end || (start > 0 && next_offset == start) {
        let batch = reader.read(POLL)?;
        for record in &batch.records {
            if !each(record) {
                return Ok(());
            }
            next_offset = record.offset + 1;
        }
        if batch.at_end {
            return Ok(());
        }
        if !batch.records.is_empty() {
            progressed = Instant::now();
        } else if progressed.elapsed() > STALL_TIMEOUT {
            return Err(Error::Stalled { next_offset, seconds: STALL_TIMEOUT.as_secs() });
        }
    }
    Ok(())
}
