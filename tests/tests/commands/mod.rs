//! Commands that are appended as text, as any producer does, many at a time if need be.

use edgefold::{LogUrl, NewCommand, now};
use edgefold_tests::Edgefold;

/// Appends `commands`, and returns the offset after the last of them.
pub(crate) fn append(edgefold: &Edgefold, commands: impl IntoIterator<Item = impl Into<String>>) -> u64 {
    let log = edgefold.log().parse::<LogUrl>().unwrap().open().unwrap();
    let command = |text| NewCommand { time: now(), text };
    let commands: Vec<NewCommand> = commands.into_iter().map(Into::into).map(command).collect();
    log.append(&commands).unwrap().last().unwrap() + 1
}
