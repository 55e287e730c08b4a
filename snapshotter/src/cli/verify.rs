//! `edgefold verify`

use std::process::ExitCode;

use clap::Args;
use edgefold_table::IpRange;

use super::{CliError, output};
use crate::fold::Fold;
use crate::load::{Moment, read_view, replay};
use crate::log::Log;
use crate::record::Until;

/// Replay the commands beside the view of ranges; exits 0 if they agree, 1 if they do not, 2 on an error
#[derive(Args, Debug)]
pub(super) struct Verify {}

impl Verify {
    pub(super) fn run(&self, log: &dyn Log) -> Result<ExitCode, CliError> {
        log.check()?;
        let view = match read_view(log) {
            Ok(view) => view,
            Err(error) => {
                let error = error.of_the_view()?;
                return told(&format!("the view cannot be read: {error}"), false);
            }
        };
        let position = view.position();
        let replayed = replay(log, Moment::Offset(position.next_offset))?;
        if let Some(difference) = first_difference(&view, &replayed) {
            return told(
                &format!("the view differs from a replay to its offset {}: {difference}", position.next_offset),
                false,
            );
        }
        let count = view.ranges().count();
        told(
            &format!("the view is a replay of the commands below offset {}: {count} ranges", position.next_offset),
            true,
        )
    }
}

fn told(verdict: &str, good: bool) -> Result<ExitCode, CliError> {
    output::print(|out| {
        writeln!(out, "{verdict}")?;
        if good { Ok(()) } else { writeln!(out, "`edgefold rebuild` writes it anew from the commands") }
    })?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn first_difference(view: &Fold, replayed: &Fold) -> Option<String> {
    let words = |entry: Option<(IpRange, Until)>| match entry {
        Some((range, until)) => format!("{range} {}", output::until_words(until)),
        None => "no further range".to_owned(),
    };
    let (mut there, mut right) = (view.ranges(), replayed.ranges());
    loop {
        match (there.next(), right.next()) {
            (None, None) => break,
            (there, right) if there != right => {
                return Some(format!("it has {}, and the replay has {}", words(there), words(right)));
            }
            _ => {}
        }
    }
    let (there, right) = (view.position(), replayed.position());
    if there.next_offset != right.next_offset {
        // Records that are no commands, such as transaction markers, have offsets too.
        return None;
    }
    let differs = there.log_time != right.log_time;
    differs.then(|| format!("its log time is {}, and the replay's is {}", there.log_time, right.log_time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edits::Edits;
    use crate::record::Record;

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
            "it has 192.0.2.1 until 2026-11-23T01:00:00Z, and the replay has 192.0.2.1 for ever"
        );
        let short = fold(&["BLACKLIST 10.0.0.0/24", "WHITELIST 192.0.2.1"]);
        assert_eq!(
            first_difference(&short, &right).unwrap(),
            "it has no further range, and the replay has 192.0.2.1 for ever"
        );
    }
}
