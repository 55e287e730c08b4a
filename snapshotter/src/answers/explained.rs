//! Why a range is refused or not: the verdict in a sentence, the commands that count, and how to undo them.

use std::time::Duration;

use edgefold::{
    Action, AppendedCommand, Cause, Event, Explanation, History, List, ListAction, ListActionText, ListEffect,
    ListKind, ListName, LogTime, Share, Term, Until, Verdict, What,
};
use edgefold_snapshot::Named;
use serde_json::{Value, json};

use super::refused::{Extent, refused};
use super::words;

/// How many commands to take back are suggested.
const MOST_UNDO: usize = 3;
/// How much later than its time a command is received before that is worth a line.
const LATE: Duration = Duration::from_secs(60);

/// An explanation with what follows from it.
pub(crate) struct Explained {
    pub(crate) explanation: Explanation,
    /// How much of the range is refused.
    pub(crate) extent: Extent,
    /// The indexes of the events that count.
    decided_by: Vec<usize>,
}

impl Explained {
    pub(crate) fn new(explanation: Explanation) -> Self {
        let Explanation { at, enforced, .. } = &explanation;
        let extent = refused(enforced.fold(), enforced.range(), *at);
        let decided_by = enforced.decided_by(*at);
        Self { explanation, extent, decided_by }
    }

    /// What was enforced.
    pub(crate) fn history(&self) -> &History {
        &self.explanation.enforced
    }

    /// Whether a moment in the past was asked for.
    pub(crate) fn is_past(&self) -> bool {
        self.explanation.dated.is_some()
    }

    /// Whether the event with this index counts.
    pub(crate) fn counts(&self, index: usize) -> bool {
        self.decided_by.binary_search(&index).is_ok()
    }

    /// The verdict, in a sentence.
    pub(crate) fn headline(&self) -> String {
        let history = self.history();
        let Explanation { at, .. } = self.explanation;
        let range = history.range().shortest_text();
        let subject = if self.is_past() { format!("At {}, {range}", words::time(at)) } else { range };
        let is = was(self.extent, self.is_past());
        let on =
            |lists: &[edgefold::Listing]| lists.iter().map(|on| on.list.to_string()).collect::<Vec<_>>().join(", ");
        let by = self.by();
        match history.verdict(at) {
            _ if history.events().is_empty() && self.is_past() => {
                format!("{subject} {is}: no command about it had come")
            }
            _ if history.events().is_empty() => format!("{subject} {is}: no command is about it"),
            Some(Verdict::Deny(deny)) => {
                let (until, lists) = self.until_and_lists(deny.list);
                format!("{subject} {is} {until}, on {lists}{by}")
            }
            Some(Verdict::Exempt(exempt)) => format!("{subject} {is}: list {} exempts it{by}", exempt.list),
            Some(Verdict::Mark { shadow, tag }) if !tag.is_empty() && !shadow.is_empty() => {
                format!("{subject} {is}; it is reported by {} and tagged with {}", on(&shadow), on(&tag))
            }
            Some(Verdict::Mark { shadow, .. }) if !shadow.is_empty() => {
                format!("{subject} {is}; it is reported by {}", on(&shadow))
            }
            Some(Verdict::Mark { tag, .. }) => format!("{subject} {is}; it is tagged with {}", on(&tag)),
            None if self.extent != Extent::None => {
                format!("{subject} {is}, on {}{by}", in_words(self.refusing().map(List::name)))
            }
            _ => match self.why_it_passes() {
                Some(why) => format!("{subject} {is}: {why}"),
                None => format!("{subject} {is}"),
            },
        }
    }

    /// Until when an address is refused, by whichever list does so for longest, and by which lists. `first` is the one that decides.
    fn until_and_lists(&self, first: ListName) -> (String, String) {
        let (at, ip) = (self.explanation.at, self.history().range().first());
        let mut refusing: Vec<(ListName, Until)> = self
            .refusing()
            .filter(|list| list.action().applies_to(ip))
            .filter_map(|list| Some((list.name(), list.find(ip, at)?.until)))
            .collect();
        refusing.sort_by_key(|(name, _)| *name != first);
        let until = refusing.iter().map(|(_, until)| *until).max().map(words::until_words).unwrap_or_default();
        let decides = if refusing.len() > 1 { format!("; {first} decides") } else { String::new() };
        (until, in_words(refusing.into_iter().map(|(name, _)| name)) + &decides)
    }

    /// Why an address that is on a list passes.
    fn why_it_passes(&self) -> Option<String> {
        let at = self.explanation.at;
        let ip = self.history().verdict(at).map(|_| self.history().range().first())?;
        let mut on = self.history().fold().lists().iter().filter(|list| list.find(ip, at).is_some());
        on.find_map(|list| match list.action() {
            ListAction::Exempt => Some(format!("list {} exempts it", list.name())),
            ListAction::Deny { share, .. } => {
                Some(format!("list {} refuses {share} of the clients, and it is not among them", list.name()))
            }
            ListAction::Shadow | ListAction::Tag => None,
        })
    }

    /// The commands that put it where it is: `, by the command at offset 17`.
    fn by(&self) -> String {
        let put = |effect: &ListEffect| matches!(effect.what, What::Put | What::Extended);
        let offsets: Vec<String> = self.deciding(put).map(|command| command.offset.to_string()).collect();
        match offsets.as_slice() {
            [] => String::new(),
            [one] => format!(", by the command at offset {one}"),
            [all @ .., last] if all.len() < 5 => format!(", by the commands at offsets {} and {last}", all.join(", ")),
            all => format!(", by {}", words::count(all.len() as u64, "command")),
        }
    }

    /// The commands among the events that count, with an effect that is `wanted`.
    fn deciding(&self, wanted: impl Fn(&ListEffect) -> bool) -> impl Iterator<Item = &AppendedCommand> {
        let events = self.decided_by.iter().map(|index| &self.history().events()[*index]);
        let wanted = events.filter(move |event| event.effects.iter().any(&wanted));
        wanted.filter_map(|event| if let Cause::Command(command) = &event.cause { Some(&**command) } else { None })
    }

    /// The lists that refuse some of the range, if nothing else exempts it.
    fn refusing(&self) -> impl Iterator<Item = &List> {
        let at = self.explanation.at;
        let lists = self.history().fold().lists().iter();
        lists.filter(move |list| {
            matches!(list.action(), ListAction::Deny { share, .. } if *share != Share::NONE)
                && list.ranges_at(at).next().is_some()
        })
    }

    /// What the times of the commands say, if it differs from what was enforced.
    pub(crate) fn dated_words(&self) -> Option<String> {
        let Explanation { at, dated, .. } = &self.explanation;
        let dated = dated.as_ref()?;
        let extent = refused(dated.fold(), dated.range(), *at);
        (extent != self.extent).then(|| {
            let (range, was) = (dated.range().shortest_text(), was(extent, true));
            format!("By the times of the commands, {range} {was} then: what differs was received later, or dated back.")
        })
    }

    /// What to type to undo what counts, and what each is for.
    pub(crate) fn undo(&self) -> Vec<(String, String)> {
        let (history, at) = (self.history(), self.explanation.at);
        let range = history.range().shortest_text();
        let of = |list: ListName| if list.is_default() { String::new() } else { format!(" --list {list}") };
        let mut undo = Vec::new();
        if self.is_past() {
            return undo;
        }
        if self.extent != Extent::None {
            let mut what = format!("To let {range} pass");
            for list in self.refusing() {
                undo.push((what, format!("edgefold allow {range}{}", of(list.name()))));
                what = "and".to_owned();
            }
            let text = format!("edgefold add {range} --list NAME");
            undo.push(("For an exception that lasts, where the action of list NAME is exempt".to_owned(), text));
        }
        for list in history.fold().lists().iter().filter(|list| list.ranges_at(at).next().is_some()) {
            let what = match list.action().kind() {
                ListKind::Deny => continue,
                ListKind::Exempt => format!("To end the exemption of {range}"),
                ListKind::Shadow | ListKind::Tag => format!("To take {range} off list {}", list.name()),
            };
            undo.push((what, format!("edgefold remove {range} --list {}", list.name())));
        }
        let commands: Vec<&AppendedCommand> =
            self.deciding(|effect| !matches!(effect.what, What::Does | What::Ended)).collect();
        for command in commands.iter().take(MOST_UNDO) {
            let what =
                format!("To undo command {} (only for addresses that no later command is about)", command.offset);
            undo.push((what, format!("edgefold undo {} --dry-run", command.offset)));
        }
        if commands.len() > MOST_UNDO {
            let more = words::count((commands.len() - MOST_UNDO) as u64, "more command");
            undo.push((format!("And {more}, marked with * above"), "edgefold undo OFFSET --dry-run".to_owned()));
        }
        undo
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let Explanation { at, enforced, dated, late, .. } = &self.explanation;
        let events: Vec<Value> =
            enforced.events().iter().enumerate().map(|(index, event)| self.event_json(index, event)).collect();
        let lists: Vec<Value> = enforced
            .fold()
            .lists()
            .iter()
            .filter(|list| list.blocks().any(|block| block.until.holds_at(*at)))
            .map(|list| {
                let blocks: Vec<Value> =
                    list.blocks().filter(|block| block.until.holds_at(*at)).map(words::block_json).collect();
                json!({ "list": list.name().as_str(), "does": ListActionText(list.action()).to_string(), "blocks": blocks })
            })
            .collect();
        let dated = dated.as_ref().map(|dated| {
            json!({
                "blocked": refused(dated.fold(), dated.range(), *at).word(),
                "verdict": dated.verdict(*at).as_ref().map(words::verdict_json),
            })
        });
        json!({
            "range": enforced.range().shortest_text(),
            "at": at.to_string(),
            "blocked": self.extent.word(),
            "verdict": enforced.verdict(*at).as_ref().map(words::verdict_json),
            "lists": lists,
            "events": events,
            "by_command_times": dated,
            "late": late.iter().map(command_json).collect::<Vec<_>>(),
            "undo": self.undo().into_iter().map(|(_, text)| text).collect::<Vec<_>>(),
        })
    }

    pub(crate) fn event_json(&self, index: usize, event: &Event) -> Value {
        let mut json = match &event.cause {
            Cause::Command(command) => command_json(command),
            Cause::End(end) => json!({ "offset": null, "time": end.to_string() }),
        };
        let effects = event.effects.iter().map(|effect| {
            json!({ "list": effect.list.as_str(), "action": effect.kind.name(), "effect": word(effect.what), "whole": effect.is_whole })
        });
        json["effects"] = effects.collect();
        json["counts"] = self.counts(index).into();
        json
    }
}

/// `offset`, `time`, `received`, `text`, `origin` and `reason`.
pub(crate) fn command_json(command: &AppendedCommand) -> Value {
    json!({
        "offset": command.offset,
        "time": command.time.to_string(),
        "received": command.received.map(|received| received.to_string()),
        "text": command.command.to_string(),
        "origin": command.command.origin,
        "reason": command.command.reason,
    })
}

/// What it means that a command was received long after its time, if it was.
pub(crate) fn lateness(command: &AppendedCommand, did_something: bool) -> Option<String> {
    let (received, late) = received_late(command)?;
    let end = match command.command.action {
        Action::Blacklist { term: Term::Until(end), .. } => Some(end),
        Action::Blacklist { term: Term::Ttl(ttl), .. } => command.time.checked_add(ttl),
        _ => None,
    };
    let when = format!("received {}, {} after its time", words::time(received), words::duration(late));
    Some(match end.filter(|end| *end <= received) {
        Some(end) => format!("{when}, when it had ended already, at {}: it was never enforced", words::time(end)),
        None if did_something => format!("{when}: it was enforced from then on"),
        None => when,
    })
}

/// When a command was received, and how long after its time, if that is long.
pub(crate) fn received_late(command: &AppendedCommand) -> Option<(LogTime, Duration)> {
    let received = command.received?;
    let late = Duration::from_millis(received.millis().saturating_sub(command.time.millis()));
    (late > LATE).then_some((received, late))
}

/// How much of a range is refused, for people.
pub(crate) fn was(extent: Extent, is_past: bool) -> &'static str {
    match (extent, is_past) {
        (Extent::All, false) => "is blocked",
        (Extent::All, true) => "was blocked",
        (Extent::Some, false) => "is partly blocked",
        (Extent::Some, true) => "was partly blocked",
        (Extent::None, false) => "passes",
        (Extent::None, true) => "passed",
    }
}

/// An effect, for programs.
pub(crate) fn word(what: What) -> &'static str {
    match what {
        What::Put => "put",
        What::Extended => "extended",
        What::Taken => "taken",
        What::Ended => "ended",
        What::Does => "does",
        What::Nothing => "nothing",
    }
}

/// What an event did, for people.
pub(crate) fn effects(event: &Event) -> String {
    if event.effects.is_empty() {
        return "no effect".to_owned();
    }
    event.effects.iter().map(effect).collect::<Vec<_>>().join(", ")
}

fn effect(ListEffect { list, kind, what, is_whole, .. }: &ListEffect) -> String {
    let words = match (what, kind) {
        (What::Put, ListKind::Deny) => "blocked",
        (What::Put, ListKind::Exempt) => "exempted",
        (What::Put, ListKind::Shadow | ListKind::Tag) => "listed",
        (What::Extended, _) => "extended",
        (What::Taken, ListKind::Deny) => "freed",
        (What::Taken, ListKind::Exempt) => "no longer exempt",
        (What::Taken, ListKind::Shadow | ListKind::Tag) => "taken off",
        (What::Ended, _) => "expired",
        (What::Does, _) => "list changed",
        (What::Nothing, _) => "no effect",
    };
    let part = if *is_whole { "" } else { " in part" };
    let on = if list.is_default() || matches!(what, What::Does | What::Nothing) {
        String::new()
    } else {
        format!(" (list {list})")
    };
    format!("{words}{part}{on}")
}

/// `list a`, or `lists a, b`.
fn in_words(lists: impl Iterator<Item = ListName>) -> String {
    let lists: Vec<String> = lists.map(|list| list.to_string()).collect();
    format!("{} {}", if lists.len() == 1 { "list" } else { "lists" }, lists.join(", "))
}
