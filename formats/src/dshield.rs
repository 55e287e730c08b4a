//! DShield's list of blocks that attack most, `block.txt`: columns separated by tabs, after comments and a header.

use std::io::BufRead;

use edgefold::{Block, Until};

use crate::about::About;
use crate::error::{BadEntry, ReadError};
use crate::input::{each_line, head_lines};
use crate::{EachEntry, ReadOptions};

pub(crate) const DSHIELD: About = About {
    name: "dshield",
    describe: "DShield's block.txt",
    read: Some(read),
    fields: &["netblock", "attacks", "name", "country", "email"],
    looks_like: |head| head_lines(head).any(is_header),
    ..About::BASE
};

fn is_header(line: &str) -> bool {
    let mut columns = line.split('\t').map(str::trim);
    columns.next() == Some("Start") && columns.next() == Some("End") && columns.next() == Some("Netblock")
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    each_line(input, |number, line| {
        let line = match line {
            Ok(line) => line,
            Err(bad) => return each(Err(bad)),
        };
        if line.is_empty() || line.starts_with('#') || is_header(line) {
            return true;
        }
        let columns: Vec<_> = line.splitn(8, '\t').map(str::trim).collect();
        let is_wanted = |name: &str, value: &str| {
            let column = DSHIELD.fields.iter().position(|field| *field == name);
            let cell = column.and_then(|column| columns.get(column + 2));
            cell.is_some_and(|cell| cell.eq_ignore_ascii_case(value))
        };
        if !options.wanted.matches(is_wanted) {
            return true;
        }
        let range = match columns[..] {
            [first, last, ..] => {
                format!("{first}-{last}").parse().map_err(|error: edgefold_table::ParseRangeError| error.to_string())
            }
            _ => Err("there is one column: write the first and the last address with a tab between them".to_owned()),
        };
        each(match range {
            Ok(range) => Ok(Block { range, until: Until::FOREVER }),
            Err(why) => Err(BadEntry::in_line(number, line, why)),
        })
    })
}
