//! `edgefold explain`

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use edgefold::{
    Action, AppendedCommand, Cause, Event, Explanation, History, IpRange, List, ListAction, ListActionText, ListEffect,
    ListKind, ListName, LogTime, Share, Term, Verdict, What, explain, now,
};
use edgefold_snapshot::Named;
use serde_json::{Value, json};

use super::CliError;
use super::cache_args::CacheArgs;
use super::log_args::LogArgs;
use super::output::{self, Format, Styles};
use super::refused::{Extent, refused};
use super::time_arg::moment;

const EXAMPLES: &str = "\
Examples:
  edgefold explain 10.0.0.7
  edgefold explain 10.0.0.0/24 -o json
  edgefold explain 10.0.0.7 --at 2026-11-22T17:00:00Z
  edgefold explain 10.0.0.7 --at 2h

Each line is an offset, a time, what happened, and the command. * marks what decides about some of the range. A command counts from the \
moment at which the log receives it: with --at, a command that was received later is not part of what was enforced, even if it states an \
earlier time.

Exit status: 0 if no part of it is refused, 1 if any part is, 2 on an error, 64 for a usage error.";

/// How many commands to take back are suggested.
const MOST_UNDO: usize = 3;
/// How much later than its time a command is received before that is worth a line.
const LATE: Duration = Duration::from_secs(60);

/// Say why an address or a range is refused or not: every command that touched it, in order, and how to undo what counts
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ExplainArgs {
    /// An address, a CIDR block, or first-last
    #[arg(value_name = "RANGE")]
    range: IpRange,
    /// Explain what was enforced at this moment: RFC 3339, a date, or how long ago, as in 2h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<LogTime>,
    /// The output format; raw has a line OFFSET<TAB>TIME<TAB>RECEIVED<TAB>LIST<TAB>EFFECT<TAB>COUNTS<TAB>COMMAND for each list that an event
    /// concerns, where - stands for nothing, and COUNTS is yes or no
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    cache: CacheArgs,
}

impl ExplainArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let now = now();
        if let Some(at) = self.at.filter(|at| *at > now) {
            return Err(CliError::Usage(format!(
                "--at {at} has not come yet: `edgefold check {} --as-of {at}` says what will be refused then if no further command comes",
                self.range.shortest_text()
            )));
        }
        let log = self.log.open()?;
        // Checkpoints that are not kept cost more than this one explanation saves by them.
        let explanation = match self.cache.kept_checkpoints(&self.log) {
            Some(checkpoints) => checkpoints.explain(&*log, self.range, self.at, now),
            None => explain(&*log, self.range, self.at, now),
        };
        let explained = Explained::new(explanation?);
        match self.output {
            Format::Human => output::print_long(|out| explained.print_for_people(out)),
            Format::Raw => output::print(|out| explained.print_raw(out)),
            Format::Json => output::print(|out| writeln!(out, "{:#}", explained.json())),
        }?;
        Ok(if explained.extent == Extent::None { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// An explanation with what follows from it.
struct Explained {
    explanation: Explanation,
    extent: Extent,
    decided_by: Vec<usize>,
}

impl Explained {
    fn new(explanation: Explanation) -> Self {
        let Explanation { at, enforced, .. } = &explanation;
        let extent = refused(enforced.fold(), enforced.range(), *at);
        let decided_by = enforced.decided_by(*at);
        Self { explanation, extent, decided_by }
    }

    fn history(&self) -> &History {
        &self.explanation.enforced
    }

    /// Whether a moment in the past was asked for.
    fn is_past(&self) -> bool {
        self.explanation.dated.is_some()
    }

    /// Whether the event with this index counts.
    fn counts(&self, index: usize) -> bool {
        self.decided_by.binary_search(&index).is_ok()
    }

    fn print_for_people(&self, out: &mut dyn Write) -> io::Result<()> {
        let styles = Styles::of_stdout();
        let style = if self.extent == Extent::None { styles.good } else { styles.bad };
        writeln!(out, "{style}{}{style:#}", self.headline())?;
        let events = self.history().events();
        if !events.is_empty() {
            writeln!(out)?;
        }
        let offset = |event: &Event| match &event.cause {
            Cause::Command(command) => command.offset.to_string(),
            Cause::End(_) => String::new(),
        };
        let width = events.iter().map(|event| offset(event).len()).max().unwrap_or(0);
        let words: Vec<String> = events.iter().map(effects).collect();
        // The few that are long do not move all others.
        let effect_width = words.iter().map(String::len).filter(|len| *len <= 32).max().unwrap_or(0);
        for (index, (event, words)) in events.iter().zip(&words).enumerate() {
            let counts = self.counts(index);
            let (mark, style) = if counts { ("*", styles.strong) } else { (" ", styles.quiet) };
            let at = |time| format!("{mark} {:>width$}  {}", offset(event), output::time(time));
            match &event.cause {
                Cause::End(end) => writeln!(out, "{style}{}  {words}{style:#}", at(*end))?,
                Cause::Command(command) => {
                    let text = output::one_line(&command.command.to_string());
                    writeln!(out, "{style}{}  {words:<effect_width$}  {text}{style:#}", at(command.time))?;
                    let did_something = event.effects.iter().any(|effect| effect.what != What::Nothing);
                    if let Some(late) = lateness(command, did_something) {
                        writeln!(out, "  {:>width$}  {late}", "")?;
                    }
                }
            }
        }
        self.print_past(out)?;
        let undo = self.undo();
        if !undo.is_empty() {
            writeln!(out)?;
        }
        undo.iter().try_for_each(|(what, text)| writeln!(out, "{what}:\n  {}{text}{:#}", styles.strong, styles.strong))
    }

    /// What differs by the times of the commands from what was enforced.
    fn print_past(&self, out: &mut dyn Write) -> io::Result<()> {
        let Explanation { at, dated, late, .. } = &self.explanation;
        if let Some(dated) = dated {
            let extent = refused(dated.fold(), dated.range(), *at);
            if extent != self.extent {
                writeln!(
                    out,
                    "\nBy the times of the commands, as `--as-of` shows the log, {} {} then: what differs was received later, or dated back.",
                    dated.range().shortest_text(),
                    was(extent, true)
                )?;
            }
        }
        if !late.is_empty() {
            writeln!(out, "\nThese arrived later, with an earlier time. They were not enforced at that moment:")?;
        }
        for command in late {
            let received = command.received.map(output::time).unwrap_or_default();
            let text = output::one_line(&command.command.to_string());
            writeln!(out, "  {}  {}  received {received}  {text}", command.offset, output::time(command.time))?;
        }
        Ok(())
    }

    /// The verdict, in a sentence.
    fn headline(&self) -> String {
        let history = self.history();
        let Explanation { at, .. } = self.explanation;
        let range = history.range().shortest_text();
        let subject = if self.is_past() { format!("At {}, {range}", output::time(at)) } else { range };
        let is = was(self.extent, self.is_past());
        let until = |list: &ListName| {
            let list = history.fold().list(list)?;
            let block = list.find(history.range().first(), at)?;
            Some(output::until_words(block.until))
        };
        let on =
            |lists: &[edgefold::Listing]| lists.iter().map(|on| on.list.to_string()).collect::<Vec<_>>().join(", ");
        let by = self.by();
        match history.verdict(at) {
            _ if history.events().is_empty() && self.is_past() => {
                format!("{subject} {is}: no command about it had come")
            }
            _ if history.events().is_empty() => format!("{subject} {is}: no command is about it"),
            Some(Verdict::Deny(deny)) => {
                format!("{subject} {is} {}, on list {}{by}", until(&deny.list).unwrap_or_default(), deny.list)
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
                let lists: Vec<String> = self.refusing().map(|list| list.name().to_string()).collect();
                let lists = if let [one] = lists.as_slice() {
                    format!("list {one}")
                } else {
                    format!("lists {}", lists.join(", "))
                };
                format!("{subject} {is}, on {lists}{by}")
            }
            _ => match self.why_it_passes() {
                Some(why) => format!("{subject} {is}: {why}"),
                None => format!("{subject} {is}"),
            },
        }
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
            all => format!(", by {}", output::count(all.len() as u64, "command")),
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

    /// What to type to undo what counts, and what each is for.
    fn undo(&self) -> Vec<(String, String)> {
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
            let more = output::count((commands.len() - MOST_UNDO) as u64, "more command");
            undo.push((format!("And {more}, marked with * above"), "edgefold undo OFFSET --dry-run".to_owned()));
        }
        undo
    }

    fn print_raw(&self, out: &mut dyn Write) -> io::Result<()> {
        for (index, event) in self.history().events().iter().enumerate() {
            let counts = if self.counts(index) { "yes" } else { "no" };
            let (start, text) = match &event.cause {
                Cause::End(end) => (format!("-\t{end}\t-"), "-".to_owned()),
                Cause::Command(command) => {
                    let received = command.received.map_or("-".to_owned(), |received| received.to_string());
                    let text = output::one_line(&command.command.to_string());
                    (format!("{}\t{}\t{received}", command.offset, command.time), text)
                }
            };
            if event.effects.is_empty() {
                writeln!(out, "{start}\t-\tnothing\t{counts}\t{text}")?;
            }
            for effect in &event.effects {
                writeln!(out, "{start}\t{}\t{}\t{counts}\t{text}", effect.list, word(effect.what))?;
            }
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let Explanation { at, enforced, dated, late } = &self.explanation;
        let events: Vec<Value> =
            enforced.events().iter().enumerate().map(|(index, event)| self.event_json(index, event)).collect();
        let lists: Vec<Value> = enforced
            .fold()
            .lists()
            .iter()
            .filter(|list| list.blocks().any(|block| block.until.holds_at(*at)))
            .map(|list| {
                let blocks: Vec<Value> =
                    list.blocks().filter(|block| block.until.holds_at(*at)).map(output::block_json).collect();
                json!({ "list": list.name().as_str(), "does": ListActionText(list.action()).to_string(), "blocks": blocks })
            })
            .collect();
        let dated = dated.as_ref().map(|dated| {
            json!({
                "blocked": refused(dated.fold(), dated.range(), *at).word(),
                "verdict": dated.verdict(*at).as_ref().map(output::verdict_json),
            })
        });
        json!({
            "range": enforced.range().shortest_text(),
            "at": at.to_string(),
            "blocked": self.extent.word(),
            "verdict": enforced.verdict(*at).as_ref().map(output::verdict_json),
            "lists": lists,
            "events": events,
            "by_command_times": dated,
            "late": late.iter().map(command_json).collect::<Vec<_>>(),
            "undo": self.undo().into_iter().map(|(_, text)| text).collect::<Vec<_>>(),
        })
    }

    fn event_json(&self, index: usize, event: &Event) -> Value {
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
pub(super) fn command_json(command: &AppendedCommand) -> Value {
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
fn lateness(command: &AppendedCommand, did_something: bool) -> Option<String> {
    let (received, late) = received_late(command)?;
    let end = match command.command.action {
        Action::Blacklist { term: Term::Until(end), .. } => Some(end),
        Action::Blacklist { term: Term::Ttl(ttl), .. } => command.time.checked_add(ttl),
        _ => None,
    };
    let when = format!("received {}, {} after its time", output::time(received), output::duration(late));
    Some(match end.filter(|end| *end <= received) {
        Some(end) => format!("{when}, when it had ended already, at {}: it was never enforced", output::time(end)),
        None if did_something => format!("{when}: it was enforced from then on"),
        None => when,
    })
}

/// When a command was received, and how long after its time, if that is long.
pub(super) fn received_late(command: &AppendedCommand) -> Option<(LogTime, Duration)> {
    let received = command.received?;
    let late = Duration::from_millis(received.millis().saturating_sub(command.time.millis()));
    (late > LATE).then_some((received, late))
}

fn was(extent: Extent, is_past: bool) -> &'static str {
    match (extent, is_past) {
        (Extent::All, false) => "is blocked",
        (Extent::All, true) => "was blocked",
        (Extent::Some, false) => "is partly blocked",
        (Extent::Some, true) => "was partly blocked",
        (Extent::None, false) => "passes",
        (Extent::None, true) => "passed",
    }
}

/// For programs.
fn word(what: What) -> &'static str {
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
fn effects(event: &Event) -> String {
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
