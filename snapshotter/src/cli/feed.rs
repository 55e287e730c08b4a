//! A file of ranges that another program wrote, read into a list.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use edgefold::{List, ListName, LogTime};
use edgefold_formats::{BadEntry, Format, ReadOptions, Wanted, read};
use edgefold_table::shorten;

use super::{CliError, output};
use crate::answers::words;

/// How much of a file is looked at to find out its format.
const HEAD_BYTES: u64 = 64 << 10;
/// How many bad entries are shown if they are the reason for an error.
const MOST_SHOWN: usize = 10;

/// How to read a file.
#[derive(Args, Debug)]
#[command(next_help_heading = "The file")]
pub(super) struct FeedArgs {
    /// Its format [default: what its first lines look like]. docs/lists.md describes each
    #[arg(long, value_name = "FORMAT", value_parser = format_parser(Format::is_read))]
    format: Option<Format>,
    /// Only entries whose field has this value, as in service=EC2; with several of one name, one of the values. docs/lists.md has the fields
    /// of each format
    #[arg(long = "where", value_name = "FIELD=VALUE", value_parser = field)]
    wanted: Vec<(String, String)>,
    /// CSV: the column with the ranges; given twice, the columns with the first and the last address [default: by their usual names]
    #[arg(long = "column", value_name = "NAME")]
    columns: Vec<String>,
    /// Leave out entries that cannot be read, and print each with its place on stderr. Otherwise one is enough to refuse the file
    #[arg(long)]
    skip_bad: bool,
}

/// What was read.
pub(super) struct Feed {
    /// The ranges, joined.
    pub(super) list: List,
    /// The number of entries, also of those that overlap.
    pub(super) entries: u64,
    /// The entries that have ended, or that could not be read.
    pub(super) left_out: u64,
    pub(super) format: Format,
}

/// A parser of the names of formats that `can` do something.
pub(super) fn format_parser(can: fn(Format) -> bool) -> impl TypedValueParser<Value = Format> {
    let names = Format::ALL.iter().filter(move |format| can(**format)).map(|format| format.name());
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Format>())
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not a field: write FIELD=VALUE"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

impl FeedArgs {
    /// Reads a file, or stdin for `-`, into a list with this name. `most_ranges` bounds the memory it takes.
    pub(super) fn read(&self, path: &Path, list: ListName, now: LogTime, most_ranges: u64) -> Result<Feed, CliError> {
        let (path, input): (&Path, Box<dyn Read>) = if path == Path::new("-") {
            (Path::new("stdin"), Box::new(io::stdin().lock()))
        } else {
            (path, Box::new(File::open(path).map_err(CliError::file(path))?))
        };
        let mut input = BufReader::with_capacity(1 << 16, input);
        let mut head = Vec::new();
        (&mut input).take(HEAD_BYTES).read_to_end(&mut head).map_err(CliError::file(path))?;
        let format = self.format_of(path, &head)?;
        let mut wanted = Wanted::default();
        self.wanted.iter().for_each(|(name, value)| wanted.add(name, value));
        let options = ReadOptions { now, wanted, columns: self.columns.clone() };
        let mut feed = Feed { list: List::new(list), entries: 0, left_out: 0, format };
        let (mut bad, mut bad_entries, mut is_too_large) = (Vec::new(), 0_u64, false);
        let outcome = read(format, &mut Cursor::new(head).chain(input), &options, &mut |entry| {
            feed.entries += 1;
            match entry {
                Ok(block) if block.until.holds_at(now) => feed.list.put(block),
                Ok(_) => feed.left_out += 1,
                Err(entry) => {
                    bad_entries += 1;
                    feed.left_out += 1;
                    if self.skip_bad {
                        output::say(&format!("left out: {entry}"));
                    } else if bad.len() < MOST_SHOWN {
                        bad.push(entry);
                    }
                }
            }
            // Counting takes a pass over the chunks of the list.
            is_too_large = feed.entries.is_multiple_of(1 << 16) && feed.list.len() > most_ranges;
            !is_too_large
        });
        let path = path.to_owned();
        outcome.map_err(|source| CliError::NotReadable { path: path.clone(), source: Box::new(source) })?;
        if is_too_large || feed.list.len() > most_ranges {
            return Err(CliError::TooManyRanges { path, most: most_ranges });
        }
        if bad.is_empty() {
            return Ok(feed);
        }
        Err(CliError::BadEntries { path, shown: shown(&bad, bad_entries), bad_entries, entries: feed.entries })
    }

    /// The format of a file that begins with `head`.
    fn format_of(&self, path: &Path, head: &[u8]) -> Result<Format, CliError> {
        let of_name = || path.file_name().and_then(|name| Format::of_file_name(&name.to_string_lossy()));
        let Some(format) = self.format.or_else(of_name).or_else(|| Format::detect(head)) else {
            return match text_lines(head).next() {
                // Nothing but comments can be said to be lines.
                None => Ok(Format::Lines),
                Some(line) => Err(CliError::UnknownFormat { path: path.to_owned(), line: shorten(&line) }),
            };
        };
        Ok(format)
    }
}

/// The lines that are not empty, and not comments.
fn text_lines(head: &[u8]) -> impl Iterator<Item = String> {
    let lines = head.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line).trim().to_owned());
    lines.filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
}

fn shown(bad: &[BadEntry], all: u64) -> String {
    let mut text: String = bad.iter().map(|entry| format!("\n  {entry}")).collect();
    if all > bad.len() as u64 {
        text += &format!("\n  and {} more", words::number(all - bad.len() as u64));
    }
    text
}
