//! `edgefold check`

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;

use clap::Args;
use edgefold::{Block, Fold, IpRange, LogTime};
use serde_json::{Value, json};

use super::CliError;
use super::log_args::LogArgs;
use super::moment_args::MomentArgs;
use super::output::{self, Format};

const EXAMPLES: &str = "\
Examples:
  edgefold check 10.0.0.7
  edgefold check 10.0.0.0/24 2001:db8::1 -o json
  edgefold check 10.0.0.7 --as-of 2026-11-22T17:00:00Z

Exit status: 0 if no part of them is blocked, 1 if any part is, 2 on an error, 64 if a range is not valid.";

/// Say whether addresses are blocked, or which parts of ranges are
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct CheckArgs {
    /// An address, a CIDR block, or first-last
    #[arg(value_name = "RANGE", required = true)]
    ranges: Vec<IpRange>,
    /// The output format; raw has a line RANGE<TAB>FIRST<TAB>LAST<TAB>UNTIL for each block in it, where UNTIL is - for forever, and all three are - if there is none
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    moment: MomentArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// How much of a range is blocked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Blocked {
    All,
    Some,
    None,
}

impl CheckArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let (fold, time) = self.moment.load(&*self.log.open()?)?;
        let found: Vec<(IpRange, Vec<Block>)> =
            self.ranges.iter().map(|&range| (range, blocks_in(&fold, range, time))).collect();
        output::print(|out| match self.output {
            Format::Human => found.iter().try_for_each(|(range, blocks)| print_for_people(out, *range, blocks)),
            Format::Raw => found.iter().try_for_each(|(range, blocks)| {
                let range = range.shortest_text();
                if blocks.is_empty() {
                    return writeln!(out, "{range}\t-\t-\t-");
                }
                blocks.iter().try_for_each(|block| writeln!(out, "{range}\t{}", output::block_raw(*block)))
            }),
            Format::Json => output::json_array(
                out,
                found.iter().map(|(range, blocks)| {
                    let blocked = match extent(*range, blocks) {
                        Blocked::All => "all",
                        Blocked::Some => "some",
                        Blocked::None => "none",
                    };
                    let blocks: Vec<Value> = blocks.iter().copied().map(output::block_json).collect();
                    json!({ "range": range.shortest_text(), "blocked": blocked, "blocks": blocks })
                }),
            ),
        })?;
        let blocked = found.iter().any(|(_, blocks)| !blocks.is_empty());
        Ok(if blocked { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }
}

fn print_for_people(out: &mut dyn Write, range: IpRange, blocks: &[Block]) -> io::Result<()> {
    let range_text = range.shortest_text();
    match (extent(range, blocks), blocks) {
        (Blocked::None, _) => writeln!(out, "{range_text} is not blocked"),
        (Blocked::All, [block]) => {
            writeln!(out, "{range_text} is blocked {}, by {}", output::until_words(block.until), block.range)
        }
        (extent, _) => {
            let partly = if extent == Blocked::All { "" } else { "partly " };
            writeln!(out, "{range_text} is {partly}blocked:")?;
            blocks.iter().try_for_each(|block| writeln!(out, "  {} {}", block.range, output::until_words(block.until)))
        }
    }
}

/// The blocks in force at `time` that have an address in common with `range`, in order.
fn blocks_in(fold: &Fold, range: IpRange, time: LogTime) -> Vec<Block> {
    let is_in = |block: &Block| {
        let (first, last) = (block.range.first(), block.range.last());
        first.is_ipv4() == range.first().is_ipv4() && first <= range.last() && last >= range.first()
    };
    fold.blocks().filter(|block| block.until.holds_at(time)).filter(is_in).collect()
}

/// `blocks` are those in `range`, in order and disjoint.
fn extent(range: IpRange, blocks: &[Block]) -> Blocked {
    let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else { return Blocked::None };
    let has_gap = blocks.windows(2).any(|pair| successor(pair[0].range.last()) != Some(pair[1].range.first()));
    let covers_ends = first.range.first() <= range.first() && last.range.last() >= range.last();
    if covers_ends && !has_gap { Blocked::All } else { Blocked::Some }
}

fn successor(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(ip) => ip.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

#[cfg(test)]
mod tests {
    use edgefold::{Edits, Record};

    use super::*;

    #[test]
    fn a_range_is_blocked_wholly_partly_or_not() {
        let mut fold = Fold::default();
        let texts = ["BLOCK 10.0.0.0/25", "BLOCK 10.0.0.128-10.0.0.200 ttl=1h", "BLOCK ::/0", "BLOCK 255.255.255.255"];
        for (offset, text) in (0..).zip(texts) {
            let record = Record { offset, timestamp: LogTime::from_millis(0), key: None, value: Some(text.into()) };
            fold.apply(&record, &mut Edits::default()).unwrap();
        }
        let extent_of = |text: &str| {
            let range: IpRange = text.parse().unwrap();
            extent(range, &blocks_in(&fold, range, LogTime::from_millis(1).unwrap()))
        };
        for (text, expected) in [
            ("10.0.0.0/25", Blocked::All),
            ("10.0.0.7", Blocked::All),
            ("10.0.0.0-10.0.0.200", Blocked::All),
            ("10.0.0.0/24", Blocked::Some),
            ("9.255.255.255-10.0.0.0", Blocked::Some),
            ("0.0.0.0/0", Blocked::Some),
            ("255.255.255.255", Blocked::All),
            ("10.0.0.201", Blocked::None),
            ("2001:db8::/32", Blocked::All),
            ("::ffff:10.0.0.201", Blocked::None),
        ] {
            assert_eq!(extent_of(text), expected, "{text}");
        }
    }
}
