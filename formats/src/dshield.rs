//! DShield's list of blocks that attack most, `block.txt`: columns separated by tabs, after comments and a header.

use std::io::BufRead;

use edgefold::{Block, Until};

use crate::about::About;
use crate::error::{BadEntry, ReadError};
use crate::input::{LastLine, each_line, head_lines};
use crate::{EachEntry, ReadOptions};

pub(crate) const ABOUT: About = About {
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
    each_line(input, LastLine::MayBeOpen, |number, line| {
        let line = match line {
            Ok(line) => line,
            Err(bad) => return each(Err(bad)),
        };
        if line.is_empty() || line.starts_with('#') || is_header(line) {
            return true;
        }
        let columns: Vec<_> = line.splitn(8, '\t').map(str::trim).collect();
        let is_wanted = |name: &str, value: &str| {
            let column = ABOUT.fields.iter().position(|field| *field == name);
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

#[cfg(test)]
mod tests {
    use crate::Format;
    use crate::testing::{assert_entries, entries, entries_with};

    const FILE: &str = "#\n#   DShield.org Recommended Block List\n#\nStart\tEnd\tNetblock\tAttacks\tName\tCountry\temail\n\
        192.0.2.0\t192.0.2.255\t24\t2222\tEXAMPLE-1 No.31, Street\tCN\tabuse@example.org\n\
        198.51.100.0\t198.51.100.255\t24\t1111\tEXAMPLE-2\tUS\n";

    #[test]
    fn blocks_are_read_and_chosen() {
        assert_entries(&entries(Format::Dshield, FILE), &["192.0.2.0/24", "198.51.100.0/24"]);
        assert_entries(&entries_with(Format::Dshield, FILE, &[("country", "us")]).unwrap(), &["198.51.100.0/24"]);
        assert_entries(&entries_with(Format::Dshield, FILE, &[("attacks", "2222")]).unwrap(), &["192.0.2.0/24"]);
    }

    #[test]
    fn bad_lines_are_named() {
        let file = "Start\tEnd\tNetblock\n192.0.2.0\n192.0.2.9\t192.0.2.0\t24\n192.0.2.0\t192.0.2.7\t29\n";
        let expected = ["line 2: ... there is one column", "line 3: ... swap them", "192.0.2.0/29"];
        assert_entries(&entries(Format::Dshield, file), &expected);
    }
}
