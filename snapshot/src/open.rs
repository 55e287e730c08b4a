//! Opening a snapshot: everything is checked before anything is looked up.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::Range;

use edgefold_table::{Table, TableError};
use xxhash_rust::xxh3::xxh3_64;

use crate::fingerprint::Fingerprint;
use crate::header::{
    self, CHECKSUM_BYTES, HEADER_LENGTH_OFFSET, HEADER_OFFSET, Header, ListHeader, ListsError, MAGIC, MAX_HEADER_BYTES,
    MAX_SNAPSHOT_BYTES, VERSION, VERSION_OFFSET,
};
use crate::settings::SettingsError;
use crate::{ListKind, ListName};

/// A validated snapshot over bytes of any owner.
#[derive(Clone, Debug)]
pub struct Snapshot<B> {
    fingerprint: Fingerprint,
    header: Header,
    bytes: B,
    /// The tables of the lists, in their order, and where in `bytes` each is.
    tables: Vec<(Range<usize>, Table<()>)>,
    /// The kinds of the lists.
    kinds: Vec<ListKind>,
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
        let end = content.len();
        // In u64, since a wasm usize cannot hold the sum that a hostile header claims.
        let stated: u64 = header.lists.iter().map(|list| u64::from(list.table_bytes)).sum();
        if stated != (end - start) as u64 {
            return Err(OpenError::Tables { stated, found: end - start });
        }
        let fingerprint = Fingerprint::new(computed, found);
        let mut tables = Vec::with_capacity(header.lists.len());
        let mut place = start;
        for list in &header.lists {
            let range = place..place + list.table_bytes as usize;
            place = range.end;
            let bytes = content.get(range.clone()).unwrap_or_default();
            let invalid = |error| OpenError::Table { list: list.name, error };
            let table = if known == Some(fingerprint) {
                Table::open_known(bytes, list.ipv4_ranges, list.ipv6_ranges).map_err(invalid)?
            } else {
                let table = Table::open(bytes).map_err(invalid)?;
                let (ipv4_ranges, ipv6_ranges) = (table.ipv4_ranges(), table.ipv6_ranges());
                if (list.ipv4_ranges as usize, list.ipv6_ranges as usize) != (ipv4_ranges, ipv6_ranges) {
                    return Err(OpenError::Counts { header: Box::new(list.clone()), ipv4_ranges, ipv6_ranges });
                }
                table
            };
            tables.push((range, table.with_bytes(())));
        }
        let kinds = header.lists.iter().map(|list| list.action.kind()).collect();
        Ok(Self { fingerprint, header, bytes, tables, kinds })
    }

    /// Identifies these bytes for [`Snapshot::open_known`].
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What the snapshot says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The ranges of the list at this index of [`Header::lists`]; `None` if there are fewer lists.
    #[inline]
    pub fn table(&self, list: usize) -> Option<Table<&[u8]>> {
        let (range, table) = self.tables.get(list)?;
        Some(table.with_bytes(self.bytes.as_ref().get(range.clone())?))
    }

    /// The kinds of the lists, in their order.
    #[inline]
    pub fn kinds(&self) -> &[ListKind] {
        &self.kinds
    }

    /// Whether the address is on the list at this index of [`Header::lists`].
    #[inline]
    pub fn contains(&self, list: usize, ip: IpAddr) -> bool {
        let Some((range, table)) = self.tables.get(list) else { return false };
        self.bytes.as_ref().get(range.clone()).is_some_and(|bytes| table.contains_in(bytes, ip))
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
        "list {} counts {} IPv4 and {} IPv6 ranges, but its table holds {ipv4_ranges} and {ipv6_ranges}",
        header.name, header.ipv4_ranges, header.ipv6_ranges
    )]
    Counts {
        /// What the snapshot says about the list.
        header: Box<ListHeader>,
        /// IPv4 ranges in the table.
        ipv4_ranges: usize,
        /// IPv6 ranges in the table.
        ipv6_ranges: usize,
    },
}
