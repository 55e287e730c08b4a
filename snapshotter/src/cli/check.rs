//! `edgefold check`

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use edgefold::{Block, Fold, IpRange, List, ListAction, ListActionText, ListName, LogTime, Verdict};
use serde_json::{Value, json};

use super::CliError;
use super::log_args::LogArgs;
use super::moment_args::MomentArgs;
use super::output::{self, Format};
use super::ranges_args::RangesArgs;
use crate::answers::refused::{Extent, blocks_in, refused};
use crate::answers::words;

const EXAMPLES: &str = "\
Examples:
  edgefold check 10.0.0.7
  edgefold check 10.0.0.0/24 2001:db8::1 -o json
  edgefold check 10.0.0.7 --list tor-exits
  edgefold check 10.0.0.7 --as-of 2026-11-22T17:00:00Z

Of a range of more than 65536 addresses, a list with a share is taken to refuse some.

Exit status: 0 if no part of them is refused, 1 if any part is, 2 on an error, 64 if a range is not valid.";

/// Say whether addresses and ranges are refused, and print the entries of the lists that contain them
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    ranges: RangesArgs,
    /// Say whether they are on this list, whatever it does; the exit status is then 1 if any part is on it
    #[arg(long, value_name = "NAME")]
    list: Option<ListName>,
    /// The output format; raw has a line RANGE<TAB>FIRST<TAB>LAST<TAB>UNTIL<TAB>LIST<TAB>ACTION<TAB>REFUSED for each entry, where UNTIL
    /// is - for forever, and REFUSED is all, some or none of RANGE; without an entry, the five before REFUSED are -
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    moment: MomentArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// An entry of a list that has an address in common with the range that is asked for.
struct Hit<'a> {
    list: &'a List,
    block: Block,
}

/// What was found about a range.
struct Found<'a> {
    range: IpRange,
    hits: Vec<Hit<'a>>,
    /// How much of it is refused, or, if only one list was asked, is on that list.
    extent: Extent,
    /// Of a single address: what happens to it, and by which list.
    verdict: Option<Verdict>,
    /// The list, if only one was asked.
    on: Option<ListName>,
}

impl CheckArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let ranges = self.ranges.ranges()?;
        let (fold, time) = self.moment.load(&self.log)?;
        let found: Vec<Found<'_>> = match &self.list {
            None => ranges.iter().map(|&range| find(&fold, range, time)).collect(),
            Some(name) => {
                let list = output::list(&fold, name)?;
                ranges.iter().map(|&range| find_on(list, range, time)).collect()
            }
        };
        output::print(|out| match self.output {
            Format::Human => found.iter().try_for_each(|found| found.print_for_people(out)),
            Format::Raw => found.iter().try_for_each(|found| {
                let (range, extent) = (found.range.shortest_text(), found.extent.word());
                if found.hits.is_empty() {
                    return writeln!(out, "{range}\t-\t-\t-\t-\t-\t{extent}");
                }
                found.hits.iter().try_for_each(|Hit { list, block }| {
                    let (block, action) = (output::block_raw(*block), list.action().name());
                    writeln!(out, "{range}\t{block}\t{}\t{action}\t{extent}", list.name())
                })
            }),
            Format::Json => output::json_array(out, found.iter().map(Found::json)),
        })?;
        let any = found.iter().any(|found| found.extent != Extent::None);
        Ok(if any { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }
}

/// What all lists say about `range` at `time`.
fn find(fold: &Fold, range: IpRange, time: LogTime) -> Found<'_> {
    let hits = fold.lists().iter().flat_map(|list| hits(list, range, time)).collect();
    let verdict = (range.first() == range.last()).then(|| fold.verdict(range.first(), time));
    Found { range, hits, extent: refused(fold, range, time), verdict, on: None }
}

/// What one list says about `range` at `time`.
fn find_on(list: &List, range: IpRange, time: LogTime) -> Found<'_> {
    let hits = hits(list, range, time).collect();
    let extent = Extent::on(list, range, time);
    Found { range, hits, extent, verdict: None, on: Some(list.name()) }
}

fn hits(list: &List, range: IpRange, time: LogTime) -> impl Iterator<Item = Hit<'_>> {
    blocks_in(list, range, time).into_iter().map(move |block| Hit { list, block })
}

impl Found<'_> {
    fn print_for_people(&self, out: &mut dyn Write) -> io::Result<()> {
        let text = self.range.shortest_text();
        let is_what = self.on.map_or("blocked".to_owned(), |list| format!("on list {list}"));
        match (self.extent, self.hits.as_slice()) {
            (Extent::All, [Hit { list, block }]) if is_plain(list) || self.on.is_some() => {
                return writeln!(out, "{text} is {is_what} {}, by {}", words::until_words(block.until), block.range);
            }
            (Extent::None, []) => return writeln!(out, "{text} is not {is_what}"),
            (Extent::All, _) => write!(out, "{text} is {is_what}")?,
            (Extent::Some, _) => write!(out, "{text} is partly {is_what}")?,
            (Extent::None, _) => write!(out, "{text} is not {is_what}")?,
        }
        match &self.verdict {
            Some(Verdict::Deny(by)) => writeln!(out, ", by list {}:", by.list)?,
            Some(Verdict::Exempt(by)) => writeln!(out, ", because list {} exempts it:", by.list)?,
            _ => writeln!(out, ":")?,
        }
        let are_plain = self.hits.iter().all(|hit| is_plain(hit.list));
        self.hits.iter().try_for_each(|hit| {
            if are_plain {
                return writeln!(out, "  {} {}", hit.block.range, words::until_words(hit.block.until));
            }
            let (until, entry) = (words::until_words(hit.block.until), hit.block.range);
            writeln!(out, "  list {}, {}: {entry} {until}{}", hit.list.name(), self.does(hit), self.not_in_share(hit))
        })
    }

    fn does(&self, hit: &Hit<'_>) -> String {
        words::one_line(&ListActionText(hit.list.action()).to_string())
    }

    /// Why a list that refuses does not refuse this address.
    fn not_in_share(&self, hit: &Hit<'_>) -> &'static str {
        match hit.list.action() {
            ListAction::Deny { share, .. } if self.verdict.is_some() && !share.contains(self.range.first()) => {
                " (not in the share)"
            }
            _ => "",
        }
    }

    fn json(&self) -> Value {
        let verdict = self.verdict.as_ref().map(words::verdict_json);
        let entries: Vec<Value> = self
            .hits
            .iter()
            .map(|Hit { list, block }| {
                let mut json = words::block_json(*block);
                json["list"] = list.name().as_str().into();
                json["does"] = ListActionText(list.action()).to_string().into();
                json
            })
            .collect();
        let extent = if self.on.is_some() { "on_list" } else { "blocked" };
        json!({ "range": self.range.shortest_text(), extent: self.extent.word(), "verdict": verdict, "entries": entries })
    }
}

/// Whether it is the default list, and does what it does without a command.
fn is_plain(list: &List) -> bool {
    list.name().is_default() && *list.action() == ListAction::default()
}
