//! Why a range of addresses is blocked, or was at an earlier moment.

use edgefold_table::IpRange;

use crate::checkpoints::Summary;
use crate::{AppendedCommand, Change, Effect, Error, History, Log, LogTime, ManyLists, Record, each_command};

/// Why a range was blocked or not at a moment.
///
/// A command counts for enforcement from the moment at which the log receives it, whatever its own time says. So there are two answers
/// for a moment in the past: what was enforced then, and what the times of the commands say.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The moment.
    pub at: LogTime,
    /// What was enforced: all commands that the log had received by then.
    pub enforced: History,
    /// What the times of the commands say, as [`Moment::Time`](crate::Moment::Time) replays them; `None` for the present, where both are
    /// the same.
    pub dated: Option<History>,
    /// The commands about the range, or about what a list does, whose times are not after the moment, but that came later, so that they were
    /// not enforced then. Of a history that keeps only so many events, only the last: see [`History::keeping`].
    pub late: Vec<AppendedCommand>,
    /// How many of them are not kept.
    pub late_dropped: u64,
}

/// Explains a range, now or at an earlier moment, by reading all commands. `now` is the time at present.
/// [`Checkpoints`](crate::Checkpoints) do the same without reading what is not about the range.
///
/// # Errors
/// Those of [`each_command`].
pub fn explain(log: &dyn Log, range: IpRange, at: Option<LogTime>, now: LogTime) -> Result<Explanation, Error> {
    let mut scan = Scan::new(|| History::new(range), at, now);
    each_command(log, |record| scan.read(record))?;
    match scan.finish() {
        Ok(explanation) => Ok(explanation),
        Err(ManyLists) => explain_exactly(log, History::exact(range), at, now),
    }
}

/// As [`explain`], with a [`History::exact`], for a log that names so many lists that some of its records may be rejected.
///
/// # Errors
/// Those of [`each_command`].
pub(crate) fn explain_exactly(
    log: &dyn Log,
    exact: History,
    at: Option<LogTime>,
    now: LogTime,
) -> Result<Explanation, Error> {
    let mut scan = Scan::new(|| exact.clone(), at, now);
    each_command(log, |record| scan.read(record))?;
    Ok(scan.explanation())
}

/// An explanation that is told all commands, in order: by a record, or by what some records in a row are about.
pub(crate) struct Scan {
    at: Option<LogTime>,
    moment: LogTime,
    enforced: Prefix,
    dated: Option<Prefix>,
    late: Vec<AppendedCommand>,
    late_dropped: u64,
    /// Whether the histories can tell which records are rejected.
    outcome: Result<(), ManyLists>,
}

impl Scan {
    /// Explains the range of the histories that `new` returns.
    pub(crate) fn new(new: impl Fn() -> History, at: Option<LogTime>, now: LogTime) -> Self {
        let prefix = || Prefix { history: new(), is_over: false };
        let (enforced, dated) = (prefix(), at.map(|_| prefix()));
        Self { at, moment: at.unwrap_or(now), enforced, dated, late: Vec::new(), late_dropped: 0, outcome: Ok(()) }
    }

    /// Takes the next record, and returns whether more are needed.
    pub(crate) fn read(&mut self, record: &Record) -> bool {
        let Ok(effect) = record.effect() else { return true };
        let Self { at, moment, enforced, dated, late, late_dropped, outcome } = self;
        // Of the present, all that is in the log counts: its clock may be ahead of this one.
        let is_later =
            |record: &Record, _: &Effect| at.is_some() && record.timestamp.is_some_and(|received| received > *moment);
        *outcome = outcome.and(enforced.apply(record, &effect, is_later));
        if let Some(dated) = dated {
            // As in `replay`.
            *outcome = outcome.and(dated.apply(record, &effect, |_, effect| effect.time > *moment));
            if enforced.is_over && effect.time <= *moment && is_about(&effect, enforced.history.range()) {
                late.extend(AppendedCommand::new(record));
                // As for events, there are never more than twice as many.
                let most = enforced.history.most_events();
                if late.len() / 2 > most {
                    let dropped = late.len() - most;
                    late.drain(..dropped);
                    *late_dropped += dropped as u64;
                }
            }
        }
        outcome.is_ok()
    }

    /// Takes the next records together, if that leads to the same explanation as [`Scan::read`] for each, and returns whether it does.
    pub(crate) fn skip(&mut self, records: &Summary) -> bool {
        if self.has_failed() {
            return false;
        }
        let (moment, is_past) = (self.moment, self.at.is_some());
        let is_enforced_over = self.enforced.is_over;
        let is_dated_over = self.dated.as_ref().is_none_or(|dated| dated.is_over);
        if is_enforced_over && is_dated_over && records.first_time.is_none_or(|first| first > moment) {
            return true;
        }
        if records.lists_change || records.touch(self.enforced.history.range()) {
            return false;
        }
        let ends_enforced = is_past && records.last_received.is_some_and(|received| received > moment);
        let ends_dated = is_past && records.log_time > moment;
        if (ends_enforced && !is_enforced_over) || (ends_dated && !is_dated_over) {
            return false;
        }
        for prefix in [Some(&mut self.enforced), self.dated.as_mut()].into_iter().flatten() {
            if !prefix.is_over {
                self.outcome = self.outcome.and(prefix.history.skip(&records.names, records.log_time));
            }
        }
        true
    }

    /// The explanation, after all commands.
    ///
    /// # Errors
    /// [`ManyLists`]: it takes [`History::exact`] to know.
    pub(crate) fn finish(self) -> Result<Explanation, ManyLists> {
        self.outcome.map(|()| self.explanation())
    }

    fn explanation(self) -> Explanation {
        let moment = self.moment;
        let finish = |prefix: Prefix| {
            let mut history = prefix.history;
            history.finish(moment);
            history
        };
        let (enforced, dated) = (finish(self.enforced), self.dated.map(finish));
        Explanation { at: moment, enforced, dated, late: self.late, late_dropped: self.late_dropped }
    }

    /// Whether it needs no more commands, because [`Scan::finish`] will fail.
    pub(crate) fn has_failed(&self) -> bool {
        self.outcome.is_err()
    }
}

/// The history of the commands before a moment.
struct Prefix {
    history: History,
    is_over: bool,
}

impl Prefix {
    /// Adds the next record, unless it or one before it `is_later`. One that is rejected is as if it were not there.
    fn apply(
        &mut self,
        record: &Record,
        effect: &Effect,
        is_later: impl Fn(&Record, &Effect) -> bool,
    ) -> Result<(), ManyLists> {
        if self.is_over || self.history.rejects(effect)? {
            return Ok(());
        }
        self.is_over = is_later(record, effect);
        if self.is_over { Ok(()) } else { self.history.apply(record, effect) }
    }
}

/// Whether it is about addresses of the range, or about what is done with them.
fn is_about(effect: &Effect, wanted: IpRange) -> bool {
    match &effect.change {
        Change::Block { range, .. } | Change::Allow { range, .. } => range.common(wanted).is_some(),
        Change::List { .. } | Change::Unlist { .. } => true,
    }
}
