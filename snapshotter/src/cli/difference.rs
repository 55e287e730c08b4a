//! Printing what differs between two states of the lists: for `diff`, `import` and `--dry-run`.

use std::io::{self, Write};

use anstyle::Style;
use edgefold::{Difference, Until};

use super::output::{self, Format, Styles};
use crate::answers::difference::{ListDifference, word};
use crate::answers::words;

/// Prints all differences, with `none` for people if there are none. Raw has a line
/// `CHANGE<TAB>LIST<TAB>FIRST<TAB>LAST<TAB>UNTIL BEFORE<TAB>UNTIL`, where a change of what a list does has no range.
pub(super) fn print_differences(
    differences: &[ListDifference],
    format: Format,
    none: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        Format::Human if differences.is_empty() => writeln!(out, "{none}"),
        Format::Human => differences.iter().try_for_each(|list| print_for_people(list, out)),
        Format::Raw => differences.iter().try_for_each(|list| print_raw(list, out)),
        Format::Json => output::json_array(out, differences.iter().map(ListDifference::json)),
    }
}

fn print_for_people(list: &ListDifference, out: &mut dyn Write) -> io::Result<()> {
    let styles = Styles::of_stdout();
    let (strong, good, bad) = (styles.strong, styles.good, styles.bad);
    let (before, after) = &list.does;
    let does = match (before, after) {
        (None, None) => String::new(),
        (None, Some(after)) => format!(": new, {}", words::one_line(after)),
        (Some(_), None) => ": gone".to_owned(),
        (Some(before), Some(after)) if before == after => format!(": {}", words::one_line(after)),
        (Some(before), Some(after)) => {
            format!(": {}, was {}", words::one_line(after), words::one_line(before))
        }
    };
    writeln!(out, "{strong}list {}{does}{strong:#}", list.list)?;
    for Difference { range, before, after } in &list.ranges {
        let (style, sign, end) = match (before, after) {
            (None, None) => continue,
            (None, Some(after)) => (good, '+', words::until_words(*after)),
            (Some(before), None) => (bad, '-', format!("was {}", words::until_words(*before))),
            (Some(before), Some(after)) => {
                let (before, after) = (words::until_words(*before), words::until_words(*after));
                (Style::new(), '~', format!("{after}, was {before}"))
            }
        };
        let text = range.shortest_text();
        if list.knows_ends {
            writeln!(out, "{style}{sign} {text:<40} {end}{style:#}")?;
        } else {
            writeln!(out, "{style}{sign} {text}{style:#}")?;
        }
    }
    writeln!(out, "{}", list.totals().words())
}

fn print_raw(
    ListDifference { list, does, ranges, knows_ends }: &ListDifference,
    out: &mut dyn Write,
) -> io::Result<()> {
    if does.0 != does.1 {
        let text = |does: &Option<String>| does.as_deref().map_or("-".to_owned(), words::one_line);
        writeln!(out, "does\t{list}\t-\t-\t{}\t{}", text(&does.0), text(&does.1))?;
    }
    ranges.iter().try_for_each(|change| {
        let Difference { range, before, after } = change;
        let end =
            |until: &Option<Until>| until.filter(|_| *knows_ends).map_or("-".to_owned(), |until| until.to_string());
        writeln!(out, "{}\t{list}\t{}\t{}\t{}\t{}", word(change), range.first(), range.last(), end(before), end(after))
    })
}
