//! Why a range of addresses is blocked, or was at an earlier moment.

use edgefold_table::IpRange;

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
    /// not enforced then.
    pub late: Vec<AppendedCommand>,
}

/// Explains a range, now or at an earlier moment, by reading all commands. `now` is the time at present.
///
/// # Errors
/// Those of [`each_command`].
pub fn explain(log: &dyn Log, range: IpRange, at: Option<LogTime>, now: LogTime) -> Result<Explanation, Error> {
    let (explanation, many_lists) = scan(log, at, now, || History::new(range))?;
    if many_lists.is_ok() {
        return Ok(explanation);
    }
    let (explanation, _exact) = scan(log, at, now, || History::exact(range))?;
    Ok(explanation)
}

/// Also returns whether the histories that `new` returns can tell which records are rejected.
fn scan(
    log: &dyn Log,
    at: Option<LogTime>,
    now: LogTime,
    new: impl Fn() -> History,
) -> Result<(Explanation, Result<(), ManyLists>), Error> {
    let mut enforced = Prefix { history: new(), is_over: false };
    let mut dated = at.map(|_| Prefix { history: new(), is_over: false });
    let (moment, mut late, mut outcome) = (at.unwrap_or(now), Vec::new(), Ok(()));
    each_command(log, |record| {
        let Ok(effect) = record.effect() else { return true };
        // Of the present, all that is in the log counts: its clock may be ahead of this one.
        let is_later =
            |record: &Record, _: &Effect| at.is_some() && record.timestamp.is_some_and(|received| received > moment);
        outcome = enforced.apply(record, &effect, is_later);
        if let Some(dated) = &mut dated {
            // As in `replay`.
            outcome = outcome.and(dated.apply(record, &effect, |_, effect| effect.time > moment));
            if enforced.is_over && effect.time <= moment && is_about(&effect, enforced.history.range()) {
                late.extend(AppendedCommand::new(record));
            }
        }
        outcome.is_ok()
    })?;
    let finish = |prefix: Prefix| {
        let mut history = prefix.history;
        history.finish(moment);
        history
    };
    let (enforced, dated) = (finish(enforced), dated.map(finish));
    Ok((Explanation { at: moment, enforced, dated, late }, outcome))
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
