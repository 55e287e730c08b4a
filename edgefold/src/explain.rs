//! Why a range of addresses is blocked, or was at an earlier moment.

use edgefold_table::IpRange;

use crate::{AppendedCommand, Change, Command, Effect, Error, History, Log, LogTime, ManyLists, Record, each_command};

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
    /// The commands about the range that say they are from before the moment, but came later, so that they were not enforced then.
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
        if let Some(at) = at {
            enforced.is_over |= record.timestamp.is_some_and(|received| received > at);
            if enforced.is_over && effect.time <= at && is_about(&effect, enforced.history.range()) {
                late.extend(command(record, &effect));
            }
        }
        outcome = enforced.apply(record, &effect);
        if let Some((dated, at)) = dated.as_mut().zip(at) {
            // As in `replay`: a record that is rejected does not move log time.
            dated.is_over |= effect.time > at;
            outcome = outcome.and(dated.apply(record, &effect));
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
    fn apply(&mut self, record: &Record, effect: &Effect) -> Result<(), ManyLists> {
        if self.is_over { Ok(()) } else { self.history.apply(record, effect) }
    }
}

fn is_about(effect: &Effect, wanted: IpRange) -> bool {
    match &effect.change {
        Change::Block { range, .. } | Change::Allow { range, .. } => range.common(wanted).is_some(),
        Change::List { .. } | Change::Unlist { .. } => false,
    }
}

fn command(record: &Record, effect: &Effect) -> Option<AppendedCommand> {
    let command = Command::parse(str::from_utf8(record.value.as_deref()?).ok()?).ok()?;
    Some(AppendedCommand { offset: record.offset, time: effect.time, received: record.timestamp, command })
}
