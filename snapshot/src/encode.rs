//! Writing a snapshot.

use alloc::vec::Vec;

use bincode::Encode;
use edgefold_table::IpRange;
use xxhash_rust::xxh3::xxh3_64;

use crate::header::{
    self, CHECKSUM_BYTES, Generation, HEADER_LENGTH_OFFSET, HEADER_OFFSET, ListsError, MAGIC, MAX_SETTINGS_BYTES,
    MAX_SNAPSHOT_BYTES, Overlay, OverlayList, Role, VERSION,
};
use crate::settings::{ClientAddress, Freshness, Mode, NoAddress, OpenConnections, Refusal};
use crate::{Fingerprint, ListAction, ListName, Settings, SettingsError};

/// A snapshot to be written: everything but its lists.
#[derive(Clone, Copy, Debug)]
pub struct NewSnapshot<'a> {
    /// The name of the filter, which is that of the ECDS resource that carries the snapshot.
    pub name: &'a str,
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

/// A list to be written.
#[derive(Clone, Debug)]
pub struct NewList<'a, R> {
    /// Its name.
    pub name: ListName,
    /// What happens to clients on it.
    pub action: &'a ListAction,
    /// The ranges on it: sorted, disjoint and not touching, as [`edgefold_table::encode`] requires.
    pub ranges: R,
}

/// What an overlay says about a list.
#[derive(Clone, Debug)]
pub struct NewOverlayList<'a, R> {
    /// The list, with the ranges on it that its base does not have.
    pub added: NewList<'a, R>,
    /// The ranges that the base has and that are not on the list any more, in the same order; `None` if the list has nothing to do
    /// with that of the base.
    pub removed: Option<R>,
}

/// The header as [`crate::Header`] has it, with borrowed parts.
#[derive(Encode)]
struct BorrowedHeader<'a, 'l> {
    start: BorrowedStart<'a>,
    lists: Vec<BorrowedList<'l>>,
}

/// What a header has before its lists.
#[derive(Encode)]
struct BorrowedStart<'a> {
    role: Role,
    name: &'a str,
    generation: Generation,
    as_of: u64,
    settings: BorrowedSettings<'a>,
}

#[derive(Encode)]
struct BorrowedList<'a> {
    name: ListName,
    action: &'a ListAction,
    ipv4_ranges: u32,
    ipv6_ranges: u32,
    table_bytes: u32,
}

#[derive(Encode)]
struct BorrowedSettings<'a> {
    mode: Mode,
    refusal: &'a Refusal,
    client_address: &'a ClientAddress,
    no_address: NoAddress,
    freshness: Option<Freshness>,
    open_connections: OpenConnections,
    tag_header: &'a str,
}

impl<'a> NewSnapshot<'a> {
    /// Encodes a whole snapshot with `lists`: the default list first, and others by name.
    ///
    /// # Errors
    /// [`EncodeError`]: ranges or lists out of order, invalid settings, settings over [`MAX_SETTINGS_BYTES`], or a snapshot over
    /// [`MAX_SNAPSHOT_BYTES`].
    pub fn encode<'l, R: IntoIterator<Item = IpRange>>(
        &self,
        lists: impl IntoIterator<Item = NewList<'l, R>>,
    ) -> Result<Vec<u8>, EncodeError> {
        self.encode_all(Role::Whole, lists)
    }

    /// As [`NewSnapshot::encode`], but as the base of overlays.
    ///
    /// # Errors
    /// As for [`NewSnapshot::encode`].
    pub fn encode_base<'l, R: IntoIterator<Item = IpRange>>(
        &self,
        lists: impl IntoIterator<Item = NewList<'l, R>>,
    ) -> Result<Vec<u8>, EncodeError> {
        self.encode_all(Role::Base, lists)
    }

    /// Encodes an overlay over the base with this fingerprint. Its order of lists is that of [`NewSnapshot::encode`].
    ///
    /// # Errors
    /// As for [`NewSnapshot::encode`].
    pub fn encode_overlay<'l, R: IntoIterator<Item = IpRange>>(
        &self,
        base: Fingerprint,
        lists: impl IntoIterator<Item = NewOverlayList<'l, R>>,
    ) -> Result<Vec<u8>, EncodeError> {
        let start = self.start()?;
        let (mut tables, mut removed_tables) = (Vec::new(), Vec::new());
        let mut headers = Vec::new();
        let mut overlay = Overlay { base, lists: Vec::new() };
        for NewOverlayList { added, removed } in lists {
            headers.push(append_list(added, &mut tables)?);
            overlay.lists.push(match removed {
                None => OverlayList::default(),
                Some(ranges) => {
                    let before = removed_tables.len();
                    let (ipv4_ranges, ipv6_ranges, mut table_bytes) = append_table(ranges, &mut removed_tables)?;
                    if (ipv4_ranges, ipv6_ranges) == (0, 0) {
                        removed_tables.truncate(before);
                        table_bytes = 0;
                    }
                    OverlayList { extends_base: true, ipv4_ranges, ipv6_ranges, table_bytes }
                }
            });
        }
        tables.append(&mut removed_tables);
        finish(
            BorrowedHeader { start: BorrowedStart { role: Role::Overlay(overlay), ..start }, lists: headers },
            &tables,
        )
    }

    fn encode_all<'l, R: IntoIterator<Item = IpRange>>(
        &self,
        role: Role,
        lists: impl IntoIterator<Item = NewList<'l, R>>,
    ) -> Result<Vec<u8>, EncodeError> {
        let start = BorrowedStart { role, ..self.start()? };
        let mut tables = Vec::new();
        let lists = lists.into_iter().map(|list| append_list(list, &mut tables)).collect::<Result<_, _>>()?;
        finish(BorrowedHeader { start, lists }, &tables)
    }

    /// Encodes the snapshot with `ranges` on the default list, which refuses, and without other lists.
    ///
    /// # Errors
    /// As for [`NewSnapshot::encode`].
    pub fn encode_default_list(&self, ranges: impl IntoIterator<Item = IpRange>) -> Result<Vec<u8>, EncodeError> {
        let action = ListAction::default();
        NewSnapshot::encode(self, [NewList { name: ListName::DEFAULT, action: &action, ranges }])
    }

    /// Checks everything that does not depend on the lists. What is in a log can then only make a snapshot too large.
    ///
    /// # Errors
    /// [`EncodeError::Settings`] and [`EncodeError::Header`].
    pub fn check(&self) -> Result<(), EncodeError> {
        self.start().map(drop)
    }

    fn start(&self) -> Result<BorrowedStart<'a>, EncodeError> {
        let Self { name, generation, as_of, settings, cut_at } = *self;
        settings.check().map_err(EncodeError::Settings)?;
        let Settings { mode, refusal, client_address, no_address, freshness, open_connections, tag_header } = settings;
        let (mode, no_address, open_connections) = (*mode, *no_address, *open_connections);
        let freshness = freshness.map(|freshness| Freshness { cut_at, ..freshness });
        let settings =
            BorrowedSettings { mode, refusal, client_address, no_address, freshness, open_connections, tag_header };
        let start = BorrowedStart { role: Role::Whole, name, generation, as_of, settings };
        let encoded = bincode::encode_to_vec(&start, header::configuration()).map_err(|_| EncodeError::Header)?;
        if encoded.len() > MAX_SETTINGS_BYTES { Err(EncodeError::Header) } else { Ok(start) }
    }
}

/// The number of bytes of the tables in a valid snapshot.
pub fn table_bytes(snapshot: &[u8]) -> usize {
    let header = snapshot.get(HEADER_LENGTH_OFFSET..).and_then(<[u8]>::first_chunk);
    let header_bytes = header.map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize);
    snapshot.len().saturating_sub(HEADER_OFFSET + header_bytes + CHECKSUM_BYTES)
}

/// Turns the bytes of a valid whole snapshot into those of a base with the same content.
pub fn make_base(whole: &mut [u8]) {
    if let Some(role) = whole.get_mut(HEADER_OFFSET) {
        *role = Role::BASE;
    }
    if let Some((content, checksum)) = whole.split_last_chunk_mut() {
        *checksum = xxh3_64(content).to_le_bytes();
    }
}

/// Appends the table of a list.
fn append_list<'l, R: IntoIterator<Item = IpRange>>(
    NewList { name, action, ranges }: NewList<'l, R>,
    tables: &mut Vec<u8>,
) -> Result<BorrowedList<'l>, EncodeError> {
    let (ipv4_ranges, ipv6_ranges, table_bytes) = append_table(ranges, tables)?;
    Ok(BorrowedList { name, action, ipv4_ranges, ipv6_ranges, table_bytes })
}

/// Appends the table of `ranges`, and returns the number of IPv4 and of IPv6 ranges, and of bytes.
fn append_table(
    ranges: impl IntoIterator<Item = IpRange>,
    tables: &mut Vec<u8>,
) -> Result<(u32, u32, u32), EncodeError> {
    let (mut ipv4_ranges, mut ipv6_ranges) = (0_u32, 0_u32);
    let counted = ranges.into_iter().inspect(|range| match range {
        IpRange::V4(_) => ipv4_ranges = ipv4_ranges.saturating_add(1),
        IpRange::V6(_) => ipv6_ranges = ipv6_ranges.saturating_add(1),
    });
    let before = tables.len();
    edgefold_table::encode(counted, tables).map_err(EncodeError::Table)?;
    Ok((ipv4_ranges, ipv6_ranges, u32::try_from(tables.len() - before).unwrap_or(u32::MAX)))
}

/// The bytes of the snapshot with this header and these tables.
fn finish(header: BorrowedHeader<'_, '_>, tables: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let header = bincode::encode_to_vec(&header, header::configuration()).map_err(|_| EncodeError::Header)?;
    let length = HEADER_OFFSET + header.len() + tables.len() + CHECKSUM_BYTES;
    if length > MAX_SNAPSHOT_BYTES {
        return Err(EncodeError::TooLong { length });
    }
    // bincode applies the limit differently when it reads: never write what no reader accepts.
    let decoded = header::decode(&header).map_err(|_| EncodeError::Header)?;
    header::check_lists(&decoded.lists).map_err(EncodeError::Lists)?;
    let header_bytes = u32::try_from(header.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&header_bytes.to_le_bytes());
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(tables);
    bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
    Ok(bytes)
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
        "the snapshot would have {length} bytes, but no filter opens more than {MAX_SNAPSHOT_BYTES}: put some \
         ranges into another log, with a filter of its own"
    )]
    TooLong {
        /// Its bytes.
        length: usize,
    },
    /// Lists out of order, or too many of them.
    #[error(transparent)]
    Lists(ListsError),
    /// The settings do not fit into [`MAX_SETTINGS_BYTES`].
    #[error(
        "the settings do not fit into {MAX_SETTINGS_BYTES} bytes: use a shorter name or body, or fewer headers or trusted proxies"
    )]
    Header,
}
