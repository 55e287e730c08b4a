//! `edgefold diff`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use edgefold::{
    Block, Checkpoints, Fold, Follower, List, ListAction, ListName, LogTime, Moment, Position, SavedList, Until, now,
};

use super::cache_args::CacheArgs;
use super::difference::print_differences;
use super::feed::FeedArgs;
use super::log_args::LogArgs;
use super::output::{self, Format};
use super::time_arg::{MOMENT, moment};
use super::{CliError, snapshot_file};
use crate::answers::difference::{Known, between_folds};

const EXAMPLES: &str = "\
Examples:
  edgefold diff 24h now
  edgefold diff 1041 1042                     # what the command at offset 1041 changed
  edgefold diff now /var/lib/edgefold/edgefold.pb
  edgefold diff now tor.txt --list tor-exits -o json

A number is an offset: the state after all commands below it. A moment is looked at by the times of the commands, as with --as-of. A file is a \
snapshot, an ECDS file, or anything that `edgefold import` reads: write ./NAME if it could be taken for something else. A file of ranges is \
compared with one list.

Exit status: 0 if nothing differs, 1 if something does, 2 on an error, 64 for a usage error.";

/// The most ranges of a file.
const MOST_RANGES: u64 = 50_000_000;

/// Print what differs between two moments of the log, snapshots or files: ranges added, removed, or with another end
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct DiffArgs {
    /// now, an offset, a moment, or a file
    #[arg(value_name = "FROM")]
    from: Point,
    /// now, an offset, a moment, or a file
    #[arg(value_name = "TO")]
    to: Point,
    /// Only this list; with a file of ranges, the list that it is compared with
    #[arg(long, value_name = "NAME")]
    list: Option<ListName>,
    /// The file with the base, if a file has an overlay
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// The output format; raw has a line CHANGE<TAB>LIST<TAB>FIRST<TAB>LAST<TAB>UNTIL BEFORE<TAB>UNTIL for each range, where CHANGE is
    /// added, removed, until or does. The last says what the list did and does, instead of its ends
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    feed: FeedArgs,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    cache: CacheArgs,
}

/// One side.
#[derive(Clone, Debug)]
enum Point {
    Now,
    Offset(u64),
    Time(LogTime),
    File(PathBuf),
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "now" {
            return Ok(Self::Now);
        }
        if let Ok(offset) = text.parse() {
            return Ok(Self::Offset(offset));
        }
        if let Ok(time) = moment(text) {
            return Ok(Self::Time(time));
        }
        if text == "-" || Path::new(text).exists() {
            return Ok(Self::File(text.into()));
        }
        Err(format!("there is no such file, and it is neither now, nor an offset, nor a moment such as {MOMENT}"))
    }
}

/// What one side has.
struct State {
    fold: Fold,
    time: LogTime,
    known: Known,
    /// The only list that it has, if it is a file of ranges.
    only: Option<ListName>,
}

impl DiffArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        if let (Point::File(one), Point::File(other)) = (&self.from, &self.to)
            && one == Path::new("-")
            && one == other
        {
            return Err(CliError::Usage("stdin can be read once: write - for one side only".to_owned()));
        }
        let now = now();
        let checkpoints = self.cache.checkpoints(&self.log);
        let load = |point| self.load(point, now, &checkpoints);
        let (mut from, mut to) = (load(&self.from)?, load(&self.to)?);
        let known = Known { ends: from.known.ends && to.known.ends, actions: from.known.actions && to.known.actions };
        if !known.ends {
            from.forget_ends()?;
            to.forget_ends()?;
        }
        let only = from.only.or(to.only).or(self.list);
        if let Some(only) = only
            && to.fold.list(&only).is_none()
        {
            output::list(&from.fold, &only)?;
        }
        let wanted = |list| only.is_none_or(|only| only == list);
        let differences = between_folds((&from.fold, from.time), (&to.fold, to.time), known, wanted);
        output::print_long(|out| print_differences(&differences, self.output, "nothing differs", out))?;
        Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }

    fn load(&self, point: &Point, now: LogTime, checkpoints: &Checkpoints) -> Result<State, CliError> {
        let of_log = |fold, time| State { fold, time, known: Known::ALL, only: None };
        Ok(match point {
            Point::Now => of_log(Follower::load(&*self.log.open()?)?.fold, now),
            Point::Offset(offset) => {
                let fold = checkpoints.replay(&*self.log.open()?, Moment::Offset(*offset))?;
                let time = fold.position().log_time;
                of_log(fold, time)
            }
            Point::Time(time) => of_log(checkpoints.replay(&*self.log.open()?, Moment::Time(*time))?, *time),
            Point::File(path) if snapshot_file::is_one(path)? => {
                let fold = fold_of(snapshot_file::lists(path, self.base.as_deref())?)?;
                State { fold, time: now, known: Known { ends: false, actions: true }, only: None }
            }
            Point::File(path) => {
                let list = self.list.unwrap_or(ListName::DEFAULT);
                let feed = self.feed.read(path, list, now, MOST_RANGES)?;
                // It exists, even if nothing is on it.
                let action = Some(ListAction::default());
                let fold = fold_of([SavedList { name: list, action, blocks: feed.list.blocks().collect() }])?;
                let known = Known { ends: feed.format.says_ends(), actions: false };
                State { fold, time: now, known, only: Some(list) }
            }
        })
    }
}

impl State {
    fn forget_ends(&mut self) -> Result<(), CliError> {
        let time = self.time;
        let saved = |list: &List| {
            let ranges = list.ranges_at(time).map(|range| Block { range, until: Until::FOREVER });
            SavedList { name: list.name(), action: list.stated_action().cloned(), blocks: ranges.collect() }
        };
        self.fold = fold_of(self.fold.lists().iter().map(saved))?;
        Ok(())
    }
}

/// A fold with these lists.
fn fold_of(lists: impl IntoIterator<Item = SavedList>) -> Result<Fold, CliError> {
    Ok(Fold::resume(Position::default(), lists)?)
}
