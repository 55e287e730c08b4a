//! The edgefold snapshot: a [range table](edgefold_table) for each list, with a header and a checksum. The snapshotter writes it,
//! and the filter opens it. `docs/format.md` is the authority for the bytes.
//!
//! ```
//! use edgefold_snapshot::{Generation, NewSnapshot, Settings, Snapshot};
//!
//! let new = NewSnapshot {
//!     name: "edgefold",
//!     generation: Generation { epoch: 0, next_offset: 1, expiry: None },
//!     as_of: 1_473_694_320_000, // 2016-09-12T15:32:00Z
//!     settings: &Settings::default(),
//!     cut_at: 0,
//! };
//! let bytes = new.encode_default_list(["10.0.0.0/24".parse()?])?;
//!
//! let snapshot = Snapshot::open(bytes)?;
//! assert!(snapshot.contains(0, "10.0.0.7".parse()?));
//! assert_eq!(snapshot.header().settings.refusal.status, 403);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! There is no IO and no clock. The crate is `no_std`, like the table and for the same reason.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(not(test), deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]

extern crate alloc;

mod encode;
#[cfg(feature = "file")]
mod file;
mod fingerprint;
mod header;
mod layers;
mod list;
mod named;
mod near;
mod open;
mod quoted;
mod ruling;
mod settings;

pub use encode::{EncodeError, NewList, NewOverlayList, NewSnapshot, make_base, table_bytes};
#[cfg(feature = "file")]
pub use file::SnapshotFile;
pub use fingerprint::Fingerprint;
pub use header::{
    Generation, Header, ListHeader, ListsError, MAX_HEADER_BYTES, MAX_SETTINGS_BYTES, MAX_SNAPSHOT_BYTES, Overlay,
    OverlayList, Role, VERSION,
};
pub use layers::Layers;
pub use list::{ListAction, ListKind, ListName, ListNameError, MAX_NAMED_LISTS, Share, ShareError};
pub use named::Named;
pub use open::{OpenError, Snapshot, is_like_a_snapshot};
pub use quoted::Quoted;
pub use ruling::{ListSet, Ruling};
pub use settings::{
    ClientAddress, Freshness, Mode, NoAddress, OpenConnections, Refusal, Settings, SettingsError, TrustedProxies,
    WhenStale,
};
