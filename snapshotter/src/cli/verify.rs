//! `edgefold verify`

use std::process::ExitCode;

use clap::Args;
use edgefold::view::{ViewContent, ViewError, watch_view};
use edgefold::{Block, Error, Fold, List, ListActionText, ListName, Moment, replay};
use serde_json::json;

use super::CliError;
use super::log_args::LogArgs;
use super::output::{self, Format};
use crate::answers::words;

const HELP: &str = "\
The view is a cache of the folded ranges that makes startup fast. `edgefold rebuild` rewrites it.

Exit status: 0 if the view is right, 1 if it is not, 2 on an error.";

/// Replay the commands, and compare the result with the view of ranges
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(super) struct VerifyArgs {
    /// The output format; raw is yes or no<TAB>WHAT, and says whether the view is right
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    log: LogArgs,
}

impl VerifyArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let log = self.log.open()?;
        log.check()?;
        let mut content = ViewContent::default();
        let read = watch_view(&*log, |key, value| content.read(key, value)).map(drop);
        let (view, stated_hash) = match read.and_then(|()| Ok(content.into_unproved_fold()?)) {
            Ok(view) => view,
            Err(error @ Error::View(ViewError::Newer { .. })) => return Err(error.into()),
            Err(error) if error.is_unusable_view() => {
                return self.report(&format!("the view cannot be read: {error}"), false);
            }
            Err(error) => return Err(error.into()),
        };
        let offset = view.position().next_offset;
        let replayed = match replay(&*log, Moment::Offset(offset)) {
            Ok(replayed) => replayed,
            Err(Error::NotYet { end, .. }) => {
                let what = format!(
                    "the view is at offset {offset}, and the commands end at offset {end}: it is of another log"
                );
                return self.report(&what, false);
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(difference) = first_difference(&view, &replayed) {
            return self.report(&format!("the view differs from a replay to its offset {offset}: {difference}"), false);
        }
        if view.hash() != stated_hash {
            return self.report("the view is right, but states a wrong hash of its ranges", false);
        }
        let count = words::count(view.lists().iter().map(List::len).sum::<u64>(), "range");
        let end = log.commands(view.position())?.end();
        let behind = match end.saturating_sub(offset) {
            0 => String::new(),
            behind => format!(" (the log ends at offset {end}: {behind} are not in it yet)"),
        };
        self.report(&format!("the view is a replay of the commands below offset {offset}: {count}{behind}"), true)
    }
}

impl VerifyArgs {
    fn report(&self, verdict: &str, is_right: bool) -> Result<ExitCode, CliError> {
        output::print(|out| match self.output {
            Format::Human if is_right => writeln!(out, "{verdict}"),
            Format::Human => writeln!(out, "{verdict}\n`edgefold rebuild` rewrites it from the commands"),
            Format::Raw => writeln!(out, "{}\t{}", if is_right { "yes" } else { "no" }, words::one_line(verdict)),
            Format::Json => writeln!(out, "{}", json!({ "is_right": is_right, "what": verdict })),
        })?;
        Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

fn first_difference(view: &Fold, replayed: &Fold) -> Option<String> {
    let names = |fold: &Fold| fold.lists().iter().map(|list| list.name()).collect::<Vec<_>>();
    let shown = |names: Vec<ListName>| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if names(view) != names(replayed) {
        let (found, right) = (shown(names(view)), shown(names(replayed)));
        return Some(format!("it has the lists {found}, and the replay has {right}"));
    }
    let lists = view.lists().iter().zip(replayed.lists());
    if let Some(difference) = lists.filter_map(|(found, right)| difference_of_lists(found, right)).next() {
        return Some(difference);
    }
    let (found, right) = (view.position(), replayed.position());
    if found.last_record.is_some() && found.last_record != right.last_record {
        return Some("the last command before that is another one: the view is of another log".to_owned());
    }
    if found.next_offset != right.next_offset {
        // Records that are not commands, such as transaction markers, have offsets too.
        return None;
    }
    let differs = found.log_time != right.log_time;
    differs.then(|| format!("its log time is {}, and the replay's is {}", found.log_time, right.log_time))
}

fn difference_of_lists(found: &List, right: &List) -> Option<String> {
    let on = if found.name().is_default() { String::new() } else { format!("on list {}, ", found.name()) };
    if found.stated_action() != right.stated_action() {
        let words = |list: &List| match list.stated_action() {
            Some(action) => ListActionText(action).to_string(),
            None => "no action".to_owned(),
        };
        return Some(format!("{on}it has {}, and the replay has {}", words(found), words(right)));
    }
    let words = |block: Option<Block>| match block {
        Some(block) => format!("{} {}", block.range, words::until_words(block.until)),
        None => "no further range".to_owned(),
    };
    let (mut found, mut right) = (found.blocks(), right.blocks());
    loop {
        match (found.next(), right.next()) {
            (None, None) => return None,
            (found, right) if found != right => {
                return Some(format!("{on}it has {}, and the replay has {}", words(found), words(right)));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use edgefold::{Edits, Record};

    use super::*;

    fn fold(commands: &[&str]) -> Fold {
        let mut fold = Fold::default();
        for (offset, text) in (0..).zip(commands) {
            let key = Some(b"2026-11-23T00:00:00Z".to_vec());
            let record = Record { offset, timestamp: None, key, value: Some((*text).into()) };
            fold.apply(&record, &mut Edits::default()).unwrap();
        }
        fold
    }

    #[test]
    fn the_first_difference_is_named() {
        let right = fold(&["BLACKLIST 10.0.0.0/24", "BLACKLIST 192.0.2.1"]);
        assert_eq!(first_difference(&right, &right), None);
        let wrong = fold(&["BLACKLIST 10.0.0.0/24", "BLACKLIST 192.0.2.1 ttl=1h"]);
        assert_eq!(
            first_difference(&wrong, &right).unwrap(),
            "it has 192.0.2.1 until 2026-11-23T01:00:00Z, and the replay has 192.0.2.1 forever"
        );
        let listed = |text| fold(&["BLACKLIST 10.0.0.0/24", text]);
        assert_eq!(
            first_difference(&listed("ADD 192.0.2.1 list=a"), &listed("ADD 192.0.2.1 list=b")).unwrap(),
            "it has the lists default, a, and the replay has default, b"
        );
        assert_eq!(
            first_difference(&listed("ADD 192.0.2.1 list=a"), &listed("ADD 192.0.2.2 list=a")).unwrap(),
            "on list a, it has 192.0.2.1 forever, and the replay has 192.0.2.2 forever"
        );
        assert_eq!(
            first_difference(&listed("LIST a action=tag"), &listed("LIST a action=deny share=5%")).unwrap(),
            "on list a, it has action=tag, and the replay has action=deny share=5%"
        );
        let short = fold(&["BLACKLIST 10.0.0.0/24", "WHITELIST 192.0.2.1"]);
        assert_eq!(
            first_difference(&short, &right).unwrap(),
            "it has no further range, and the replay has 192.0.2.1 forever"
        );
    }
}
