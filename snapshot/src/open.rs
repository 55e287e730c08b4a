//! Opening a snapshot: everything is checked before anything is looked up.

use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::Range;

use edgefold_table::{Table, TableError};
use xxhash_rust::xxh3::xxh3_64;

use crate::fingerprint::Fingerprint;
use crate::header::{
    self, CHECKSUM_BYTES, HEADER_LENGTH_OFFSET, HEADER_OFFSET, Header, ListsError, MAGIC, MAX_HEADER_BYTES,
    MAX_SNAPSHOT_BYTES, VERSION, VERSION_OFFSET,
};
use crate::near::Near;
use crate::settings::SettingsError;
use crate::{ListKind, ListName, Role};

/// A validated snapshot over bytes of any owner.
#[derive(Clone, Debug)]
pub struct Snapshot<B> {
    fingerprint: Fingerprint,
    header: Header,
    bytes: B,
    /// The tables of the lists, in their order, and where in `bytes` each is.
    tables: Vec<(Range<usize>, Table<()>)>,
    /// For an overlay, the tables of what it removes from each list of its base.
    removed: Vec<(Range<usize>, Table<()>)>,
    /// The kinds of the lists.
    kinds: Vec<ListKind>,
    /// Where the ranges of all tables are; `None` if that is not known, or of no use.
    near: Option<Near>,
}

/// Whether a file that begins with `head` is probably a snapshot.
pub fn is_like_a_snapshot(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

impl<B: AsRef<[u8]>> Snapshot<B> {
    /// Validates `bytes` as one whole snapshot, and keeps them.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong and where. A wrong version is reported before a wrong checksum.
    pub fn open(bytes: B) -> Result<Self, OpenError> {
        Self::open_known(bytes, None)
    }

    /// Like [`Snapshot::open`], but trusts the table if `known` is the fingerprint of `bytes`: then somebody has validated
    /// them before. Only the checksum, the header and the index of the table are read again.
    ///
    /// A `known` of other bytes makes no difference. If somebody forges it for an invalid snapshot, lookups return wrong
    /// answers, as they would for a valid snapshot that the same person wrote. They never panic.
    ///
    /// # Errors
    /// Those of [`Snapshot::open`].
    pub fn open_known(bytes: B, known: Option<Fingerprint>) -> Result<Self, OpenError> {
        let slice = bytes.as_ref();
        let found = slice.len();
        if slice.is_empty() {
            return Err(OpenError::Empty);
        }
        // Fewer bytes may be the start of the magic. Then they are truncated.
        if !slice.starts_with(MAGIC) && !MAGIC.starts_with(slice) {
            return Err(OpenError::Magic);
        }
        let truncated = |needed| OpenError::Truncated { needed, found };
        let version = u32_at(slice, VERSION_OFFSET).ok_or(truncated(HEADER_OFFSET + CHECKSUM_BYTES))?;
        if version != VERSION {
            return Err(OpenError::Version { found: version });
        }
        if found > MAX_SNAPSHOT_BYTES {
            return Err(OpenError::TooLong);
        }
        let Some((content, checksum)) = slice.split_last_chunk().filter(|(content, _)| content.len() >= HEADER_OFFSET)
        else {
            return Err(truncated(HEADER_OFFSET + CHECKSUM_BYTES));
        };
        let (stored, computed) = (u64::from_le_bytes(*checksum), xxh3_64(content));
        if stored != computed {
            return Err(OpenError::Checksum { stored, computed });
        }
        let header_bytes = u32_at(content, HEADER_LENGTH_OFFSET).map_or(usize::MAX, |length| length as usize);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(OpenError::HeaderTooLong { found: header_bytes });
        }
        let start = HEADER_OFFSET + header_bytes;
        let header = header::decode(content.get(HEADER_OFFSET..start).ok_or(truncated(start + CHECKSUM_BYTES))?)?;
        header.settings.check()?;
        header::check_lists(&header.lists)?;
        header::check_role(&header.role, &header.lists)?;
        let end = content.len();
        let fingerprint = Fingerprint::new(computed, found);
        let removals = if let Role::Overlay(overlay) = &header.role { &*overlay.lists } else { &[] };
        let tables = header.lists.iter().map(|list| Stated {
            list: list.name,
            ipv4_ranges: list.ipv4_ranges,
            ipv6_ranges: list.ipv6_ranges,
            bytes: list.table_bytes,
            may_be_missing: false,
        });
        let removed = header.lists.iter().zip(removals).map(|(list, removed)| Stated {
            list: list.name,
            ipv4_ranges: removed.ipv4_ranges,
            ipv6_ranges: removed.ipv6_ranges,
            bytes: removed.table_bytes,
            may_be_missing: true,
        });
        // In u64, since a wasm usize cannot hold the sum that a hostile header claims.
        let stated: u64 = tables.clone().chain(removed.clone()).map(|table| u64::from(table.bytes)).sum();
        if stated != (end - start) as u64 {
            return Err(OpenError::Tables { stated, found: end - start });
        }
        let mut place = start;
        let mut open = |table: Stated| {
            let range = place..place + table.bytes as usize;
            place = range.end;
            let opened = table.open(content.get(range.clone()).unwrap_or_default(), known == Some(fingerprint))?;
            Ok::<_, OpenError>((range, opened.with_bytes(())))
        };
        let tables = tables.map(&mut open).collect::<Result<_, _>>()?;
        let removed = removed.map(open).collect::<Result<_, _>>()?;
        let kinds = header.lists.iter().map(|list| list.action.kind()).collect();
        Ok(Self { fingerprint, header, bytes, tables, removed, kinds, near: None })
    }

    /// Identifies these bytes for [`Snapshot::open_known`].
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What the snapshot says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The table of the list at this index of [`Header::lists`]; `None` if there are fewer lists.
    #[inline]
    pub fn table(&self, list: usize) -> Option<Table<&[u8]>> {
        self.with_bytes(self.tables.get(list)?)
    }

    /// The ranges that an overlay removes from the list at this index; `None` if there are fewer lists, or this is no overlay.
    pub fn removed(&self, list: usize) -> Option<Table<&[u8]>> {
        self.with_bytes(self.removed.get(list)?)
    }

    fn with_bytes(&self, (range, table): &(Range<usize>, Table<()>)) -> Option<Table<&[u8]>> {
        Some(table.with_bytes(self.bytes.as_ref().get(range.clone())?))
    }

    /// The bytes of the snapshot.
    pub fn bytes(&self) -> &B {
        &self.bytes
    }

    /// The kinds of the lists, in their order.
    #[inline]
    pub fn kinds(&self) -> &[ListKind] {
        &self.kinds
    }

    /// Makes [`Snapshot::may_have`] useful: a reader of several lists then looks most addresses up once rather than in each list. It takes
    /// one pass over all ranges, and up to 2 MiB of memory.
    pub fn prepare(&mut self) {
        let (ipv4, ipv6) = self.header.ranges();
        let count = usize::try_from(ipv4.saturating_add(ipv6)).unwrap_or(usize::MAX);
        // A range takes a bit at least, whatever the header of a snapshot says that was not validated here.
        let count = count.min(self.bytes.as_ref().len().saturating_mul(8));
        // One list is looked up as fast.
        if self.header.lists.len() > 1 {
            self.near = Near::new(
                count,
                (0..self.tables.len()).filter_map(|list| self.table(list)).flat_map(Table::into_ranges),
            );
        }
    }

    /// Whether a table may have the address. If not, none has it. Always true before [`Snapshot::prepare`].
    #[inline]
    pub fn may_have(&self, ip: IpAddr) -> bool {
        self.near.as_ref().is_none_or(|near| near.may_have(ip.to_canonical()))
    }

    /// Whether the address is in the table of the list at this index of [`Header::lists`].
    #[inline]
    pub fn contains(&self, list: usize, ip: IpAddr) -> bool {
        let Some((range, table)) = self.tables.get(list) else { return false };
        self.bytes.as_ref().get(range.clone()).is_some_and(|bytes| table.contains_in(bytes, ip))
    }
}

/// What a header says about a table.
struct Stated {
    list: ListName,
    ipv4_ranges: u32,
    ipv6_ranges: u32,
    bytes: u32,
    /// Whether no bytes are a table without ranges.
    may_be_missing: bool,
}

impl Stated {
    const EMPTY: &[u8] = &[0; 4];

    /// Opens the table, whose chunks are not read again if it `is_known` to be valid. Not inlined, to keep the filter small.
    #[inline(never)]
    fn open(self, bytes: &[u8], is_known: bool) -> Result<Table<&[u8]>, OpenError> {
        let Self { list, ipv4_ranges, ipv6_ranges, may_be_missing, .. } = self;
        let bytes = if may_be_missing && bytes.is_empty() { Self::EMPTY } else { bytes };
        let invalid = |error| OpenError::Table { list, error };
        if is_known {
            return Table::open_known(bytes, ipv4_ranges, ipv6_ranges).map_err(invalid);
        }
        let table = Table::open(bytes).map_err(invalid)?;
        let found = (table.ipv4_ranges(), table.ipv6_ranges());
        if (ipv4_ranges as usize, ipv6_ranges as usize) == found {
            Ok(table)
        } else {
            Err(OpenError::Counts { list, stated: (ipv4_ranges, ipv6_ranges), found })
        }
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// Why bytes are not a snapshot. Offsets and lengths are in bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There are no bytes.
    #[error("no bytes at all: the configuration must hold an edgefold snapshot")]
    Empty,
    /// The first bytes are not those of a snapshot.
    #[error("not an edgefold snapshot: the first 8 bytes are not \"EDGEFOLD\"")]
    Magic,
    /// The snapshot has a format that this build does not know.
    #[error(
        "format version {found}, but this build reads version {VERSION}: use the filter module of the edgefold that wrote it"
    )]
    Version {
        /// The version found.
        found: u32,
    },
    /// Longer than [`MAX_SNAPSHOT_BYTES`](crate::MAX_SNAPSHOT_BYTES): a VM could not change to it.
    #[error(
        "longer than 256 MiB, and two snapshots must fit into a VM: put some ranges into another log, with a filter of its own"
    )]
    TooLong,
    /// The bytes end early.
    #[error("truncated: {found} bytes, but at least {needed} are needed")]
    Truncated {
        /// Bytes needed at least.
        needed: usize,
        /// Bytes found.
        found: usize,
    },
    /// The checksum does not match the content.
    #[error("damaged or truncated: the checksum is {stored:#018x}, but the content has {computed:#018x}")]
    Checksum {
        /// The checksum at the end of the snapshot.
        stored: u64,
        /// The checksum of the bytes before it.
        computed: u64,
    },
    /// The stated length of the header is over the limit.
    #[error("the header claims {found} bytes, but at most {MAX_HEADER_BYTES} are allowed")]
    HeaderTooLong {
        /// The length found.
        found: usize,
    },
    /// The header cannot be decoded.
    #[error("the header cannot be decoded: {0}")]
    Header(&'static str),
    /// The header ends before its stated length.
    #[error("the header claims {stated} bytes, but ends after {read}")]
    HeaderLength {
        /// The length stated.
        stated: usize,
        /// The bytes that its fields take.
        read: usize,
    },
    /// The settings are invalid.
    #[error("the settings are invalid: {0}")]
    Settings(#[from] SettingsError),
    /// The lists are not those of a log.
    #[error(transparent)]
    Lists(#[from] ListsError),
    /// The tables take more or fewer bytes than their lists state.
    #[error("the lists state {stated} bytes of tables, but there are {found}")]
    Tables {
        /// What they state.
        stated: u64,
        /// Bytes between the header and the checksum.
        found: usize,
    },
    /// The table of a list is invalid.
    #[error("the table of list {list} is invalid: {error}")]
    Table {
        /// The list.
        list: ListName,
        /// Why.
        error: TableError,
    },
    /// A list counts other ranges than its table holds.
    #[error(
        "list {list} counts {} IPv4 and {} IPv6 ranges, but its table holds {} and {}",
        stated.0, stated.1, found.0, found.1
    )]
    Counts {
        /// The list.
        list: ListName,
        /// The number of IPv4 and of IPv6 ranges that the header states.
        stated: (u32, u32),
        /// Those in the table.
        found: (usize, usize),
    },
}
