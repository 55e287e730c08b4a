//! The preamble and the header of a snapshot.

use alloc::string::String;
use alloc::vec::Vec;

use bincode::error::DecodeError;
use bincode::{Decode, Encode};

use crate::{Fingerprint, ListAction, ListName, MAX_NAMED_LISTS, OpenError, Settings, SettingsError};

/// The format version that this crate writes and reads.
pub const VERSION: u32 = 6;
/// The longest encoded header in bytes: enough for the longest [`Settings`], and for as many lists as a log can have, each with a
/// refusal as long as a command.
pub const MAX_HEADER_BYTES: usize = 1 << 20;
/// The longest encoded settings and name in bytes. The body of a refusal is part of them.
pub const MAX_SETTINGS_BYTES: usize = 64 << 10;
/// The longest snapshot in bytes, and the longest JSON with one. A VM of Envoy has 1 GiB, and while it changes from one to the next
/// it has to hold both, wherever the holes in its memory are. A canary, which holds only one, must not accept what a worker cannot
/// take.
pub const MAX_SNAPSHOT_BYTES: usize = 256 << 20;

pub(crate) const MAGIC: &[u8; 8] = b"EDGEFOLD";
pub(crate) const VERSION_OFFSET: usize = MAGIC.len();
pub(crate) const HEADER_LENGTH_OFFSET: usize = VERSION_OFFSET + size_of::<u32>();
pub(crate) const HEADER_OFFSET: usize = HEADER_LENGTH_OFFSET + size_of::<u32>();
pub(crate) const CHECKSUM_BYTES: usize = size_of::<u64>();

/// What a snapshot says about itself.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Header {
    /// What the snapshot consists of.
    pub role: Role,
    /// The name of the filter, which is that of the ECDS resource that carries the snapshot.
    pub name: String,
    /// Which state of the log this is.
    pub generation: Generation,
    /// The latest moment that the state accounts for, by the log's own time: that of the last command, or that of the
    /// newest expiry applied. In milliseconds since 1970-01-01T00:00:00Z; 0 for an empty log.
    pub as_of: u64,
    /// What the filter does with requests and connections.
    pub settings: Settings,
    /// The lists, the default list first, and the others by name.
    pub lists: Vec<ListHeader>,
}

impl Header {
    /// The number of IPv4 and of IPv6 ranges in the tables of all lists.
    pub fn ranges(&self) -> (u64, u64) {
        let sum = |of: fn(&ListHeader) -> u32| self.lists.iter().map(|list| u64::from(of(list))).sum();
        (sum(|list| list.ipv4_ranges), sum(|list| list.ipv6_ranges))
    }
}

/// What a snapshot consists of.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub enum Role {
    /// All ranges of all lists.
    #[default]
    Whole,
    /// The same, to be kept for overlays over it. It has no effect without one.
    Base,
    /// What has changed since a base. The tables of the lists have the ranges that the base does not have.
    Overlay(Overlay),
}

impl Role {
    /// The encoded [`Role::Base`].
    pub(crate) const BASE: u8 = 1;

    /// Whether `snapshot` says that it is a base. Its other bytes may be anything.
    pub fn is_base(snapshot: &[u8]) -> bool {
        // The role is the first field of the header, and an enum is its number.
        snapshot.get(HEADER_OFFSET) == Some(&Self::BASE)
    }
}

/// What an overlay changes.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Overlay {
    /// The base that it is about.
    pub base: Fingerprint,
    /// What becomes of the ranges of the base, for each of [`Header::lists`]. Lists of the base that are not there are gone.
    pub lists: Vec<OverlayList>,
}

/// What becomes of the ranges that a base has on a list.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub struct OverlayList {
    /// Whether those that are not removed are still on the list. If not, the list has nothing to do with that of the base.
    pub extends_base: bool,
    /// IPv4 ranges of the base that are removed.
    pub ipv4_ranges: u32,
    /// IPv6 ranges of the base that are removed.
    pub ipv6_ranges: u32,
    /// The length in bytes of the table with them.
    pub table_bytes: u32,
}

/// What a snapshot says about one of its lists.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct ListHeader {
    /// The name of the list.
    pub name: ListName,
    /// What happens to clients on it.
    pub action: ListAction,
    /// IPv4 ranges in its table.
    pub ipv4_ranges: u32,
    /// IPv6 ranges in its table.
    pub ipv6_ranges: u32,
    /// The length of its table in bytes.
    pub table_bytes: u32,
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
            DecodeError::UnexpectedVariant { .. } | DecodeError::InvalidBooleanValue(_) => {
                "a field in it has a value that this version does not know"
            }
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

/// Checks that `lists` are those that a log can have, in their order.
pub(crate) fn check_lists(lists: &[ListHeader]) -> Result<(), ListsError> {
    let most = MAX_NAMED_LISTS + 1;
    if lists.len() > most {
        return Err(ListsError::TooMany { found: lists.len() });
    }
    if lists.first().is_none_or(|list| !list.name.is_default()) {
        return Err(ListsError::NoDefault);
    }
    let pairs = lists.iter().zip(lists.iter().skip(1));
    if let Some((_, next)) = pairs.into_iter().find(|(previous, next)| previous.name >= next.name) {
        return Err(ListsError::Order { name: next.name });
    }
    for list in lists {
        if let ListAction::Deny { refusal: Some(refusal), .. } = &list.action {
            refusal.check().map_err(|error| ListsError::Refusal { name: list.name, error })?;
        }
    }
    Ok(())
}

/// Checks that an overlay says something about each of `lists`.
pub(crate) fn check_role(role: &Role, lists: &[ListHeader]) -> Result<(), ListsError> {
    match role {
        Role::Overlay(overlay) if overlay.lists.len() != lists.len() => {
            Err(ListsError::Overlay { found: overlay.lists.len(), lists: lists.len() })
        }
        _ => Ok(()),
    }
}

/// Why lists are not those of a log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ListsError {
    /// More lists than a log can have.
    #[error("there are {found} lists, but at most {} are possible", MAX_NAMED_LISTS + 1)]
    TooMany {
        /// The number of lists.
        found: usize,
    },
    /// The first list is not the default list.
    #[error("the first list is not the default list")]
    NoDefault,
    /// A list that should come before the one before it, or is the same.
    #[error("list {name} is out of order, or comes twice")]
    Order {
        /// The list.
        name: ListName,
    },
    /// An overlay over other lists than it has.
    #[error("the overlay says what becomes of {found} lists of its base, but has {lists} lists")]
    Overlay {
        /// The number of lists that it says that of.
        found: usize,
        /// The number of lists.
        lists: usize,
    },
    /// A response that Envoy cannot send.
    #[error("the refusal of list {name} is invalid: {error}")]
    Refusal {
        /// The list.
        name: ListName,
        /// Why.
        error: SettingsError,
    },
}
