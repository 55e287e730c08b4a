//! `edgefold undo`

use std::process::ExitCode;

use clap::Args;
use edgefold::{ListName, OnList, Undo, UndoPlan, each_command, now};

use super::append::{APPENDS, AppendArgs};
use super::log_args::LogArgs;
use super::output::Format;
use super::{CliError, output};
use crate::answers::words;

const EXAMPLES: &str = "\
Examples:
  edgefold undo 1042 --dry-run
  edgefold undo 1042 --reason \"wrong feed\"

What later commands are about stays as it is. `edgefold log` and `edgefold explain` print offsets.
";

/// How many ranges of a kind are named.
const MOST_NAMED: usize = 5;

/// Take back what one command did: append what restores the state before it, for the addresses that only it decided
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n{APPENDS}"))]
pub(super) struct UndoArgs {
    /// The offset of the command
    #[arg(value_name = "OFFSET", value_parser = offset)]
    offset: u64,
    #[command(flatten)]
    append: AppendArgs,
    #[command(flatten)]
    log: LogArgs,
}

fn offset(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "an offset is a number: `edgefold log` prints them".to_owned())
}

impl UndoArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let (time, log) = (self.append.time()?, self.log.open()?);
        let mut undo = Undo::new(self.offset);
        each_command(&*log, |record| {
            undo.apply(record);
            true
        })?;
        match undo.has_come() {
            Ok(true) => {}
            Ok(false) => return Err(CliError::NoCommand { offset: self.offset }),
            Err(reject) => return Err(CliError::Rejected { offset: self.offset, reject }),
        }
        let plan = undo.plan(now());
        say_what_stays(&plan);
        if plan.actions.is_empty() {
            output::say("nothing was appended: there is nothing to restore");
            if self.append.output == Format::Json {
                output::print(|out| writeln!(out, "[]"))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let before = self.append.state(&*log, &ListName::DEFAULT)?;
        self.append.append(&*log, before.as_ref(), &plan.actions, time)
    }
}

/// Says what cannot be restored, and why.
fn say_what_stays(plan: &UndoPlan) {
    let later: Vec<String> = plan.later.iter().map(u64::to_string).collect();
    let more = if later.len() == UndoPlan::MOST_LATER { " and others" } else { "" };
    let later = format!("later commands are about that: offset {}{more}", later.join(", "));
    if !plan.decided_later.is_empty() {
        output::say(&format!("not restored: {}; {later}", named(&plan.decided_later)));
    }
    for list in &plan.action_later {
        output::say(&format!("not restored: what list {list} does; {later}"));
    }
    if !plan.ended.is_empty() {
        output::say(&format!("not restored: {}; that has ended meanwhile", named(&plan.ended)));
    }
}

fn named(ranges: &[OnList]) -> String {
    let names = ranges.iter().take(MOST_NAMED).map(|OnList { list, range }| {
        let range = range.shortest_text();
        if list.is_default() { range } else { format!("{range} on list {list}") }
    });
    let names = names.collect::<Vec<_>>().join(", ");
    match ranges.len().saturating_sub(MOST_NAMED) {
        0 => names,
        more => format!("{names} and {}", words::count(more as u64, "more range")),
    }
}
