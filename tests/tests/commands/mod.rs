//! Commands that are appended as text, as any producer does, many at a time if need be.

#![allow(dead_code, reason = "not every test uses all of it")]

use edgefold::{LogUrl, NewCommand, now};
use edgefold_tests::Edgefold;

/// So many single addresses, none beside another, that their table takes more than 64 KiB.
pub(crate) const MANY: u32 = 30_000;

/// Commands about every third address of 20.0.0.0/8, from the place `from` on.
pub(crate) fn singles(verb: &str, from: u32, count: u32) -> impl Iterator<Item = String> {
    (from..from + count).map(move |place| format!("{verb} {}", std::net::Ipv4Addr::from((20 << 24) + 3 * place)))
}

/// A log with a list that is shipped as a base with an overlay.
pub(crate) fn large() -> Edgefold {
    let edgefold = Edgefold::sqlite();
    append(&edgefold, singles("BLACKLIST", 0, MANY));
    edgefold
}

/// Appends `commands`, and returns the offset after the last of them.
pub(crate) fn append(edgefold: &Edgefold, commands: impl IntoIterator<Item = impl Into<String>>) -> u64 {
    let log = edgefold.log().parse::<LogUrl>().unwrap().open().unwrap();
    let command = |text| NewCommand { time: now(), text };
    let commands: Vec<NewCommand> = commands.into_iter().map(Into::into).map(command).collect();
    log.append(&commands).unwrap().last().unwrap() + 1
}
