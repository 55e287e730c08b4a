//! `edgefold explain`

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use edgefold::{Cause, Event, IpRange, LogTime, What, explain, now};

use super::CliError;
use super::cache_args::CacheArgs;
use super::log_args::LogArgs;
use super::output::{self, Format, Styles};
use super::time_arg::moment;
use crate::answers::explained::{Explained, effects, lateness, word};
use crate::answers::refused::Extent;
use crate::answers::words;

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
            Format::Human => output::print_long(|out| print_for_people(&explained, out)),
            Format::Raw => output::print(|out| print_raw(&explained, out)),
            Format::Json => output::print(|out| writeln!(out, "{:#}", explained.json())),
        }?;
        Ok(if explained.extent == Extent::None { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

fn print_for_people(explained: &Explained, out: &mut dyn Write) -> io::Result<()> {
    let styles = Styles::of_stdout();
    let style = if explained.extent == Extent::None { styles.good } else { styles.bad };
    writeln!(out, "{style}{}{style:#}", explained.headline())?;
    let events = explained.history().events();
    if !events.is_empty() {
        writeln!(out)?;
    }
    let offset = |event: &Event| match &event.cause {
        Cause::Command(command) => command.offset.to_string(),
        Cause::End(_) => String::new(),
    };
    let width = events.iter().map(|event| offset(event).len()).max().unwrap_or(0);
    let did: Vec<String> = events.iter().map(effects).collect();
    // The few that are long do not move all others.
    let effect_width = did.iter().map(String::len).filter(|len| *len <= 32).max().unwrap_or(0);
    for (index, (event, did)) in events.iter().zip(&did).enumerate() {
        let counts = explained.counts(index);
        let (mark, style) = if counts { ("*", styles.strong) } else { (" ", styles.quiet) };
        let at = |time| format!("{mark} {:>width$}  {}", offset(event), words::time(time));
        match &event.cause {
            Cause::End(end) => writeln!(out, "{style}{}  {did}{style:#}", at(*end))?,
            Cause::Command(command) => {
                let text = words::one_line(&command.command.to_string());
                writeln!(out, "{style}{}  {did:<effect_width$}  {text}{style:#}", at(command.time))?;
                let did_something = event.effects.iter().any(|effect| effect.what != What::Nothing);
                if let Some(late) = lateness(command, did_something) {
                    writeln!(out, "  {:>width$}  {late}", "")?;
                }
            }
        }
    }
    print_past(explained, out)?;
    let undo = explained.undo();
    if !undo.is_empty() {
        writeln!(out)?;
    }
    undo.iter().try_for_each(|(what, text)| writeln!(out, "{what}:\n  {}{text}{:#}", styles.strong, styles.strong))
}

/// What differs by the times of the commands from what was enforced.
fn print_past(explained: &Explained, out: &mut dyn Write) -> io::Result<()> {
    let late = &explained.explanation.late;
    if let Some(words) = explained.dated_words() {
        writeln!(out, "\n{words}")?;
    }
    if !late.is_empty() {
        writeln!(out, "\nThese arrived later, with an earlier time. They were not enforced at that moment:")?;
    }
    for command in late {
        let received = command.received.map(words::time).unwrap_or_default();
        let text = words::one_line(&command.command.to_string());
        writeln!(out, "  {}  {}  received {received}  {text}", command.offset, words::time(command.time))?;
    }
    Ok(())
}

fn print_raw(explained: &Explained, out: &mut dyn Write) -> io::Result<()> {
    for (index, event) in explained.history().events().iter().enumerate() {
        let counts = if explained.counts(index) { "yes" } else { "no" };
        let (start, text) = match &event.cause {
            Cause::End(end) => (format!("-\t{end}\t-"), "-".to_owned()),
            Cause::Command(command) => {
                let received = command.received.map_or("-".to_owned(), |received| received.to_string());
                let text = words::one_line(&command.command.to_string());
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
