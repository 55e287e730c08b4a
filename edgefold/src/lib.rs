//! edgefold: an event-sourced IP blocklist.
//!
//! Operators and detectors append commands such as `BLACKLIST 10.0.0.0/24 ttl=4h` to a log, in Kafka or SQLite. The log is
//! kept forever and is the only source of truth. Everything else is derived from it: this crate folds it into blocked ranges, for
//! any application, as of now or of any earlier moment. (For Envoy, the `edgefold` binary ships the ranges to a filter.)
//!
//! # Follow a log
//!
//! A [`Blocklist`] follows a log on its own thread. Any thread can look addresses up in it, without waiting.
//!
//! ```
//! use edgefold::{Blocklist, LogUrl, Verdict};
//! # let directory = tempfile::tempdir()?;
//! # let sqlite = format!("sqlite:{}", directory.path().join("log.db").display());
//! # let ip = "10.0.0.7".parse()?;
//! # let serve = |_ip: std::net::IpAddr| {};
//!
//! let log: LogUrl = "kafka://broker:9092/edgefold".parse()?;
//! # let log: LogUrl = sqlite.parse()?; // The documentation's examples run without a broker.
//! # log.open()?.init()?;
//! let blocklist = Blocklist::follow(log.open()?)?; // returns once caught up; follows on its own thread
//! match blocklist.get(ip) {
//!     Verdict::Deny(on) => println!("{ip}: on list {} as {} until {}", on.list, on.block.range, on.block.until),
//!     _passes => serve(ip),
//! }
//! println!("at {}", blocklist.position());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/follow.rs` is a program that does this over either log, and `examples/web.rs` a web server that refuses blocked
//! clients.
//!
//! # The lower-level API
//!
//! - [`Fold`] is pure: it folds [`Record`]s into [`List`]s of [`Block`]s, and answers [`Fold::verdict`] and [`Fold::next_expiry`] for
//!   any time. [`Edits`] collect what changed. `docs/semantics.md` is the authority for what a [`Command`] means.
//! - [`Log`] is the trait of both logs: append commands, follow them, read and write the view. [`Follower`] bootstraps a fold
//!   from the view and follows; [`replay`] replays the commands to any [`Moment`], and [`Checkpoints`] make the next replay fast.
//! - [`view`] describes the records of the ranges topic, the cache that makes startup fast.
//!
//! # Features
//!
//! `kafka` and `sqlite` are on by default. Without `kafka`, neither librdkafka nor OpenSSL is built.

mod backoff;
mod blocklist;
mod checkpoints;
mod clock;
mod contact;
mod error;
mod explain;
mod follow;
mod log;
mod model;
mod replay;
pub mod view;

pub use backoff::Backoff;
pub use blocklist::{Blocklist, Status};
pub use checkpoints::{Checkpoints, Timeline};
pub use clock::{clocks, now};
pub use contact::{Contact, Now};
pub use edgefold_snapshot::{ListAction, ListKind, ListName, ListNameError, MAX_NAMED_LISTS, Refusal, Share};
pub use edgefold_table::{AddressRange, IpRange, ParseRangeError, RangeError, parse_address};
pub use error::{Appended, Error};
pub use explain::{Explanation, explain};
pub use follow::{Follower, FoundView};
#[cfg(feature = "kafka")]
pub use log::KafkaLog;
#[cfg(feature = "sqlite")]
pub use log::SqliteLog;
pub use log::{
    Batch, CommandReader, EachRecord, Log, LogUrl, NewCommand, Observed, Progress, Reading, UrlError, ViewReader,
    ViewRecord, ViewWriter,
};
pub use model::block::{Block, Until};
pub use model::command::{Action, Command, CommandError, GRAMMAR, MAX_COMMAND_BYTES, Term, parse_ttl};
pub use model::difference::{Difference, differences};
pub use model::edits::{Edits, ListEdits};
pub use model::fold::{Fold, Position, ResumeError};
pub use model::history::{AppendedCommand, Cause, Event, History, ListEffect, ManyLists, What};
pub use model::list::{List, SavedList};
pub use model::list_action::ListActionText;
pub use model::record::{Change, Effect, MAX_SKEW, Record, RecordHash, Reject};
pub use model::sync::{Step, SyncOptions, steps};
pub use model::time::{LogTime, TimeError};
pub use model::undo::{OnList, Undo, UndoPlan};
pub use model::verdict::{Listing, Verdict};
pub use replay::{Moment, each_command, replay};
