//! Writing a snapshot.

use alloc::vec::Vec;

use bincode::Encode;
use edgefold_table::IpRange;
use xxhash_rust::xxh3::xxh3_64;

use crate::header::{
    self, CHECKSUM_BYTES, Generation, HEADER_OFFSET, MAGIC, MAX_HEADER_BYTES, MAX_SNAPSHOT_BYTES, VERSION,
};
use crate::settings::{ClientAddress, Freshness, Mode, NoAddress, OpenConnections, Refusal};
use crate::{Settings, SettingsError};

/// A snapshot to be written: everything but its ranges.
#[derive(Clone, Copy, Debug)]
pub struct NewSnapshot<'a> {
    /// The name of the list, which is the name of the ECDS resource that carries it.
    pub list: &'a str,
    /// Which state of the log this is.
    pub generation: Generation,
    /// The latest moment that the state accounts for: [`Header::as_of`](crate::Header::as_of).
    pub as_of: u64,
    /// What the filter does with requests and connections.
    pub settings: &'a Settings,
    /// Replaces the [`Freshness::cut_at`] of `settings`, so that the settings need not be copied for each snapshot. Ignored
    /// if the settings have no [`Freshness`].
    pub cut_at: u64,
}

/// The header as [`crate::Header`] has it, with borrowed parts.
#[derive(Encode)]
struct BorrowedHeader<'a> {
    list: &'a str,
    generation: Generation,
    as_of: u64,
    ipv4_ranges: u32,
    ipv6_ranges: u32,
    settings: BorrowedSettings<'a>,
}

#[derive(Encode)]
struct BorrowedSettings<'a> {
    mode: Mode,
    refusal: &'a Refusal,
    client_address: &'a ClientAddress,
    no_address: NoAddress,
    freshness: Option<Freshness>,
    open_connections: OpenConnections,
}

impl NewSnapshot<'_> {
    /// Encodes the snapshot with `ranges`, which must be sorted, disjoint and not touching, as [`edgefold_table::encode`]
    /// requires.
    ///
    /// # Errors
    /// [`EncodeError`]: ranges out of order, invalid settings, a header over [`MAX_HEADER_BYTES`], or a snapshot over
    /// [`MAX_SNAPSHOT_BYTES`].
    pub fn encode(&self, ranges: impl IntoIterator<Item = IpRange>) -> Result<Vec<u8>, EncodeError> {
        let Self { list, generation, as_of, settings, cut_at } = *self;
        settings.check().map_err(EncodeError::Settings)?;
        let mut table = Vec::new();
        let (mut ipv4_ranges, mut ipv6_ranges) = (0_u32, 0_u32);
        let counted = ranges.into_iter().inspect(|range| match range {
            IpRange::V4(_) => ipv4_ranges = ipv4_ranges.saturating_add(1),
            IpRange::V6(_) => ipv6_ranges = ipv6_ranges.saturating_add(1),
        });
        edgefold_table::encode(counted, &mut table).map_err(EncodeError::Table)?;
        let Settings { mode, refusal, client_address, no_address, freshness, open_connections } = settings;
        let (mode, no_address, open_connections) = (*mode, *no_address, *open_connections);
        let freshness = freshness.map(|freshness| Freshness { cut_at, ..freshness });
        let settings = BorrowedSettings { mode, refusal, client_address, no_address, freshness, open_connections };
        let header = BorrowedHeader { list, generation, as_of, ipv4_ranges, ipv6_ranges, settings };
        let header = bincode::encode_to_vec(&header, header::configuration()).map_err(|_| EncodeError::Header)?;
        // bincode applies the limit differently when it reads: never write what no reader accepts.
        if header::decode(&header).is_err() {
            return Err(EncodeError::Header);
        }
        let header_bytes = u32::try_from(header.len()).unwrap_or(u32::MAX);
        let length = HEADER_OFFSET + header.len() + table.len() + CHECKSUM_BYTES;
        if length > MAX_SNAPSHOT_BYTES {
            return Err(EncodeError::TooLong { length });
        }
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&header_bytes.to_le_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(&table);
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        Ok(bytes)
    }
}

/// Why a snapshot cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The ranges are not as a table needs them.
    #[error(transparent)]
    Table(edgefold_table::EncodeError),
    /// The settings are invalid.
    #[error(transparent)]
    Settings(SettingsError),
    /// The snapshot would be longer than [`MAX_SNAPSHOT_BYTES`].
    #[error(
        "the snapshot would have {length} bytes, but no filter opens more than {MAX_SNAPSHOT_BYTES}: split the list"
    )]
    TooLong {
        /// Its bytes.
        length: usize,
    },
    /// The header does not fit into [`MAX_HEADER_BYTES`].
    #[error(
        "the header does not fit into {MAX_HEADER_BYTES} bytes: use a shorter list name or body, or fewer headers or trusted proxies"
    )]
    Header,
}
