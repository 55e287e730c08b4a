//! The preamble and the header of a snapshot.

use alloc::string::String;

use bincode::error::DecodeError;
use bincode::{Decode, Encode};

use crate::{OpenError, Settings};

/// The format version that this crate writes and reads.
pub const VERSION: u32 = 4;
/// The longest encoded header in bytes. The body of a refusal is part of it.
pub const MAX_HEADER_BYTES: usize = 65536;
/// The longest snapshot in bytes. A VM of Envoy has 1 GiB, and while it changes from one snapshot to the next it has to hold both,
/// and the second also as base64 if it came in JSON. A canary, which holds only one, must not accept what a worker cannot take.
pub const MAX_SNAPSHOT_BYTES: usize = 256 << 20;

pub(crate) const MAGIC: &[u8; 8] = b"EDGEFOLD";
pub(crate) const VERSION_OFFSET: usize = MAGIC.len();
pub(crate) const HEADER_LENGTH_OFFSET: usize = VERSION_OFFSET + size_of::<u32>();
pub(crate) const HEADER_OFFSET: usize = HEADER_LENGTH_OFFSET + size_of::<u32>();
pub(crate) const CHECKSUM_BYTES: usize = size_of::<u64>();

/// What a snapshot says about itself.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Header {
    /// The name of the list, which is the name of the ECDS resource that carries it.
    pub list: String,
    /// Which state of the log this is.
    pub generation: Generation,
    /// The latest moment that the state accounts for, by the log's own time: that of the last command, or that of the
    /// newest expiry applied. In milliseconds since 1970-01-01T00:00:00Z; 0 for an empty log.
    pub as_of: u64,
    /// IPv4 ranges in the table.
    pub ipv4_ranges: u32,
    /// IPv6 ranges in the table.
    pub ipv6_ranges: u32,
    /// What the filter does with requests and connections.
    pub settings: Settings,
}

/// Which state of which log a snapshot is. It is equal on every replica.
///
/// A filter refuses a snapshot of an earlier epoch, or of a lower offset in the same epoch, than the one that it serves.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub struct Generation {
    /// Whoever runs the snapshotter raises this to replace snapshots by others that would be older: those of an earlier moment,
    /// or of another log. Otherwise 0.
    pub epoch: u32,
    /// The snapshot is the fold of all commands below this offset.
    pub next_offset: u64,
    /// The newest expiry that was applied beyond the log's own time, in milliseconds since 1970-01-01T00:00:00Z.
    pub expiry: Option<u64>,
}

/// Little-endian, integers of variable length, and no header over [`MAX_HEADER_BYTES`].
pub(crate) fn configuration() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_HEADER_BYTES>()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Header, OpenError> {
    let (header, read) = bincode::decode_from_slice(bytes, configuration()).map_err(|error| {
        // The library's own messages name Rust types.
        OpenError::Header(match error {
            DecodeError::UnexpectedEnd { .. } => "it ends early",
            DecodeError::LimitExceeded => "a text or list in it claims to be longer than the whole header may be",
            DecodeError::UnexpectedVariant { .. } => "a field in it has a value that this version does not know",
            DecodeError::Utf8 { .. } => "a text in it is not UTF-8",
            DecodeError::Other(what) => what,
            _ => "a number in it is too large",
        })
    })?;
    if read != bytes.len() {
        return Err(OpenError::HeaderLength { stated: bytes.len(), read });
    }
    Ok(header)
}
