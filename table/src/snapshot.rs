//! A snapshot: one table with the header that says what it is and a checksum over all of it.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use bincode::error::DecodeError;
use bincode::{Decode, Encode};
use xxhash_rust::xxh3::xxh3_64;

use crate::bytes::u32_at;
use crate::{EncodeError, IpRange, Settings, SettingsError, Table, TableError, encode};

/// The format version that this crate writes and reads.
pub const VERSION: u32 = 3;
/// The most bytes that an encoded header may take: the body of a refusal is in it.
pub const MAX_HEADER_BYTES: usize = 65536;

const MAGIC: &[u8; 8] = b"EDGEFOLD";
const VERSION_OFFSET: usize = MAGIC.len();
const HEADER_LENGTH_OFFSET: usize = VERSION_OFFSET + size_of::<u32>();
const HEADER_OFFSET: usize = HEADER_LENGTH_OFFSET + size_of::<u32>();
const CHECKSUM_BYTES: usize = size_of::<u64>();

/// What a snapshot says of itself.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Header {
    /// The name of the list: the name of the ECDS resource that carries it.
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

/// Which state of the log a snapshot is, derived from the log alone: equal on every replica.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Generation {
    /// The snapshot is the fold of all commands below this offset.
    pub next_offset: u64,
    /// The newest expiry that was applied beyond the log's own time, in milliseconds since 1970-01-01T00:00:00Z.
    pub expiry: Option<u64>,
}

/// What tells the bytes of a snapshot from those of others: their checksum and their length.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fingerprint([u8; FINGERPRINT_BYTES]);

/// Bytes of a [`Fingerprint`].
const FINGERPRINT_BYTES: usize = 2 * size_of::<u64>();

impl Fingerprint {
    fn new(checksum: u64, len: usize) -> Self {
        Self((u128::from(checksum) << 64 | len as u128).to_le_bytes())
    }

    /// As bytes, to be kept somewhere.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// From bytes that were kept; `None` if they are not as many.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// A validated snapshot over bytes of any owner.
#[derive(Clone, Debug)]
pub struct Snapshot<B> {
    fingerprint: Fingerprint,
    header: Header,
    table: Table<TableBytes<B>>,
}

/// The part of a snapshot's bytes that holds the table.
#[derive(Clone, Debug)]
pub struct TableBytes<B> {
    snapshot: B,
    start: usize,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for TableBytes<B> {
    fn as_ref(&self) -> &[u8] {
        let bytes = self.snapshot.as_ref();
        bytes.get(self.start..bytes.len().saturating_sub(CHECKSUM_BYTES)).unwrap_or_default()
    }
}

impl<B: AsRef<[u8]>> Snapshot<B> {
    /// Validates `bytes` as one whole snapshot, and keeps them.
    ///
    /// # Errors
    /// [`SnapshotError`] says what is wrong and where. A wrong version is told before a wrong checksum.
    pub fn open(bytes: B) -> Result<Self, SnapshotError> {
        Self::open_known(bytes, None)
    }

    /// As [`Snapshot::open`], but of bytes that it has taken before, somewhere, which `known` tells, only what this needs is
    /// read again: the checksum, the header and the index of the table. Its [`Table::find`] then takes longer.
    ///
    /// Where `known` is that of other bytes, it makes no difference; where somebody forges it for bytes that are no snapshot,
    /// addresses are looked up wrongly, as in a snapshot that he could have written.
    ///
    /// # Errors
    /// Those of [`Snapshot::open`].
    pub fn open_known(bytes: B, known: Option<Fingerprint>) -> Result<Self, SnapshotError> {
        let slice = bytes.as_ref();
        let found = slice.len();
        if slice.is_empty() {
            return Err(SnapshotError::Empty);
        }
        if slice.first_chunk() != Some(MAGIC) {
            return Err(SnapshotError::Magic);
        }
        let truncated = |needed| SnapshotError::Truncated { needed, found };
        let version = u32_at(slice, VERSION_OFFSET).ok_or(truncated(HEADER_OFFSET + CHECKSUM_BYTES))?;
        if version != VERSION {
            return Err(SnapshotError::Version { found: version });
        }
        let Some((content, checksum)) = slice.split_last_chunk().filter(|(content, _)| content.len() >= HEADER_OFFSET)
        else {
            return Err(truncated(HEADER_OFFSET + CHECKSUM_BYTES));
        };
        let (stored, computed) = (u64::from_le_bytes(*checksum), xxh3_64(content));
        if stored != computed {
            return Err(SnapshotError::Checksum { stored, computed });
        }
        let header_bytes = u32_at(content, HEADER_LENGTH_OFFSET).map_or(usize::MAX, |length| length as usize);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(SnapshotError::HeaderTooLong { found: header_bytes });
        }
        let start = HEADER_OFFSET + header_bytes;
        let header = decode_header(content.get(HEADER_OFFSET..start).ok_or(truncated(start + CHECKSUM_BYTES))?)?;
        header.settings.check()?;
        let fingerprint = Fingerprint::new(computed, found);
        let table = TableBytes { snapshot: bytes, start };
        if known == Some(fingerprint) {
            let table = Table::open_known(table, header.ipv4_ranges, header.ipv6_ranges)?;
            return Ok(Self { fingerprint, header, table });
        }
        let table = Table::open(table)?;
        let (ipv4_ranges, ipv6_ranges) = (table.ipv4_ranges(), table.ipv6_ranges());
        if (header.ipv4_ranges as usize, header.ipv6_ranges as usize) != (ipv4_ranges, ipv6_ranges) {
            return Err(SnapshotError::Counts { header: Box::new(header), ipv4_ranges, ipv6_ranges });
        }
        Ok(Self { fingerprint, header, table })
    }

    /// What tells these bytes from others, for [`Snapshot::open_known`].
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What the snapshot says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The ranges.
    pub fn table(&self) -> &Table<TableBytes<B>> {
        &self.table
    }
}

impl Snapshot<Vec<u8>> {
    /// Encodes one snapshot of `ranges`, which come as [`encode`] wants them.
    ///
    /// # Errors
    /// [`BuildError`]: ranges out of order, settings that no filter takes, or a header over [`MAX_HEADER_BYTES`].
    pub fn build(
        list: &str,
        generation: Generation,
        as_of: u64,
        settings: Settings,
        ranges: impl IntoIterator<Item = IpRange>,
    ) -> Result<Vec<u8>, BuildError> {
        settings.check().map_err(BuildError::Settings)?;
        let mut table = Vec::new();
        let (mut ipv4_ranges, mut ipv6_ranges) = (0_u32, 0_u32);
        let counted = ranges.into_iter().inspect(|range| match range {
            IpRange::V4(_) => ipv4_ranges = ipv4_ranges.saturating_add(1),
            IpRange::V6(_) => ipv6_ranges = ipv6_ranges.saturating_add(1),
        });
        encode(counted, &mut table).map_err(BuildError::Table)?;
        let header = Header { list: list.to_owned(), generation, as_of, ipv4_ranges, ipv6_ranges, settings };
        let header = bincode::encode_to_vec(&header, configuration()).map_err(|_| BuildError::Header)?;
        // The limit counts otherwise when it reads than when it writes: what no reader takes must not be written.
        if decode_header(&header).is_err() {
            return Err(BuildError::Header);
        }
        let header_bytes = u32::try_from(header.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER_OFFSET + header.len() + table.len() + CHECKSUM_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&header_bytes.to_le_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(&table);
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        Ok(bytes)
    }
}

/// Little-endian, integers of variable length, and no header over [`MAX_HEADER_BYTES`].
fn configuration() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_HEADER_BYTES>()
}

fn decode_header(bytes: &[u8]) -> Result<Header, SnapshotError> {
    let (header, read) = bincode::decode_from_slice(bytes, configuration()).map_err(|error| {
        // Not the library's own words: they name Rust types.
        SnapshotError::Header(match error {
            DecodeError::UnexpectedEnd { .. } => "it ends early",
            DecodeError::LimitExceeded => "a text or list in it claims to be longer than all of it may be",
            DecodeError::UnexpectedVariant { .. } => "a setting has a value that this version does not know",
            DecodeError::Utf8 { .. } => "a text in it is not UTF-8",
            DecodeError::InvalidBooleanValue(_) => "an optional field is neither there nor left out",
            DecodeError::Other(what) => what,
            _ => "a number in it is too large",
        })
    })?;
    if read != bytes.len() {
        return Err(SnapshotError::HeaderLength { stated: bytes.len(), read });
    }
    Ok(header)
}

/// Why a snapshot cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The ranges are not as a table needs them.
    #[error(transparent)]
    Table(EncodeError),
    /// The settings are wrong.
    #[error(transparent)]
    Settings(SettingsError),
    /// The header does not fit into [`MAX_HEADER_BYTES`].
    #[error(
        "the header does not fit into {MAX_HEADER_BYTES} bytes: use a shorter list name or body, or fewer headers or trusted proxies"
    )]
    Header,
}

/// Why bytes are no snapshot. Offsets and lengths are in bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// There are no bytes.
    #[error("no bytes at all: the configuration must hold an edgefold snapshot")]
    Empty,
    /// The bytes begin otherwise.
    #[error("not an edgefold snapshot: the first 8 bytes are not \"EDGEFOLD\"")]
    Magic,
    /// The snapshot has a format that this build does not know.
    #[error(
        "format version {found}, but this build reads version {VERSION}: use the filter that the snapshotter ships"
    )]
    Version {
        /// The version found.
        found: u32,
    },
    /// The bytes end early.
    #[error("truncated: {found} bytes, but at least {needed} are needed")]
    Truncated {
        /// Bytes needed at least.
        needed: usize,
        /// Bytes there are.
        found: usize,
    },
    /// The checksum is not that of the content.
    #[error("damaged or truncated: the checksum is {stored:#018x}, but the content has {computed:#018x}")]
    Checksum {
        /// The checksum at the end of the snapshot.
        stored: u64,
        /// The checksum of the bytes before it.
        computed: u64,
    },
    /// The header says that it is longer than any may be.
    #[error("the header claims {found} bytes, but at most {MAX_HEADER_BYTES} are allowed")]
    HeaderTooLong {
        /// The length found.
        found: usize,
    },
    /// The header cannot be decoded.
    #[error("the header cannot be decoded: {0}")]
    Header(&'static str),
    /// The header ends before its stated length.
    #[error("the header is said to be {stated} bytes long, but ends after {read}")]
    HeaderLength {
        /// The length stated.
        stated: usize,
        /// The bytes that its fields take.
        read: usize,
    },
    /// The settings are wrong.
    #[error("the settings are wrong: {0}")]
    Settings(#[from] SettingsError),
    /// The table is no table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The header counts other ranges than the table holds.
    #[error("the header counts {} IPv4 and {} IPv6 ranges, but the table holds {ipv4_ranges} and {ipv6_ranges}", header.ipv4_ranges, header.ipv6_ranges)]
    Counts {
        /// The header.
        header: Box<Header>,
        /// IPv4 ranges in the table.
        ipv4_ranges: usize,
        /// IPv6 ranges in the table.
        ipv6_ranges: usize,
    },
}
