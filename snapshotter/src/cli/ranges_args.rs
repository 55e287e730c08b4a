//! Ranges on the command line, from files, and from stdin.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use edgefold::{IpRange, ParseRangeError};
use edgefold_formats::{Format, ReadOptions, read};

use super::CliError;

/// The ranges that a command is about.
#[derive(Args, Debug)]
pub(super) struct RangesArgs {
    /// An address, a CIDR block, or first-last; - reads such ranges from stdin, one a line, with comments after # or ;
    #[arg(value_name = "RANGE", required_unless_present = "files")]
    ranges: Vec<RangeArg>,
    /// Read ranges from a file, one a line, with comments after # or ;; may be repeated
    #[arg(short, long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
enum RangeArg {
    Range(IpRange),
    Stdin,
}

impl FromStr for RangeArg {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, ParseRangeError> {
        if text == "-" { Ok(Self::Stdin) } else { text.parse().map(Self::Range) }
    }
}

impl RangesArgs {
    /// All ranges, in order.
    pub(super) fn ranges(&self) -> Result<Vec<IpRange>, CliError> {
        let mut ranges = Vec::new();
        for range in &self.ranges {
            match range {
                RangeArg::Range(range) => ranges.push(*range),
                RangeArg::Stdin => read_ranges(Path::new("stdin"), &mut io::stdin().lock(), &mut ranges)?,
            }
        }
        for path in &self.files {
            let file = File::open(path).map_err(CliError::file(path))?;
            read_ranges(path, &mut BufReader::new(file), &mut ranges)?;
        }
        if ranges.is_empty() {
            return Err(CliError::Usage("there is no range in what was read: write one on each line".to_owned()));
        }
        Ok(ranges)
    }
}

fn read_ranges(path: &Path, input: &mut dyn BufRead, ranges: &mut Vec<IpRange>) -> Result<(), CliError> {
    let mut bad = None;
    let outcome = read(Format::Lines, input, &ReadOptions::default(), &mut |entry| {
        match entry {
            Ok(block) => ranges.push(block.range),
            Err(entry) => bad = Some(entry),
        }
        bad.is_none()
    });
    outcome.map_err(|source| CliError::NotReadable { path: path.to_owned(), source: Box::new(source) })?;
    match bad {
        Some(bad) => Err(CliError::Usage(format!("{}: {bad}", path.display()))),
        None => Ok(()),
    }
}
