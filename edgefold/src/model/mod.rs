//! What a log of commands means. Pure: no IO, no clock, no threads.
//!
//! [`command`] is the grammar, [`record`] reads a record of the log, and [`fold`] applies what it says to [`blocks`].
//! [`edits`] collects what changed.

pub(crate) mod block;
pub(crate) mod blocks;
pub(crate) mod command;
pub(crate) mod edits;
pub(crate) mod fold;
pub(crate) mod record;
pub(crate) mod time;
