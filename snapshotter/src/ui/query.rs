//! What the page asks for: a moment, lists, and a part of the address space.

use edgefold::{IpRange, ListName, LogTime, Moment, now};
use serde::Deserialize;

use super::Ui;
use super::layers::Look;

/// The parameters of all questions. Each question uses those that it needs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// The moment by its time; now if neither this nor the next is given.
    at: Option<String>,
    /// The moment by the offset after its last command.
    offset: Option<u64>,
    /// An earlier moment to compare with.
    since: Option<String>,
    /// Only this list.
    list: Option<String>,
    range: Option<String>,
    pub(super) colour: Option<String>,
    pub(super) zoom: Option<u8>,
    pub(super) x: Option<u32>,
    pub(super) y: Option<u32>,
}

/// A moment to look at.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    Now,
    Then(Moment),
}

/// Why a question is not answered.
#[derive(Debug)]
pub(super) enum Why {
    /// It cannot be.
    Bad(String),
    /// The log is still being read: so many of so many commands.
    Reading { done: u64, end: u64, trouble: Option<String> },
    /// The log cannot be read.
    Failed(String),
}

impl Query {
    pub(super) fn at(&self) -> Result<At, Why> {
        match (&self.at, self.offset) {
            (None, None) => Ok(At::Now),
            (Some(time), None) => Ok(At::Then(Moment::Time(moment(time)?))),
            (None, Some(offset)) => Ok(At::Then(Moment::Offset(offset))),
            (Some(_), Some(_)) => Err(Why::Bad("give either at or offset".to_owned())),
        }
    }

    pub(super) fn since(&self) -> Result<Option<At>, Why> {
        let since = self.since.as_deref().map(moment).transpose()?;
        Ok(since.map(|time| At::Then(Moment::Time(time))))
    }

    pub(super) fn list(&self) -> Result<Option<ListName>, Why> {
        let list = self.list.as_deref().map(|list| list.parse().map_err(|error| Why::Bad(format!("list: {error}"))));
        list.transpose()
    }

    pub(super) fn range(&self) -> Result<IpRange, Why> {
        let text = self.range.as_deref().ok_or_else(|| Why::Bad("give a range, as in range=10.0.0.0/8".to_owned()))?;
        text.parse().map_err(|error| Why::Bad(format!("range: {error}")))
    }
}

fn moment(text: &str) -> Result<LogTime, Why> {
    LogTime::parse(text).map_err(|error| Why::Bad(error.to_string()))
}

impl Ui {
    /// Looks at the lists at a moment.
    pub(super) fn look<T>(&self, at: At, only: Option<ListName>, answer: impl FnOnce(Look<'_>) -> T) -> Result<T, Why> {
        match at {
            At::Now => {
                let state = self.present.state();
                if !state.is_complete {
                    let done = state.fold.position().next_offset;
                    return Err(Why::Reading { done, end: state.end, trouble: state.trouble.clone() });
                }
                Ok(answer(Look { fold: &state.fold, time: now(), only }))
            }
            At::Then(moment) => {
                let fold = self.past.fold(moment).map_err(Why::Failed)?;
                let time = if let Moment::Time(time) = moment { time } else { fold.position().log_time };
                Ok(answer(Look { fold: &fold, time, only }))
            }
        }
    }
}
