//! What differs between two states of the lists.

use edgefold::{
    Action, Difference, Edits, Effect, Fold, List, ListAction, ListActionText, ListName, LogTime, Until, differences,
};
use serde_json::{Value, json};

use super::words::{self, addresses_json};
use crate::addresses::Addresses;

/// What differs in one list.
#[derive(Debug)]
pub(crate) struct ListDifference {
    pub(crate) list: ListName,
    /// What the list does before and after; `None` if it does not exist, or if one of the two is not known.
    pub(crate) does: (Option<String>, Option<String>),
    pub(crate) ranges: Vec<Difference>,
    /// Whether both sides know when ranges end. Otherwise the ends in `ranges` say nothing.
    pub(crate) knows_ends: bool,
}

/// What both sides know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// When ranges end.
    pub(crate) ends: bool,
    /// What lists do.
    pub(crate) actions: bool,
}

impl Known {
    pub(crate) const ALL: Self = Self { ends: true, actions: true };
}

/// How many addresses came, went, or have another end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) added: Addresses,
    pub(crate) removed: Addresses,
    pub(crate) changed: Addresses,
}

/// What differs between two folds, each at its own time, for the lists that `wanted` chooses.
pub(crate) fn between_folds(
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
pub(crate) fn after(before: &Fold, actions: &[Action], time: LogTime) -> Fold {
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

    pub(crate) fn totals(&self) -> Totals {
        let of = |wanted: fn(&Difference) -> bool| {
            Addresses::of(self.ranges.iter().filter(|change| wanted(change)).map(|change| change.range))
        };
        Totals {
            added: of(|change| change.before.is_none()),
            removed: of(|change| change.after.is_none()),
            changed: of(|change| change.before.is_some() && change.after.is_some()),
        }
    }

    /// For programs: what the list did and does, how much differs, and each range.
    pub(crate) fn json(&self) -> Value {
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

impl Totals {
    /// `3 ranges added (768 addresses), none removed`.
    pub(crate) fn words(&self) -> String {
        let of = |addresses: Addresses, what: &str| {
            (addresses.ranges > 0).then(|| {
                format!("{} {what} ({})", words::count(addresses.ranges, "range"), words::addresses(addresses))
            })
        };
        let parts =
            [of(self.added, "added"), of(self.removed, "removed"), of(self.changed, "with another end")].into_iter();
        let parts: Vec<String> = parts.flatten().collect();
        if parts.is_empty() { "no range differs".to_owned() } else { parts.join(", ") }
    }
}

/// How a range differs, for programs.
pub(crate) fn word(Difference { before, after, .. }: &Difference) -> &'static str {
    match (before, after) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "until",
    }
}

/// What a list does, or will do if it does not exist yet.
pub(crate) fn action_of(fold: Option<&Fold>, list: &ListName) -> ListAction {
    fold.and_then(|fold| fold.list(list)).map(|list| list.action().clone()).unwrap_or_default()
}
