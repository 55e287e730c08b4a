//! `edgefold import`

use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use edgefold::{
    Action, Error, Fold, Follower, List, ListName, Log, LogTime, Progress, Step, SyncOptions, Term, Until, now,
    parse_ttl, steps,
};
use serde_json::json;
use tracing::warn;

use super::append::AppendArgs;
use super::difference::print_differences;
use super::error::log_exit_status;
use super::feed::{Feed, FeedArgs};
use super::interrupts::Interrupts;
use super::log_args::LogArgs;
use super::output::{self, Format};
use super::progress::Shown;
use super::{CliError, UNKNOWN};
use crate::addresses::Addresses;
use crate::answers::difference::{self, Known, ListDifference, Totals};
use crate::answers::guard::{self, is_new};
use crate::answers::words::{self, addresses_json};

const EXAMPLES: &str = "\
Examples:
  edgefold import tor.txt --format lines --list tor-exits --sync --max-change 30%
  curl -sf https://example.com/drop.json | edgefold import - --list drop --sync --ttl 3d
  edgefold import ip-ranges.json --list cloud --where service=EC2 --dry-run
  edgefold import decisions.csv --list crowdsec --format crowdsec --sync
  edgefold import GeoLite2-Country.mmdb --list geo --where country=XX --force     # a country can have more than a /8

Without --sync, the ranges of the file are added to the list, and what is on it stays. Only what differs is appended: a file that says the \
same in other CIDR blocks appends nothing. Nothing is appended unless all of the file can be read. If an import is interrupted, it says how far \
it came, and the next one completes it.

Exit status: 0 if everything was appended (and, with --wait, confirmed), 2 if nothing was, or not all, 3 if it may have been, 4 if everything \
was appended, but not every proxy has confirmed it, 64 for a usage error.";

/// The most ranges by default: a snapshot has at most some millions, and memory is bounded.
const MOST_RANGES: u64 = 5_000_000;
/// How many commands are appended at a time. Each time takes Kafka more than half a second, and SQLite a transaction.
const AT_ONCE: usize = 500_000;

/// Bring the ranges of a file into a list: of a feed, a firewall, a proxy, a cloud or a database
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ImportArgs {
    /// The file, or - for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The list to bring them into. A new list refuses until `lists set` says what it does
    #[arg(long, value_name = "NAME")]
    list: ListName,
    /// Make the list equal to the file: also take off the list what is not in the file
    #[arg(long)]
    sync: bool,
    /// The ranges leave the list after this long, unless a later import prolongs them, so that a feed that stops coming lapses. Each range is
    /// prolonged when less than half of it is left
    #[arg(long, value_name = "DURATION", value_parser = parse_ttl)]
    ttl: Option<Duration>,
    #[command(flatten)]
    feed: FeedArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    append: AppendArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// What a file may have and do at the most. --force does not override it.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits, beyond which nothing is appended")]
struct LimitArgs {
    /// The most ranges of the file, joined
    #[arg(long, value_name = "N", default_value_t = MOST_RANGES)]
    max_ranges: u64,
    /// The most IPv4 addresses of the file, and as many /64 networks of IPv6
    #[arg(long, value_name = "N")]
    max_addresses: Option<u64>,
    /// The most that may change, as a share of the addresses that are on the list, as in 20%; IPv4 and IPv6 each. It is not checked as long
    /// as the list has none
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    max_change: Option<f64>,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    number
        .filter(|number| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| "write a percentage, as in 20%".to_owned())
}

impl ImportArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let time = self.append.time()?;
        let until = match self.ttl {
            None => None,
            Some(ttl) => Some(time.checked_add(ttl).ok_or_else(|| {
                CliError::Usage("--ttl leads past the year 9999: leave it out for no end".to_owned())
            })?),
        };
        if let Some(until) = until.filter(|until| *until <= now()) {
            warn!("--at and --ttl lead to {until}, which is over: what is appended changes nothing");
        }
        let feed = self.feed.read(&self.file, self.list, time, self.limits.max_ranges)?;
        let wanted = match until {
            None => feed.list.clone(),
            Some(until) => cut_short(&feed.list, until),
        };
        let log = self.log.open()?;
        // What is on the list must be known, to append only what differs.
        let before = Follower::load(&*log)?.fold;
        let is_new = is_new(Some(&before), &self.list);
        let none = List::new(self.list);
        let has = before.list(&self.list).unwrap_or(&none);
        if self.sync && wanted.is_empty() && has.ranges_at(time).next().is_some() {
            return Err(CliError::EmptyFeed { path: self.file.clone(), list: self.list });
        }
        // Prolonged when half of it is left: often enough that a feed that comes in time does not lapse.
        let renew_before = self.ttl.and_then(|ttl| time.checked_add(ttl / 2));
        let steps = steps(has, &wanted, time, SyncOptions { removes: self.sync, renew_before });
        let actions: Vec<Action> = steps.iter().map(|step| self.action(*step, until)).collect();
        let after = difference::after(&before, &actions, time);
        let difference =
            difference::between_folds((&before, time), (&after, time), Known::ALL, |list| list == self.list);
        let totals = difference.first().map(ListDifference::totals).unwrap_or_default();
        let within_limits = self.limits.check(&wanted, has, &totals, time);
        if self.append.dry_run {
            self.print_what_would_change(&feed, &difference, &before, &actions)?;
            return within_limits.map(|()| ExitCode::SUCCESS);
        }
        within_limits?;
        self.append.check(Some(&before), &actions)?;
        if let Some(why) = guard::in_vain(Some(&before), &actions, now()) {
            output::say(&format!("note: {why}"));
        }
        let next_offset = self.append_in_parts(&*log, &actions, time)?;
        self.print(&feed, &totals, actions.len(), next_offset)?;
        if is_new && !actions.is_empty() {
            warn!(
                "list {0} is new, and refuses: `edgefold lists set {0} --action ...` says what else it does",
                self.list
            );
        }
        // If nothing was appended, there is nothing to wait for.
        Ok(next_offset.map_or(0, |next_offset| self.append.wait.wait(next_offset)).into())
    }

    fn action(&self, step: Step, ttl_end: Option<LogTime>) -> Action {
        let list = self.list;
        match step {
            Step::Take(range) => Action::Whitelist { list: Some(list), range },
            Step::Put(range, until) => {
                let term = match (until.time(), self.ttl) {
                    (None, _) => Term::Forever,
                    // Shorter than the moment, which is the same.
                    (end, Some(ttl)) if end == ttl_end => Term::Ttl(ttl),
                    (Some(end), _) => Term::Until(end),
                };
                Action::Blacklist { list, range, term }
            }
        }
    }

    fn print_what_would_change(
        &self,
        feed: &Feed,
        difference: &[ListDifference],
        before: &Fold,
        actions: &[Action],
    ) -> Result<(), CliError> {
        output::print_long(|out| print_differences(difference, self.append.output, "nothing would change", out))?;
        output::say(&format!(
            "{}; {} would be appended",
            self.what_was_read(feed),
            words::count(actions.len() as u64, "command")
        ));
        if let Err(CliError::Guarded { why }) = self.append.check(Some(before), actions) {
            output::say(&format!("without --force it would be refused: {why}"));
        }
        Ok(())
    }

    fn what_was_read(&self, feed: &Feed) -> String {
        let Feed { entries, left_out, format, list } = feed;
        let left_out =
            if *left_out > 0 { format!(", {} of them left out", words::number(*left_out)) } else { String::new() };
        let addresses = Addresses::of(list.blocks().map(|block| block.range));
        format!(
            "read {} ({format}{left_out}): {}, {}",
            words::count(*entries, "entry"),
            words::count(addresses.ranges, "range"),
            words::addresses(addresses)
        )
    }

    fn print(&self, feed: &Feed, totals: &Totals, commands: usize, next_offset: Option<u64>) -> Result<(), CliError> {
        let printed = output::print(|out| match self.append.output {
            Format::Human => writeln!(
                out,
                "{}\nlist {}: {}; {} appended",
                self.what_was_read(feed),
                self.list,
                totals.words(),
                words::count(commands as u64, "command")
            ),
            Format::Raw => {
                let Totals { added, removed, changed } = totals;
                let next = next_offset.map_or("-".to_owned(), |next| next.to_string());
                writeln!(out, "{}\t{}\t{}\t{commands}\t{next}", added.ranges, removed.ranges, changed.ranges)
            }
            Format::Json => {
                let json = json!({
                    "list": self.list.as_str(), "format": feed.format.name(), "entries": feed.entries, "left_out": feed.left_out,
                    "added": addresses_json(totals.added), "removed": addresses_json(totals.removed),
                    "changed": addresses_json(totals.changed), "commands": commands, "next_offset": next_offset,
                });
                writeln!(out, "{json}")
            }
        });
        printed.map_err(CliError::after_append)
    }
}

/// The list, with no end later than `until`.
fn cut_short(list: &List, until: LogTime) -> List {
    let mut cut = List::new(list.name());
    list.blocks().for_each(|mut block| {
        block.until = block.until.min(Until::from(until));
        cut.put(block);
    });
    cut
}

impl LimitArgs {
    fn check(&self, wanted: &List, has: &List, totals: &Totals, time: LogTime) -> Result<(), CliError> {
        let addresses = Addresses::of(wanted.blocks().map(|block| block.range));
        if let Some(most) = self.max_addresses
            && (addresses.ipv4 > most || addresses.ipv6 >> 64 > u128::from(most))
        {
            let why =
                format!("the file has {}, and --max-addresses is {}", words::addresses(addresses), words::number(most));
            return Err(CliError::Limit { why });
        }
        let (Some(most), had) = (self.max_change, Addresses::of(has.ranges_at(time))) else { return Ok(()) };
        #[expect(clippy::cast_precision_loss, reason = "it is a share")]
        let share = |changed: u128, had: u128| 100.0 * changed as f64 / had as f64;
        let families = [
            ("IPv4", u128::from(totals.added.ipv4 + totals.removed.ipv4), u128::from(had.ipv4)),
            ("IPv6", totals.added.ipv6.saturating_add(totals.removed.ipv6), had.ipv6),
        ];
        for (family, changed, had) in families {
            if had > 0 && share(changed, had) > most {
                let why = format!(
                    "{:.1}% of the {family} addresses of list {} would change ({}), and --max-change is {most}%",
                    share(changed, had),
                    has.name(),
                    totals.words()
                );
                return Err(CliError::Limit { why });
            }
        }
        Ok(())
    }
}

impl ImportArgs {
    /// Appends a command for each action, and returns the offset after the last one; `None` if there are none.
    fn append_in_parts(&self, log: &dyn Log, actions: &[Action], time: LogTime) -> Result<Option<u64>, CliError> {
        let (total, interrupts) = (actions.len(), Interrupts::new()?);
        // On a terminal, or if it takes long.
        let mut shown = (total > AT_ONCE || stderr().is_terminal()).then(|| Shown::new("appending"));
        let (mut done, mut next_offset) = (0, None);
        while done < total {
            // Their texts are in memory for one part at a time.
            let part = self.append.commands(next_part(&actions[done..]), time)?;
            let why = "interrupted".to_owned();
            let interrupted = CliError::ImportCutOff { done, total, why, status: UNKNOWN };
            match interrupts.append(log, &part, &interrupted) {
                Ok(offsets) => next_offset = offsets.iter().max().map(|last| last + 1).or(next_offset),
                Err(error) if done == 0 && !matches!(error, Error::Unacknowledged(_) | Error::Partly { .. }) => {
                    return Err(CliError::NotAppended(error));
                }
                Err(error) => {
                    if let Error::Partly { outcomes, .. } = &error {
                        done += outcomes.iter().filter(|outcome| outcome.offset().is_some()).count();
                    }
                    let (why, status) = (error.to_string(), log_exit_status(&error));
                    return Err(CliError::ImportCutOff { done, total, why, status });
                }
            }
            done += part.len();
            if let Some(shown) = &mut shown {
                shown.advance(Progress { done: done as u64, total: total as u64 });
            }
        }
        Ok(next_offset)
    }
}

/// What is appended next. What is taken off a list to be put on it again with an earlier end must not be off it for longer than need be.
fn next_part(actions: &[Action]) -> &[Action] {
    let end = AT_ONCE.min(actions.len());
    let is_cut = matches!(actions[..end].last(), Some(Action::Whitelist { .. })) && end < actions.len();
    &actions[..end + usize::from(is_cut)]
}
