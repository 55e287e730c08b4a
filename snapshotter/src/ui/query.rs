//! What the page asks for: a moment, lists, and a part of the address space.

use std::net::Ipv4Addr;
use std::sync::Arc;

use edgefold::{AddressRange, IpRange, ListName, LogTime, Moment, Position, now};
use edgefold_table::Address;
use serde::Deserialize;

use super::Ui;
use super::layers::Look;
use super::past::Then;
use super::ranges::Ranges;

/// The parameters of all questions. Each question uses those that it needs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// The moment; now if it is not given.
    at: Option<String>,
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
    Then(LogTime),
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
        self.at.as_deref().map_or(Ok(At::Now), |time| moment(time).map(At::Then))
    }

    pub(super) fn since(&self) -> Result<Option<At>, Why> {
        self.since.as_deref().map(|time| moment(time).map(At::Then)).transpose()
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
        let state = self.present.state();
        match at {
            At::Now if state.is_complete => Ok(answer(Look { fold: &state.fold, time: now(), only })),
            At::Now => {
                let done = state.fold.position().next_offset;
                Err(Why::Reading { done, end: state.end, trouble: state.trouble.clone() })
            }
            At::Then(time) => {
                drop(state);
                let then = self.then(time)?;
                Ok(answer(Look { fold: &then.fold, time, only }))
            }
        }
    }

    /// What the lists refused of `bounds` at a moment, and maybe of other addresses.
    pub(super) fn refused_then(
        &self,
        time: LogTime,
        only: Option<ListName>,
        bounds: AddressRange<Ipv4Addr>,
    ) -> Result<Arc<Ranges<Ipv4Addr>>, Why> {
        let then = self.then(time)?;
        let refused = |bounds| Arc::new(Look { fold: &then.fold, time, only }.refused(bounds));
        Ok(match AddressRange::new(Ipv4Addr::FIRST, Ipv4Addr::LAST) {
            Ok(all) if only.is_none() => Arc::clone(then.refused.get_or_init(|| refused(all))),
            _ => refused(bounds),
        })
    }

    fn then(&self, time: LogTime) -> Result<Arc<Then>, Why> {
        let Position { next_offset, log_time, .. } = self.present.state().fold.position();
        // Until log time has passed it, a command with an earlier time belongs to it.
        let key = (Moment::Time(time), (log_time <= time).then_some(next_offset));
        self.past.then(key).map_err(Why::Failed)
    }
}
