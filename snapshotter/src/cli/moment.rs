//! `--until-offset` and `--as-of`: the time machine.

use clap::Args;

use super::CliError;
use crate::clock::now;
use crate::fold::Fold;
use crate::load::{Follower, Moment, replay};
use crate::log::Log;
use crate::time::LogTime;

/// Which moment of the log is asked for; now if none is given.
#[derive(Args, Debug)]
pub(super) struct MomentArgs {
    /// As it was behind the commands below this offset, at the latest command time among them
    #[arg(long, value_name = "N", conflicts_with = "as_of")]
    until_offset: Option<u64>,
    /// As it was then, before the first command of a later time; for a time to come, as it will be without further commands
    #[arg(long, value_name = "TIME", value_parser = LogTime::parse)]
    as_of: Option<LogTime>,
}

impl MomentArgs {
    /// The fold, and the time at which it is looked at.
    pub(super) fn load(&self, log: &dyn Log) -> Result<(Fold, LogTime), CliError> {
        if let Some(offset) = self.until_offset {
            let fold = replay(log, Moment::Offset(offset))?;
            let time = fold.position().log_time;
            return Ok((fold, time));
        }
        match self.as_of {
            Some(time) => Ok((replay(log, Moment::Time(time))?, time)),
            None => Ok((Follower::load(log)?.fold, now())),
        }
    }
}
