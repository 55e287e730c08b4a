//! The edgefold range table: a static set of IPv4 and IPv6 ranges in a byte slice.
//!
//! [`encode`] writes a table once, [`Table::open`] validates it once, and [`Table::contains`] then searches it where it
//! lies, without a copy, an allocation or a panic. A [`Snapshot`] is a table with a header and a checksum: what the
//! snapshotter ships and the filter opens. `docs/format.md` is the authority for the bytes.
//!
//! No IO, no clock; the same code runs native and as wasm. Without std, of which the panics alone would be a fifth of the
//! filter.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(not(test), deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]

extern crate alloc;

mod address;
mod bytes;
mod columns;
mod order;
mod quoted;
mod range;
mod section;
mod settings;
mod simd;
mod snapshot;
mod table;
mod v4;
mod v6;

pub use address::Address;
pub use quoted::Quoted;
pub use range::{AddressRange, IpRange, RangeError};
pub use settings::{
    ClientAddress, Freshness, Mode, NoAddress, OpenConnections, Refusal, Settings, SettingsError, WhenStale,
};
pub use snapshot::{
    BuildError, Fingerprint, Generation, Header, MAX_HEADER_BYTES, Snapshot, SnapshotError, TableBytes, VERSION,
};
pub use table::{EncodeError, Match, Table, TableError, encode};
