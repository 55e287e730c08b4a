//! Printing what differs between two states of the lists: for `diff`, `import` and `--dry-run`.

use std::io::{self, Write};

use anstyle::Style;
use edgefold::{
    Action, Difference, Edits, Effect, Fold, List, ListAction, ListActionText, ListName, LogTime, Until, differences,
};
use serde_json::{Value, json};

use super::output::{self, Format, Styles};
use crate::addresses::Addresses;

/// What differs in one list.
#[derive(Debug)]
pub(super) struct ListDifference {
    pub(super) list: ListName,
    /// What the list does before and after; `None` if it does not exist, or if one of the two is not known.
    pub(super) does: (Option<String>, Option<String>),
    pub(super) ranges: Vec<Difference>,
    /// Whether both sides know when ranges end. Otherwise the ends in `ranges` say nothing.
    pub(super) knows_ends: bool,
}

/// What both sides know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// When ranges end.
    pub(super) ends: bool,
    /// What lists do.
    pub(super) actions: bool,
}

impl Known {
    pub(super) const ALL: Self = Self { ends: true, actions: true };
}

/// How many addresses came, went, or have another end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) added: Addresses,
    pub(super) removed: Addresses,
    pub(super) changed: Addresses,
}

/// What differs between two folds, each at its own time, for the lists that `wanted` chooses.
pub(super) fn between_folds(
    (before, then): (&Fold, LogTime),
    (after, now): (&Fold, LogTime),
    known: Known,
    wanted: impl Fn(ListName) -> bool,
) -> Vec<ListDifference> {
    let mut names: Vec<ListName> = before.lists().iter().chain(after.lists()).map(List::name).collect();
    names.sort_by_key(|name| (!name.is_default(), *name));
    names.dedup();
    let names = names.into_iter().filter(|name| wanted(*name));
    let differences = names.map(|list| {
        let does = |fold: &Fold| {
            let list = fold.list(&list).filter(|_| known.actions)?;
            Some(ListActionText(list.action()).to_string())
        };
        let none = List::new(list);
        let (old, new) = (before.list(&list).unwrap_or(&none), after.list(&list).unwrap_or(&none));
        let ranges = differences((old, then), (new, now)).collect();
        ListDifference { list, does: (does(before), does(after)), ranges, knows_ends: known.ends }
    });
    differences.filter(ListDifference::is_any).collect()
}

/// What the lists would be after commands with this time.
pub(super) fn after(before: &Fold, actions: &[Action], time: LogTime) -> Fold {
    let (mut after, mut edits) = (before.clone(), Edits::default());
    for action in actions {
        if let Some(change) = action.clone().change(time) {
            // That there is room for their lists was checked.
            let _accepted = after.apply_effect(&Effect { time, change }, &mut edits);
            edits.clear();
        }
    }
    after
}

impl ListDifference {
    fn is_any(&self) -> bool {
        let (before, after) = &self.does;
        !self.ranges.is_empty() || before != after
    }

    pub(super) fn totals(&self) -> Totals {
        let of = |wanted: fn(&Difference) -> bool| {
            Addresses::of(self.ranges.iter().filter(|change| wanted(change)).map(|change| change.range))
        };
        Totals {
            added: of(|change| change.before.is_none()),
            removed: of(|change| change.after.is_none()),
            changed: of(|change| change.before.is_some() && change.after.is_some()),
        }
    }

    fn print_for_people(&self, out: &mut dyn Write) -> io::Result<()> {
        let styles = Styles::of_stdout();
        let (strong, good, bad) = (styles.strong, styles.good, styles.bad);
        let (before, after) = &self.does;
        let does = match (before, after) {
            (None, None) => String::new(),
            (None, Some(after)) => format!(": new, {}", output::one_line(after)),
            (Some(_), None) => ": gone".to_owned(),
            (Some(before), Some(after)) if before == after => format!(": {}", output::one_line(after)),
            (Some(before), Some(after)) => {
                format!(": {}, was {}", output::one_line(after), output::one_line(before))
            }
        };
        writeln!(out, "{strong}list {}{does}{strong:#}", self.list)?;
        for Difference { range, before, after } in &self.ranges {
            let (style, sign, words) = match (before, after) {
                (None, None) => continue,
                (None, Some(after)) => (good, '+', output::until_words(*after)),
                (Some(before), None) => (bad, '-', format!("was {}", output::until_words(*before))),
                (Some(before), Some(after)) => {
                    let (before, after) = (output::until_words(*before), output::until_words(*after));
                    (Style::new(), '~', format!("{after}, was {before}"))
                }
            };
            let text = range.shortest_text();
            if self.knows_ends {
                writeln!(out, "{style}{sign} {text:<40} {words}{style:#}")?;
            } else {
                writeln!(out, "{style}{sign} {text}{style:#}")?;
            }
        }
        writeln!(out, "{}", self.totals().words())
    }

    fn json(&self) -> Value {
        let Totals { added, removed, changed } = self.totals();
        let end = |until: &Option<Until>| until.and_then(Until::time).map(|time| time.to_string());
        let ranges: Vec<Value> = self
            .ranges
            .iter()
            .map(|change| {
                let Difference { range, before, after } = change;
                let mut json = json!({ "first": range.first(), "last": range.last(), "change": word(change) });
                if self.knows_ends {
                    json["until_before"] = end(before).into();
                    json["until"] = end(after).into();
                }
                json
            })
            .collect();
        json!({
            "list": self.list.as_str(),
            "does_before": self.does.0,
            "does": self.does.1,
            "added": addresses_json(added),
            "removed": addresses_json(removed),
            "changed": addresses_json(changed),
            "ranges": ranges,
        })
    }
}

/// `ranges`, `ipv4_addresses` and, as text, `ipv6_addresses`.
pub(super) fn addresses_json(Addresses { ranges, ipv4, ipv6 }: Addresses) -> Value {
    // Numbers of JSON are often read as floating point.
    json!({ "ranges": ranges, "ipv4_addresses": ipv4, "ipv6_addresses": ipv6.to_string() })
}

impl Totals {
    /// `3 ranges added (768 addresses), none removed`.
    pub(super) fn words(&self) -> String {
        let of = |addresses: Addresses, what: &str| {
            (addresses.ranges > 0).then(|| {
                format!("{} {what} ({})", output::count(addresses.ranges, "range"), output::addresses(addresses))
            })
        };
        let parts =
            [of(self.added, "added"), of(self.removed, "removed"), of(self.changed, "with another end")].into_iter();
        let parts: Vec<String> = parts.flatten().collect();
        if parts.is_empty() { "no range differs".to_owned() } else { parts.join(", ") }
    }
}

/// Prints all differences, with `none` for people if there are none. Raw has a line
/// `CHANGE<TAB>LIST<TAB>FIRST<TAB>LAST<TAB>UNTIL BEFORE<TAB>UNTIL`, where a change of what a list does has no range.
pub(super) fn print(differences: &[ListDifference], format: Format, none: &str, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Human if differences.is_empty() => writeln!(out, "{none}"),
        Format::Human => differences.iter().try_for_each(|list| list.print_for_people(out)),
        Format::Raw => differences.iter().try_for_each(|list| print_raw(list, out)),
        Format::Json => output::json_array(out, differences.iter().map(ListDifference::json)),
    }
}

/// For programs.
fn word(Difference { before, after, .. }: &Difference) -> &'static str {
    match (before, after) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "until",
    }
}

fn print_raw(
    ListDifference { list, does, ranges, knows_ends }: &ListDifference,
    out: &mut dyn Write,
) -> io::Result<()> {
    if does.0 != does.1 {
        let text = |does: &Option<String>| does.as_deref().map_or("-".to_owned(), output::one_line);
        writeln!(out, "does\t{list}\t-\t-\t{}\t{}", text(&does.0), text(&does.1))?;
    }
    ranges.iter().try_for_each(|change| {
        let Difference { range, before, after } = change;
        let end =
            |until: &Option<Until>| until.filter(|_| *knows_ends).map_or("-".to_owned(), |until| until.to_string());
        writeln!(out, "{}\t{list}\t{}\t{}\t{}\t{}", word(change), range.first(), range.last(), end(before), end(after))
    })
}

/// What a list does, or will do if it does not exist yet.
pub(super) fn action_of(fold: Option<&Fold>, list: &ListName) -> ListAction {
    fold.and_then(|fold| fold.list(list)).map(|list| list.action().clone()).unwrap_or_default()
}
