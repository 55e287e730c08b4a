//! What a log of commands means. Pure: no IO, no clock, no threads.
//!
//! [`command`] is the grammar, and [`record`] reads a record of the log. [`fold`] applies what it says to [`list`]s, each of which is
//! its [`blocks`] and what it does. [`edits`] collect what changed, and [`verdict`] is what all lists say about an address.
//! [`difference`] compares lists, [`sync`] brings one in step with another, [`history`] says what each command did to a
//! range, and [`undo`] takes one back.

pub(crate) mod attributes;
pub(crate) mod block;
pub(crate) mod blocks;
pub(crate) mod command;
pub(crate) mod difference;
pub(crate) mod edits;
pub(crate) mod fold;
pub(crate) mod history;
pub(crate) mod list;
pub(crate) mod list_action;
pub(crate) mod record;
pub(crate) mod sync;
pub(crate) mod time;
pub(crate) mod undo;
pub(crate) mod verdict;
