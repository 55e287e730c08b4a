//! `edgefold allow` and `edgefold remove`

use std::process::ExitCode;

use clap::Args;
use edgefold::{Action, Follower, IpRange, ListName, Log, now};
use tracing::warn;

use super::append::{APPENDS, AppendArgs};
use super::log_args::LogArgs;
use super::ranges_args::RangesArgs;
use super::{CliError, output};
use crate::answers::guard::is_new;
use crate::answers::refused::refuses;

const ALLOW_EXAMPLES: &str = "\
Examples:
  edgefold allow 10.0.0.100
  edgefold allow 2001:db8::/32 --reason \"our own network\"
  edgefold allow 10.0.0.100 --list tor-exits

The ranges pass until a later command blocks them again. For a lasting exception, put them on a list with the action exempt. If \
another list still refuses them, a warning says so.
";

const REMOVE_EXAMPLES: &str = "\
Examples:
  edgefold remove 192.0.2.7 --list monitoring
";

/// Let ranges pass: append WHITELIST commands to the log
#[derive(Args, Debug)]
#[command(after_help = format!("{ALLOW_EXAMPLES}\n{APPENDS}"))]
pub(super) struct AllowArgs {
    /// The list to take them off, or * for all lists, also those that exempt
    #[arg(long, value_name = "NAME", default_value_t = ListName::DEFAULT.to_string(), value_parser = one_or_all)]
    list: String,
    #[command(flatten)]
    take: TakeArgs,
}

/// Remove ranges from a list: the same as `allow`, but --list is required, and nothing is said about other lists
#[derive(Args, Debug)]
#[command(after_help = format!("{REMOVE_EXAMPLES}\n{APPENDS}"))]
pub(super) struct RemoveArgs {
    /// The list to take them off, or * for all lists, also those that exempt
    #[arg(long, value_name = "NAME", value_parser = one_or_all)]
    list: String,
    #[command(flatten)]
    take: TakeArgs,
}

#[derive(Args, Debug)]
struct TakeArgs {
    #[command(flatten)]
    ranges: RangesArgs,
    #[command(flatten)]
    append: AppendArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// The name of a list, or `*`.
fn one_or_all(text: &str) -> Result<String, String> {
    match text.parse::<ListName>() {
        Err(error) if text != "*" => Err(error.to_string()),
        _ => Ok(text.to_owned()),
    }
}

impl AllowArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let ranges = self.take.ranges.ranges()?;
        let log = self.take.log.open()?;
        let status = self.take.run(&*log, &self.list, &ranges)?;
        if !self.take.append.dry_run {
            warn_of_other_lists(&*log, &ranges);
        }
        Ok(status)
    }
}

impl RemoveArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let ranges = self.take.ranges.ranges()?;
        self.take.run(&*self.take.log.open()?, &self.list, &ranges)
    }
}

impl TakeArgs {
    fn run(&self, log: &dyn Log, list: &str, ranges: &[IpRange]) -> Result<ExitCode, CliError> {
        // It was checked to be a name or *.
        let list: Option<ListName> = list.parse().ok();
        if list.is_none() {
            warn!("lists that exempt are among all lists: the ranges are no longer exempt");
        }
        let actions: Vec<Action> = ranges.iter().map(|&range| Action::Whitelist { list, range }).collect();
        // What is taken off a list that exempts may be refused then. The default list is not one, as a rule, and taking something off it is
        // not delayed by looking.
        let is_checked = self.append.dry_run || list.is_none_or(|list| !list.is_default());
        let before = if is_checked { self.append.state(log, &list.unwrap_or(ListName::DEFAULT))? } else { None };
        if let (Some(before), Some(list)) = (&before, list)
            && is_new(Some(before), &list)
        {
            warn!("there is no list {list}, so this changes nothing: there are {}", output::list_names(before));
        }
        self.append.append(log, before.as_ref(), &actions, self.append.time()?)
    }
}

/// Says which lists still refuse an address of the ranges, and what to type.
fn warn_of_other_lists(log: &dyn Log, ranges: &[IpRange]) {
    let now = now();
    let fold = match Follower::load(log) {
        Ok(follower) => follower.fold,
        Err(error) => return warn!("it is unknown whether other lists still refuse it: {error}"),
    };
    for &range in ranges {
        for list in fold.lists().iter().filter(|list| refuses(&fold, list, range, now)) {
            let (text, name) = (range.shortest_text(), list.name());
            let part = if range.first() == range.last() { "" } else { ", at least in part" };
            warn!(
                "{text} is still refused by list {name}{part}: to take it off, type `edgefold allow {text} --list {name}`; for an \
                     exception that lasts, `edgefold add {text} --list NAME` with a list whose action is exempt"
            );
        }
    }
}
