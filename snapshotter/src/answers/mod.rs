//! What is said about the lists, to people and to programs, no matter who asks: the command line, or a page.
//!
//! It knows no flags, no stdout and no environment, except for the time zone in which people read times (`TZ`).

pub(crate) mod difference;
pub(crate) mod explained;
pub(crate) mod guard;
pub(crate) mod refused;
pub(crate) mod rejects;
pub(crate) mod words;
