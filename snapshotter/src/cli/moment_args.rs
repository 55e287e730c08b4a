//! `--until-offset` and `--as-of`: the time machine.

use clap::Args;
use edgefold::{Fold, Follower, LogTime, Moment, clocks, now};

use super::CliError;
use super::cache_args::CacheArgs;
use super::log_args::LogArgs;
use super::time_arg::moment;

/// Which moment of the log; now if none is given.
#[derive(Args, Debug)]
#[command(next_help_heading = "Time machine")]
pub(super) struct MomentArgs {
    /// The state after the commands below this offset, at the latest command time among them
    #[arg(long, value_name = "N", conflicts_with = "as_of")]
    until_offset: Option<u64>,
    /// The state at this time: all commands before the first one with a later time. If the time is in the future, what will be
    /// blocked then if no further command comes
    #[arg(long, value_name = "TIME", value_parser = moment)]
    as_of: Option<LogTime>,
    #[command(flatten)]
    cache: CacheArgs,
}

impl MomentArgs {
    /// As [`MomentArgs::load`], with the moment at which the log had nothing more than the fold. If it does not confirm its end, as
    /// when an open transaction hides commands, that is the start of time. The log is not asked about a moment that is given.
    pub(super) fn load_with_contact(&self, log: &LogArgs) -> Result<(Fold, LogTime, LogTime), CliError> {
        let asked = clocks();
        if self.until_offset.is_some() || self.as_of.is_some() {
            let (fold, time) = self.load(log)?;
            return Ok((fold, time, time.min(asked.time)));
        }
        let (follower, contact) = Follower::load_with_contact(&*log.open()?, asked)?;
        Ok((follower.fold, asked.time, contact.time()))
    }

    /// The fold, and the time at which to look at it.
    pub(super) fn load(&self, log: &LogArgs) -> Result<(Fold, LogTime), CliError> {
        let replay = |moment| {
            let opened = log.open()?;
            // One replay gains nothing from checkpoints in memory.
            Ok::<Fold, CliError>(match self.cache.kept_checkpoints(log) {
                Some(checkpoints) => checkpoints.replay(&*opened, moment)?,
                None => edgefold::replay(&*opened, moment)?,
            })
        };
        if let Some(offset) = self.until_offset {
            let fold = replay(Moment::Offset(offset))?;
            let time = fold.position().log_time;
            return Ok((fold, time));
        }
        match self.as_of {
            Some(time) => Ok((replay(Moment::Time(time))?, time)),
            None => {
                // The end that is caught up with is that of now.
                let now = now();
                Ok((Follower::load(&*log.open()?)?.fold, now))
            }
        }
    }
}
