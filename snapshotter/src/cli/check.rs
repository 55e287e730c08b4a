//! `edgefold check`

use std::io::{self, Write};
use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;
use edgefold::{Block, Fold, IpRange, List, ListAction, ListActionText, ListName, Listing, LogTime, Share, Verdict};
use serde_json::{Value, json};

use super::CliError;
use super::log_args::LogArgs;
use super::moment_args::MomentArgs;
use super::output::{self, Format};

const EXAMPLES: &str = "\
Examples:
  edgefold check 10.0.0.7
  edgefold check 10.0.0.0/24 2001:db8::1 -o json
  edgefold check 10.0.0.7 --list tor-exits
  edgefold check 10.0.0.7 --as-of 2026-11-22T17:00:00Z

Exit status: 0 if no part of them is refused, 1 if any part is, 2 on an error, 64 if a range is not valid.";

/// Say whether addresses are refused, or which parts of ranges are, and on which lists they are
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct CheckArgs {
    /// An address, a CIDR block, or first-last
    #[arg(value_name = "RANGE", required = true)]
    ranges: Vec<IpRange>,
    /// Only ask this list, as if it refused all that is on it
    #[arg(long, value_name = "NAME")]
    list: Option<ListName>,
    /// The output format; raw has a line RANGE<TAB>FIRST<TAB>LAST<TAB>UNTIL<TAB>LIST<TAB>ACTION for each block in it, where UNTIL is
    /// - for forever, and all five are - if there is none
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    moment: MomentArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// How much of a range is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Refused {
    All,
    Some,
    None,
}

/// A block that has an address in common with the range that is asked for.
struct Hit<'a> {
    list: ListName,
    action: &'a ListAction,
    block: Block,
}

/// What was found about a range.
struct Found<'a> {
    range: IpRange,
    hits: Vec<Hit<'a>>,
    refused: Refused,
    /// Of a single address: what happens to it, and by which list.
    verdict: Option<Verdict>,
}

impl CheckArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let (fold, time) = self.moment.load(&*self.log.open()?)?;
        let found: Vec<Found<'_>> = match &self.list {
            None => self.ranges.iter().map(|&range| find(&fold, range, time)).collect(),
            Some(name) => {
                let list = output::list(&fold, name)?;
                self.ranges.iter().map(|&range| find_on(list, range, time)).collect()
            }
        };
        output::print(|out| match self.output {
            Format::Human => found.iter().try_for_each(|found| found.print_for_people(out)),
            Format::Raw => found.iter().try_for_each(|Found { range, hits, .. }| {
                let range = range.shortest_text();
                if hits.is_empty() {
                    return writeln!(out, "{range}\t-\t-\t-\t-\t-");
                }
                hits.iter().try_for_each(|Hit { list, action, block }| {
                    writeln!(out, "{range}\t{}\t{list}\t{}", output::block_raw(*block), action.name())
                })
            }),
            Format::Json => output::json_array(out, found.iter().map(Found::json)),
        })?;
        let refused = found.iter().any(|found| found.refused != Refused::None);
        Ok(if refused { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }
}

/// What all lists say about `range` at `time`.
fn find(fold: &Fold, range: IpRange, time: LogTime) -> Found<'_> {
    let hits = fold.lists().iter().flat_map(|list| hits(list, range, time)).collect();
    if range.first() == range.last() {
        let verdict = fold.verdict(range.first(), time);
        let refused = if verdict.denied().is_some() { Refused::All } else { Refused::None };
        return Found { range, hits, refused, verdict: Some(verdict) };
    }
    let refused = refused_part(range, &hits);
    Found { range, hits, refused, verdict: None }
}

/// What one list says about `range` at `time`, whatever it does.
fn find_on(list: &List, range: IpRange, time: LogTime) -> Found<'_> {
    let hits: Vec<Hit<'_>> = hits(list, range, time).collect();
    let on_list = Pieces::new(hits.iter().map(|hit| hit.block.range), range);
    Found { range, refused: on_list.part_of(range), hits, verdict: None }
}

fn hits(list: &List, range: IpRange, time: LogTime) -> impl Iterator<Item = Hit<'_>> {
    let hit = |block| Hit { list: list.name(), action: list.action(), block };
    output::blocks_in(list, range, time).into_iter().map(hit)
}

/// How much of `range` the lists refuse. Of a list that refuses a share of its clients, some are refused and some are not.
fn refused_part(range: IpRange, hits: &[Hit<'_>]) -> Refused {
    let of = |wanted: fn(&ListAction) -> bool| {
        Pieces::new(hits.iter().filter(|hit| wanted(hit.action)).map(|hit| hit.block.range), range)
    };
    let exempt = of(|action| *action == ListAction::Exempt);
    let whole = of(|action| matches!(action, ListAction::Deny { share, .. } if *share == Share::ALL)).without(&exempt);
    let part = of(|action| matches!(action, ListAction::Deny { share, .. } if *share != Share::NONE));
    match (whole.part_of(range), part.without(&exempt).part_of(range)) {
        (Refused::All, _) => Refused::All,
        (Refused::None, Refused::None) => Refused::None,
        _ => Refused::Some,
    }
}

/// Parts of a range, sorted and disjoint: first and last address as numbers.
#[derive(Debug, Eq, PartialEq)]
struct Pieces(Vec<(u128, u128)>);

impl Pieces {
    /// The parts of `within` that are in one of `ranges`, which are of the same family.
    fn new(ranges: impl Iterator<Item = IpRange>, within: IpRange) -> Self {
        let (first, last) = bounds(within);
        let mut parts: Vec<(u128, u128)> =
            ranges.map(bounds).map(|(from, to)| (from.max(first), to.min(last))).collect();
        parts.sort_unstable();
        let mut joined: Vec<(u128, u128)> = Vec::new();
        for (from, to) in parts {
            match joined.last_mut() {
                Some((_, end)) if from <= end.saturating_add(1) => *end = to.max(*end),
                _ => joined.push((from, to)),
            }
        }
        Self(joined)
    }

    /// These parts without `others`.
    fn without(&self, others: &Self) -> Self {
        let mut rest = Vec::new();
        for &(from, to) in &self.0 {
            let mut from = Some(from);
            for &(other_from, other_to) in others.0.iter().filter(|(other_from, _)| *other_from <= to) {
                let Some(open) = from.filter(|open| *open <= other_to) else { continue };
                if open < other_from {
                    rest.push((open, other_from - 1));
                }
                from = other_to.checked_add(1);
            }
            rest.extend(from.filter(|from| *from <= to).map(|from| (from, to)));
        }
        Self(rest)
    }

    fn part_of(&self, range: IpRange) -> Refused {
        match self.0.as_slice() {
            [] => Refused::None,
            [all] if *all == bounds(range) => Refused::All,
            _ => Refused::Some,
        }
    }
}

fn bounds(range: IpRange) -> (u128, u128) {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    (bits(range.first()), bits(range.last()))
}

impl Found<'_> {
    fn print_for_people(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { range, hits, refused, verdict } = self;
        let text = range.shortest_text();
        let on = |listing: &Listing| {
            let Listing { list, block } = listing;
            let of_list = if list.is_default() { String::new() } else { format!("list {list}, ") };
            (output::until_words(block.until), format!("{of_list}{}", block.range))
        };
        match verdict {
            Some(Verdict::Deny(listing)) => {
                let (until, by) = on(listing);
                writeln!(out, "{text} is blocked {until}, by {by}")?;
            }
            Some(Verdict::Exempt(listing)) => {
                let (until, by) = on(listing);
                writeln!(out, "{text} is not blocked: exempt {until}, by {by}")?;
            }
            Some(Verdict::Mark { .. } | Verdict::Pass) => writeln!(out, "{text} is not blocked")?,
            None => match (refused, hits.as_slice()) {
                (Refused::None, _) => writeln!(out, "{text} is not blocked")?,
                (Refused::All, [hit]) => {
                    let (until, by) = on(&Listing { list: hit.list, block: hit.block });
                    writeln!(out, "{text} is blocked {until}, by {by}")?;
                }
                (Refused::All, _) => writeln!(out, "{text} is blocked:")?,
                (Refused::Some, _) => writeln!(out, "{text} is partly blocked:")?,
            },
        }
        // If there is one hit that says all, it is in the line above.
        let is_said = matches!((hits.as_slice(), refused), ([hit], Refused::All) if is_plain_deny(hit.action));
        if is_said {
            return Ok(());
        }
        hits.iter().try_for_each(|Hit { list, action, block }| {
            let list = if list.is_default() && is_plain_deny(action) {
                String::new()
            } else {
                format!("  list {list}, {}", ListActionText(action))
            };
            writeln!(out, "  {} {}{list}", block.range, output::until_words(block.until))
        })
    }

    fn json(&self) -> Value {
        let Self { range, hits, refused, verdict } = self;
        let blocked = match refused {
            Refused::All => "all",
            Refused::Some => "some",
            Refused::None => "none",
        };
        let verdict = verdict.as_ref().map(|verdict| match verdict {
            Verdict::Pass => json!({ "action": "pass" }),
            Verdict::Exempt(by) => json!({ "action": "exempt", "list": by.list.as_str() }),
            Verdict::Deny(by) => json!({ "action": "deny", "list": by.list.as_str() }),
            Verdict::Mark { shadow, tag } => {
                let names = |on: &[Listing]| on.iter().map(|on| on.list.to_string()).collect::<Vec<_>>();
                json!({ "action": "pass", "shadow": names(shadow), "tag": names(tag) })
            }
        });
        let blocks: Vec<Value> = hits
            .iter()
            .map(|Hit { list, action, block }| {
                let mut json = output::block_json(*block);
                json["list"] = list.as_str().into();
                json["action"] = action.name().into();
                json
            })
            .collect();
        json!({ "range": range.shortest_text(), "blocked": blocked, "verdict": verdict, "blocks": blocks })
    }
}

/// Whether it is what a list does that no command says anything about.
fn is_plain_deny(action: &ListAction) -> bool {
    *action == ListAction::default()
}

#[cfg(test)]
mod tests {
    use edgefold::{Edits, Record};

    use super::*;

    fn fold(texts: &[&str]) -> Fold {
        let mut fold = Fold::default();
        for (offset, text) in (0..).zip(texts) {
            let record = Record { offset, timestamp: LogTime::from_millis(0), key: None, value: Some((*text).into()) };
            fold.apply(&record, &mut Edits::default()).unwrap();
        }
        fold
    }

    fn refused(fold: &Fold, text: &str) -> Refused {
        find(fold, text.parse().unwrap(), LogTime::from_millis(1).unwrap()).refused
    }

    #[test]
    fn a_range_is_blocked_wholly_partly_or_not() {
        let fold =
            fold(&["BLOCK 10.0.0.0/25", "BLOCK 10.0.0.128-10.0.0.200 ttl=1h", "BLOCK ::/0", "BLOCK 255.255.255.255"]);
        for (text, expected) in [
            ("10.0.0.0/25", Refused::All),
            ("10.0.0.7", Refused::All),
            ("10.0.0.0-10.0.0.200", Refused::All),
            ("10.0.0.0/24", Refused::Some),
            ("9.255.255.255-10.0.0.0", Refused::Some),
            ("0.0.0.0/0", Refused::Some),
            ("255.255.255.255", Refused::All),
            ("10.0.0.201", Refused::None),
            ("2001:db8::/32", Refused::All),
            ("::ffff:10.0.0.201", Refused::None),
        ] {
            assert_eq!(refused(&fold, text), expected, "{text}");
        }
    }

    #[test]
    fn lists_add_up_and_exemptions_are_left_out() {
        let fold = fold(&[
            "BLOCK 10.0.0.0/25",
            "ADD 10.0.0.128/25 list=feed",
            "LIST monitoring action=exempt",
            "ADD 10.0.0.0/28 list=monitoring",
            "ADD 10.0.0.255 list=monitoring",
            "LIST trial action=deny share=50%",
            "ADD 10.1.0.0/24 list=trial",
            "LIST off action=deny share=0%",
            "ADD 10.2.0.0/24 list=off",
            "LIST seen action=shadow",
            "ADD 10.3.0.0/24 list=seen",
        ]);
        for (text, expected) in [
            ("10.0.0.16-10.0.0.254", Refused::All),
            ("10.0.0.0/24", Refused::Some),
            ("10.0.0.0/28", Refused::None),
            ("10.0.0.254-10.0.0.255", Refused::Some),
            ("10.0.0.255", Refused::None),
            ("10.1.0.0/24", Refused::Some),
            ("10.2.0.0/24", Refused::None),
            ("10.3.0.0/24", Refused::None),
        ] {
            assert_eq!(refused(&fold, text), expected, "{text}");
        }
        let list = |name: &str| fold.list(&name.parse().unwrap()).unwrap();
        let on =
            |name, text: &str| find_on(list(name), text.parse().unwrap(), LogTime::from_millis(1).unwrap()).refused;
        assert_eq!(on("seen", "10.3.0.7"), Refused::All);
        assert_eq!(on("seen", "8.0.0.0/6"), Refused::Some);
        assert_eq!(on("feed", "10.0.0.7"), Refused::None);
    }

    #[test]
    fn pieces_end_at_the_last_address() {
        let all: IpRange = "::/0".parse().unwrap();
        let pieces = |text: &str| Pieces::new(text.split_whitespace().map(|range| range.parse().unwrap()), all);
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!(pieces("::/0").without(&pieces(last)).0, [(0, u128::MAX - 1)]);
        assert_eq!(pieces("::/0").without(&pieces("::/0")).0, []);
        assert_eq!(pieces("::5-::9").without(&pieces("::1-::6 ::8")).0, [(7, 7), (9, 9)]);
        assert_eq!(pieces("::1 ::2-::3 ::9").0, [(1, 3), (9, 9)]);
    }
}
