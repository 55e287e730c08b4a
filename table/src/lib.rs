//! The edgefold range table: a static set of IPv4 and IPv6 ranges in a byte slice.
//!
//! [`encode`] writes a table once, [`Table::open`] validates it once, and [`Table::contains`] then searches it in place,
//! without a copy, an allocation or a panic. `docs/format.md` is the authority for the bytes.
//!
//! ```
//! use edgefold_table::{IpRange, Table, encode};
//!
//! let ranges: [IpRange; 2] = ["10.0.0.0/24".parse()?, "2001:db8::/32".parse()?];
//! let mut bytes = Vec::new();
//! encode(ranges, &mut bytes)?;
//!
//! let table = Table::open(bytes)?;
//! assert!(table.contains("10.0.0.7".parse()?));
//! assert_eq!(table.range("2001:db8::7".parse()?), Some(ranges[1]));
//! assert!(!table.contains("10.0.1.7".parse()?));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! There is no IO and no clock. The same code runs natively and as wasm; it is `no_std` because the standard library's
//! panics alone would be a fifth of the filter's module.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(not(test), deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]

extern crate alloc;

mod address;
mod bytes;
mod columns;
mod order;
mod parse;
mod range;
mod section;
mod shorten;
mod simd;
mod table;
mod v4;
mod v6;

pub use address::Address;
pub use ipnet::IpNet;
pub use parse::{ParseRangeError, parse_address};
pub use range::{AddressRange, IPV4_MAPPED, IpRange, RangeError};
pub use shorten::shorten;
pub use table::{EncodeError, Table, TableError, encode};
