//! MaxMind databases (<https://maxmind.github.io/MaxMind-DB/>): a binary tree over the bits of addresses, whose leaves point to records.
//! Countries, networks (AS) and much else come in this form, and many programs look addresses up in it.
//!
//! Fields are paths of a record, such as `registered_country.iso_code` or `subdivisions.0.iso_code`. `country` and `asn` are short for
//! what the usual vendors call them. Without fields, all networks are read that have a record.
//!
//! IPv4 addresses are those of `::/96` in the tree. Networks that point to the same part of the tree, such as 6to4's `2002::/16`, are
//! aliases and left out.
//!
//! What is written has `{"listed": true}` for each blocked address, and `until` for one whose block ends. `::ffff:0:0/96` is an alias of
//! the IPv4 addresses, as everywhere in edgefold. IPv6 addresses of `::/96` (`::` and `::1`; the others are deprecated) have no place in
//! the format, and are left out.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edgefold::{AddressRange, Block, LogTime, Until};
use edgefold_table::{IpRange, shorten};
use maxminddb::{LookupResult, MaxMindDbError, PathElement, Reader};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::about::About;
use crate::error::ReadError;
use crate::input::document;
use crate::{EachEntry, Format, ReadOptions, Wanted, WriteOptions};

pub(crate) const ABOUT: About = About {
    name: "mmdb",
    describe: "a MaxMind database",
    read: Some(read),
    write: Some(write),
    says_ends: true,
    fields: &["asn", "country"],
    has_any_field: true,
    is_binary: true,
    // Its marker is at the end, so it is recognized by the file's name.
    looks_like: |_| false,
};

/// The type of the databases that edgefold writes. Only in these `until` is an end.
const EDGEFOLD: &str = "edgefold";
const METADATA_MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";
/// Zeros between the tree and the records, which pointers to records count.
const SEPARATOR: [u8; 16] = [0; 16];
/// How many networks a tree may have for each node. One is enough for a tree; one that shares its branches has more.
const MOST_VISITS: u64 = 8;
/// How many values all records may have for each byte of the file. Databases of the usual vendors have fewer than one; a file whose records
/// share large parts by pointers has more.
const MOST_VALUES_OF_BYTE: u64 = 4;
/// How many values the records of any file may have.
const FREE_VALUES: u64 = 1 << 20;
/// The most records whose answer is remembered.
const MOST_REMEMBERED: usize = 1 << 20;

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    let bytes = document(input)?;
    let reader = Reader::from_source(bytes.as_slice()).map_err(|error| not_this(&error))?;
    let mut records = Records::new(&reader, &options.wanted, bytes.len() as u64);
    let is_read_whole = Tree::new(&bytes, &reader).walk(&mut |pointer, network, range| {
        Ok(match records.until(pointer, network)? {
            Some(until) => each(Ok(Block { range, until })),
            None => true,
        })
    })?;
    match records.missing() {
        // A name that is misspelled must not look like a list without entries.
        Some(field) if is_read_whole => Err(ReadError::NoField { format: Format::Mmdb, field }),
        _ => Ok(()),
    }
}

fn not_this(why: &dyn fmt::Display) -> ReadError {
    ReadError::NotThisFormat { format: Format::Mmdb, why: why.to_string() }
}

fn damaged(why: &dyn fmt::Display) -> ReadError {
    not_this(&format_args!("it is damaged: {why}"))
}

/// The tree of a database that [`Reader`] has checked: all its nodes are in the file.
struct Tree<'a> {
    bytes: &'a [u8],
    record_bits: usize,
    nodes: u32,
    is_v6: bool,
}

/// Receives the pointer of a leaf, the first address of its network, and its range, and returns whether to walk on.
type EachLeaf<'a> = dyn FnMut(u32, IpAddr, IpRange) -> Result<bool, ReadError> + 'a;

impl<'a> Tree<'a> {
    fn new(bytes: &'a [u8], reader: &Reader<&[u8]>) -> Self {
        let metadata = reader.metadata();
        Self {
            bytes,
            record_bits: metadata.record_size.into(),
            nodes: metadata.node_count,
            is_v6: metadata.ip_version == 6,
        }
    }

    /// Passes all leaves with data to `each`, in the order of their addresses, and returns whether it wanted all.
    fn walk(&self, each: &mut EachLeaf<'_>) -> Result<bool, ReadError> {
        let bits = if self.is_v6 { 128 } else { 32 };
        let ipv4 = self.ipv4()?;
        let mut visits = 0;
        // What is left to visit: a pointer, and the bits that lead to it, the first of them the highest.
        let mut open = vec![(0_u32, 0_u128, 0_u8)];
        while let Some((pointer, address, length)) = open.pop() {
            visits += 1;
            if visits > MOST_VISITS * (u64::from(self.nodes) + 1) {
                return Err(damaged(&"its tree has more networks than nodes"));
            }
            // The one way to IPv4 that is not an alias is through zeros.
            let is_alias = self.is_v6 && pointer == ipv4 && pointer < self.nodes && address != 0;
            let is_mapped = self.is_v6 && length >= 96 && address >> 32 == MAPPED >> 32;
            if pointer == self.nodes || is_alias || is_mapped && ipv4 != self.nodes {
                continue;
            }
            if pointer > self.nodes {
                let (network, range) = self.network(address, length)?;
                if !each(pointer, network, range)? {
                    return Ok(false);
                }
            } else if length == bits {
                return Err(damaged(&"its tree is deeper than an address"));
            } else {
                open.push((self.child(pointer, true)?, address | 1 << (127 - length), length + 1));
                open.push((self.child(pointer, false)?, address, length + 1));
            }
        }
        Ok(true)
    }

    /// What `::/96`, the IPv4 addresses within a tree of IPv6, leads to: a node, a record or nothing.
    fn ipv4(&self) -> Result<u32, ReadError> {
        let mut pointer = 0;
        for _ in 0..if self.is_v6 { 96 } else { 0 } {
            if pointer >= self.nodes {
                break;
            }
            pointer = self.child(pointer, false)?;
        }
        Ok(pointer)
    }

    fn child(&self, node: u32, is_right: bool) -> Result<u32, ReadError> {
        let width = self.record_bits / 4;
        let start = usize::try_from(node).unwrap_or(usize::MAX).saturating_mul(width);
        let node = self.bytes.get(start..start.saturating_add(width));
        let pointer = node.and_then(|node| match (node, is_right) {
            (&[a, b, c, _, _, _], false) | (&[_, _, _, a, b, c], true) => Some([0, a, b, c]),
            (&[a, b, c, high, _, _, _], false) => Some([high >> 4, a, b, c]),
            (&[_, _, _, high, a, b, c], true) => Some([high & 15, a, b, c]),
            (&[a, b, c, d, _, _, _, _], false) | (&[_, _, _, _, a, b, c, d], true) => Some([a, b, c, d]),
            _ => None,
        });
        pointer.map(u32::from_be_bytes).ok_or_else(|| damaged(&"its tree is cut off"))
    }

    /// The first address of a network as the tree has it, and its range.
    fn network(&self, first: u128, length: u8) -> Result<(IpAddr, IpRange), ReadError> {
        let last = first | u128::MAX.checked_shr(length.into()).unwrap_or(0);
        let v4 = |bits: u128| u32::try_from(bits & u128::from(u32::MAX)).map_or(Ipv4Addr::UNSPECIFIED, Ipv4Addr::from);
        let network = if self.is_v6 { Ipv6Addr::from(first).into() } else { v4(first >> 96).into() };
        let range = if !self.is_v6 {
            AddressRange::new(v4(first >> 96), v4(last >> 96)).map(IpRange::V4)
        } else if length >= 96 && [0, MAPPED >> 32].contains(&(first >> 32)) {
            AddressRange::new(v4(first), v4(last)).map(IpRange::V4)
        } else {
            AddressRange::new(first.into(), last.into()).map(IpRange::V6)
        };
        Ok((network, range.map_err(|error| damaged(&error))?))
    }
}

/// What the records of a database say.
struct Records<'a> {
    reader: &'a Reader<&'a [u8]>,
    wanted: &'a Wanted,
    has_ends: bool,
    /// Names that no record had yet.
    missing: BTreeSet<&'a str>,
    /// The answers for the latest pointers, of which many leaves have the same.
    known: HashMap<u32, Option<Until>>,
    /// How many more values may be decoded.
    budget: u64,
}

impl<'a> Records<'a> {
    fn new(reader: &'a Reader<&'a [u8]>, wanted: &'a Wanted, bytes: u64) -> Self {
        let has_ends = reader.metadata().database_type == EDGEFOLD;
        let budget = bytes * MOST_VALUES_OF_BYTE + FREE_VALUES;
        Self { reader, wanted, has_ends, missing: wanted.names().collect(), known: HashMap::new(), budget }
    }

    /// When the block of a network ends; `None` if its record is not wanted.
    fn until(&mut self, pointer: u32, network: IpAddr) -> Result<Option<Until>, ReadError> {
        if let Some(until) = self.known.get(&pointer) {
            return Ok(*until);
        }
        let record = self.reader.lookup(network).map_err(|error| damaged(&error))?;
        // The reader limits the values of one record. Looking at a field costs no more than this.
        let count = record.decode::<Count>().map_err(|error| damaged(&error))?.map_or(0, |Count(count)| count);
        self.budget = self.budget.checked_sub(count).ok_or_else(|| damaged(&"its records have too many values"))?;
        let until = if self.is_wanted(&record)? { Some(self.end(&record)?) } else { None };
        if self.known.len() == MOST_REMEMBERED {
            self.known.clear();
        }
        self.known.insert(pointer, until);
        Ok(until)
    }

    fn is_wanted(&mut self, record: &LookupResult<'_, &[u8]>) -> Result<bool, ReadError> {
        let mut fields = HashMap::new();
        for name in self.wanted.names() {
            let values = values(record, name)?;
            if !values.is_empty() {
                self.missing.remove(name);
            }
            fields.insert(name, values);
        }
        Ok(self.wanted.matches(|name, value| {
            let is_value = |found: &String| {
                found.eq_ignore_ascii_case(value) || name == "asn" && number_of(found) == number_of(value)
            };
            fields.get(name).is_some_and(|values| values.iter().any(is_value))
        }))
    }

    fn end(&self, record: &LookupResult<'_, &[u8]>) -> Result<Until, ReadError> {
        if !self.has_ends {
            return Ok(Until::FOREVER);
        }
        match values(record, "until")?.first() {
            Some(until) => LogTime::parse(until).map(Until::from).map_err(|error| damaged(&error)),
            None => Ok(Until::FOREVER),
        }
    }

    fn missing(&self) -> Option<String> {
        self.missing.first().map(|name| shorten(name))
    }
}

/// The number of an AS, which some databases write as a text such as `AS64500`.
fn number_of(text: &str) -> &str {
    let prefix = text.get(..2).filter(|prefix| prefix.eq_ignore_ascii_case("AS"));
    prefix.map_or(text, |_| &text[2..])
}

/// The values of a field: several if it is an array, none if the record does not have it.
fn values(record: &LookupResult<'_, &[u8]>, name: &str) -> Result<Vec<String>, ReadError> {
    let paths: &[&str] = match name {
        "country" => &["country.iso_code", "country_code", "country"],
        "asn" => &["autonomous_system_number", "asn"],
        _ => &[name],
    };
    for path in paths {
        let path: Vec<_> = path.split('.').map(element).collect();
        match record.decode_path::<Values>(&path) {
            Ok(Some(Values(values))) if !values.is_empty() => return Ok(values),
            // On the way is something other than the path says.
            Ok(_) | Err(MaxMindDbError::Decoding { .. }) => {}
            Err(error) => return Err(damaged(&error)),
        }
    }
    Ok(Vec::new())
}

fn element(text: &str) -> PathElement<'_> {
    text.parse().map_or(PathElement::Key(text), PathElement::Index)
}

/// The number of values that a value consists of. A long text counts as several.
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
        Ok(Count(1))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Count, E> {
        Ok(Count(1))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Count, E> {
        Ok(Count(1))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Count, E> {
        Ok(Count(1))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Count, E> {
        Ok(Count(1))
    }

    fn visit_str<E>(self, text: &str) -> Result<Count, E> {
        Ok(Count(1 + text.len() as u64 / 64))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Count, E> {
        Ok(Count(1 + bytes.len() as u64 / 64))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Count, A::Error> {
        let mut sum = 1;
        while let Some(Count(count)) = elements.next_element()? {
            sum += count;
        }
        Ok(Count(sum))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Count, A::Error> {
        let mut sum = 1;
        while let Some((Count(key), Count(value))) = entries.next_entry()? {
            sum += key + value;
        }
        Ok(Count(sum))
    }
}

/// The texts, numbers and truth values that a value is, or that an array of them has.
struct Values(Vec<String>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(ValuesVisitor)
    }
}

struct ValuesVisitor;

impl<'de> Visitor<'de> for ValuesVisitor {
    type Value = Values;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Values, E> {
        Ok(Values(vec![value.to_string()]))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Values, E> {
        Ok(Values(vec![value.to_string()]))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Values, E> {
        Ok(Values(vec![value.to_string()]))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Values, E> {
        Ok(Values(vec![value.to_string()]))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Values, E> {
        Ok(Values(vec![value.to_string()]))
    }

    fn visit_str<E>(self, value: &str) -> Result<Values, E> {
        Ok(Values(vec![value.to_owned()]))
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Values, E> {
        Ok(Values(Vec::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Values, A::Error> {
        let mut values = Vec::new();
        while let Some(Values(element)) = elements.next_element()? {
            values.extend(element);
        }
        Ok(Values(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Values, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Values(Vec::new()))
    }
}

fn write(blocks: &mut dyn Iterator<Item = Block>, options: &WriteOptions, out: &mut dyn Write) -> io::Result<()> {
    let mut database = Database::default();
    let mut offsets = HashMap::new();
    for Block { range, until } in blocks {
        let offset = *offsets.entry(until.time()).or_insert_with_key(|end| database.put(&listed(*end)));
        database.insert(range, offset)?;
    }
    database.alias_ipv4()?;
    database.write(EDGEFOLD, options, out)
}

fn listed(end: Option<LogTime>) -> Data {
    let mut record = vec![("listed", Data::Bool(true))];
    record.extend(end.map(|end| ("until", Data::Text(end.to_string()))));
    Data::Map(record)
}

/// A value of a record or of the metadata.
#[derive(Debug)]
enum Data {
    Array(Vec<Data>),
    Bool(bool),
    Map(Vec<(&'static str, Data)>),
    Text(String),
    U16(u16),
    U32(u32),
    U64(u64),
}

impl Data {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                head(2, text.len(), out);
                out.extend(text.as_bytes());
            }
            Self::U16(number) => self::number(5, &number.to_be_bytes(), out),
            Self::U32(number) => self::number(6, &number.to_be_bytes(), out),
            Self::U64(number) => self::number(9, &number.to_be_bytes(), out),
            Self::Map(entries) => {
                head(7, entries.len(), out);
                for (key, value) in entries {
                    Self::Text((*key).to_owned()).encode(out);
                    value.encode(out);
                }
            }
            Self::Array(elements) => {
                head(11, elements.len(), out);
                elements.iter().for_each(|element| element.encode(out));
            }
            Self::Bool(value) => head(14, usize::from(*value), out),
        }
    }
}

fn number(kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    head(kind, bytes.len() - zeros, out);
    out.extend(&bytes[zeros..]);
}

/// The control bytes of a value: its type, and its size. What edgefold writes has fewer than 29 + 256 entries or bytes.
fn head(kind: u8, size: usize, out: &mut Vec<u8>) {
    let (size, more) = match u8::try_from(size) {
        Ok(size) if size < 29 => (size, None),
        _ => (29, Some(u8::try_from(size - 29).unwrap_or(u8::MAX))),
    };
    if kind < 8 {
        out.push(kind << 5 | size);
    } else {
        out.extend([size, kind - 7]);
    }
    out.extend(more);
}

/// A database of IPv6 and IPv4 that is being built. Its networks do not overlap.
struct Database {
    /// The children of each node: [`NOTHING`], a node, or [`RECORD`] and the offset of a record.
    nodes: Vec<[u32; 2]>,
    records: Vec<u8>,
}

/// No record. No node has the root, whose number this is, as a child.
const NOTHING: u32 = 0;
/// Set in what is not the number of a node but the offset of a record.
const RECORD: u32 = 1 << 31;
/// The first address after `::/96`, the IPv4 addresses.
const AFTER_IPV4: u128 = 1 << 32;
const MAPPED: u128 = 0xffff_0000_0000;

impl Default for Database {
    fn default() -> Self {
        Self { nodes: vec![[NOTHING; 2]], records: Vec::new() }
    }
}

impl Database {
    /// Adds a record, and returns its offset.
    fn put(&mut self, record: &Data) -> usize {
        let offset = self.records.len();
        record.encode(&mut self.records);
        offset
    }

    fn insert(&mut self, range: IpRange, offset: usize) -> io::Result<()> {
        let record = u32::try_from(offset).ok().filter(|offset| *offset < RECORD).ok_or_else(too_large)? | RECORD;
        match range {
            IpRange::V4(_) => self.insert_cidrs(range, record),
            IpRange::V6(range) => {
                let (first, last) = (range.first().to_bits(), range.last().to_bits());
                let parts = [(AFTER_IPV4, MAPPED - 1), (MAPPED + AFTER_IPV4, u128::MAX)];
                parts.into_iter().try_for_each(|(from, to)| {
                    let part = AddressRange::new(first.max(from).into(), last.min(to).into());
                    part.map_or(Ok(()), |part| self.insert_cidrs(IpRange::V6(part), record))
                })
            }
        }
    }

    fn insert_cidrs(&mut self, range: IpRange, record: u32) -> io::Result<()> {
        range.cidrs().try_for_each(|cidr| match cidr.network() {
            IpAddr::V4(network) => self.point(u128::from(network.to_bits()), 96 + cidr.prefix_len(), record),
            IpAddr::V6(network) => self.point(network.to_bits(), cidr.prefix_len(), record),
        })
    }

    /// Lets the first `length` bits of `address`, of which there is at least one, lead to `target`.
    fn point(&mut self, address: u128, length: u8, target: u32) -> io::Result<()> {
        let mut node = 0;
        for depth in 0..length {
            let side = usize::from(address >> (127 - depth) & 1 == 1);
            let next = u32::try_from(self.nodes.len()).ok().filter(|next| *next < RECORD).ok_or_else(too_large)?;
            let child = &mut self.nodes[node][side];
            if depth + 1 == length {
                *child = target;
            } else if *child == NOTHING {
                *child = next;
                self.nodes.push([NOTHING; 2]);
                node = self.nodes.len() - 1;
            } else if *child < RECORD {
                node = usize::try_from(*child).map_err(|_| too_large())?;
            } else {
                // The record of a wider network is for these addresses too.
                break;
            }
        }
        Ok(())
    }

    /// What the first 96 bits of IPv4 addresses lead to.
    fn ipv4(&self) -> u32 {
        let mut pointer = 0;
        for _ in 0..96 {
            pointer = match usize::try_from(pointer).ok().and_then(|node| self.nodes.get(node)) {
                Some([left, _]) if *left != NOTHING => *left,
                _ => return NOTHING,
            };
        }
        pointer
    }

    /// Lets the IPv4-mapped addresses lead to what the IPv4 addresses lead to.
    fn alias_ipv4(&mut self) -> io::Result<()> {
        match self.ipv4() {
            NOTHING => Ok(()),
            ipv4 => self.point(MAPPED, 96, ipv4),
        }
    }

    fn write(&self, database_type: &str, options: &WriteOptions, out: &mut dyn Write) -> io::Result<()> {
        let nodes = u32::try_from(self.nodes.len()).map_err(|_| too_large())?;
        let records = u32::try_from(self.records.len() + SEPARATOR.len()).map_err(|_| too_large())?;
        let most = nodes.checked_add(records).ok_or_else(too_large)?;
        let record_size: u16 = if most < 1 << 24 { 24 } else { 32 };
        let skipped = if record_size == 24 { 1 } else { 0 };
        for child in self.nodes.iter().flatten() {
            let pointer = match *child {
                NOTHING => nodes,
                node if node < RECORD => node,
                // At most `most`, which fits.
                record => nodes + 16 + (record - RECORD),
            };
            out.write_all(&pointer.to_be_bytes()[skipped..])?;
        }
        out.write_all(&SEPARATOR)?;
        out.write_all(&self.records)?;
        out.write_all(METADATA_MARKER)?;
        let text = |text: &str| Data::Text(text.to_owned());
        let metadata = Data::Map(vec![
            ("binary_format_major_version", Data::U16(2)),
            ("binary_format_minor_version", Data::U16(0)),
            ("build_epoch", Data::U64(options.now.millis() / 1000)),
            ("database_type", text(database_type)),
            ("description", Data::Map(vec![("en", text(&format!("edgefold list {}", shorten(&options.name))))])),
            ("ip_version", Data::U16(6)),
            ("languages", Data::Array(vec![text("en")])),
            ("node_count", Data::U32(nodes)),
            ("record_size", Data::U16(record_size)),
        ]);
        let mut encoded = Vec::new();
        metadata.encode(&mut encoded);
        out.write_all(&encoded)
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "there are too many ranges for a MaxMind database")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{blocks, now, read_all, round_trip, wanted, written_bytes};

    fn map(entries: Vec<(&'static str, Data)>) -> Data {
        Data::Map(entries)
    }

    fn text(text: &str) -> Data {
        Data::Text(text.to_owned())
    }

    fn database(records: Vec<(&str, Data)>) -> Vec<u8> {
        let mut database = Database::default();
        for (range, record) in records {
            let offset = database.put(&record);
            database.insert(range.parse().unwrap(), offset).unwrap();
        }
        database.alias_ipv4().unwrap();
        file(&database)
    }

    fn file(database: &Database) -> Vec<u8> {
        let mut out = Vec::new();
        database.write("Test", &WriteOptions { now: now(), name: "test".to_owned() }, &mut out).unwrap();
        out
    }

    /// A record as MaxMind's databases of countries have it.
    fn country(code: &str, registered: &str) -> Data {
        let of = |code| map(vec![("geoname_id", Data::U32(2_017_370)), ("iso_code", text(code))]);
        map(vec![("country", of(code)), ("registered_country", of(registered))])
    }

    fn countries() -> Vec<u8> {
        database(vec![
            ("192.0.2.0/24", country("RU", "DE")),
            ("198.51.100.0/24", country("DE", "DE")),
            ("203.0.113.0/24", map(vec![])),
            ("2001:db8::/32", country("RU", "RU")),
        ])
    }

    #[test]
    fn networks_are_chosen_by_paths_of_their_records() {
        for (name, value, expected) in [
            ("country.iso_code", "ru", vec!["192.0.2.0/24", "2001:db8::/32"]),
            ("country", "RU", vec!["192.0.2.0/24", "2001:db8::/32"]),
            ("registered_country.iso_code", "DE", vec!["192.0.2.0/24", "198.51.100.0/24"]),
            ("country.geoname_id", "2017370", vec!["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"]),
            ("country", "FR", vec![]),
        ] {
            let read = read_all(Format::Mmdb, countries(), &wanted(name, value));
            assert_eq!(read, Ok(expected.into_iter().map(Into::into).collect()), "{name}={value}");
        }
        let mut both = wanted("country", "RU");
        both.add("registered_country.iso_code", "RU");
        assert_eq!(read_all(Format::Mmdb, countries(), &both), Ok(vec!["2001:db8::/32".into()]));
    }

    #[test]
    fn without_fields_all_networks_are_read_that_have_a_record_and_ipv4_once() {
        let all = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"];
        assert_eq!(read_all(Format::Mmdb, countries(), &Wanted::default()), Ok(all.map(Into::into).into()));
    }

    #[test]
    fn ipv4_is_read_of_a_database_that_has_it_only_as_ipv4_mapped() {
        let mut database = Database::default();
        database.put(&map(vec![]));
        database.point(MAPPED | u128::from(Ipv4Addr::new(192, 0, 2, 0).to_bits()), 120, RECORD).unwrap();
        database.point(0xffff << 112, 16, RECORD).unwrap();
        let all = ["192.0.2.0/24", "ffff::/16"];
        assert_eq!(read_all(Format::Mmdb, file(&database), &Wanted::default()), Ok(all.map(Into::into).into()));
    }

    #[test]
    fn other_names_and_shapes_of_fields_are_known() {
        let bytes = database(vec![
            ("192.0.2.0/24", map(vec![("autonomous_system_number", Data::U32(64500))])),
            ("198.51.100.0/24", map(vec![("asn", text("AS64500")), ("country_code", text("RU"))])),
            ("203.0.113.0/25", map(vec![("asn", text("AS64501")), ("country", text("RU"))])),
            ("203.0.113.128/25", map(vec![("tags", Data::Array(vec![text("vpn"), map(vec![]), Data::Bool(true)]))])),
        ]);
        for (name, value, expected) in [
            ("asn", "64500", vec!["192.0.2.0/24", "198.51.100.0/24"]),
            ("asn", "as64500", vec!["192.0.2.0/24", "198.51.100.0/24"]),
            ("country", "RU", vec!["198.51.100.0/24", "203.0.113.0/25"]),
            ("tags", "VPN", vec!["203.0.113.128/25"]),
            ("tags.0", "vpn", vec!["203.0.113.128/25"]),
            ("tags", "true", vec!["203.0.113.128/25"]),
        ] {
            let read = read_all(Format::Mmdb, &bytes, &wanted(name, value));
            assert_eq!(read, Ok(expected.into_iter().map(Into::into).collect()), "{name}={value}");
        }
    }

    #[test]
    fn a_field_that_no_record_has_is_an_error() {
        for name in ["country.isocode", "contry", "country.iso_code.x", "country.7", "", "."] {
            let error = read_all(Format::Mmdb, countries(), &wanted(name, "RU")).unwrap_err();
            assert!(error.starts_with(&format!("entries of a MaxMind database have no field {name:?}: ")), "{error}");
        }
    }

    #[test]
    fn what_is_written_reads_back_with_its_ends() {
        let mixed = [
            "0.0.0.0",
            "192.0.2.0/24 until 2026-12-01T00:00:00Z",
            "198.51.100.7",
            "255.255.255.255 until 2026-12-01T00:00:00Z",
            "2001:db8::/32 until 2026-12-01T00:00:00.5Z",
            "2002:c000:201::/48",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ];
        assert_eq!(round_trip(Format::Mmdb, &mixed), mixed);
        assert_eq!(round_trip(Format::Mmdb, &["192.0.2.1-192.0.2.2"]), ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(round_trip(Format::Mmdb, &["0.0.0.0/0"]), ["0.0.0.0/0"]);
        assert_eq!(round_trip(Format::Mmdb, &["::1", "::2:0:0-::3:0:0"]), ["::2:0:0/96", "::3:0:0"]);
        assert_eq!(round_trip(Format::Mmdb, &[]), Vec::<String>::new());
        let all = blocks(&round_trip(Format::Mmdb, &["::/0"]).iter().map(String::as_str).collect::<Vec<_>>());
        assert!(all.iter().all(|block| matches!(block.range, IpRange::V6(_))), "IPv6 is not IPv4");
        assert!(
            ["::1:0:0", "2001:db8::1", "::fffe:ffff:ffff", "::1:0:0:0"]
                .iter()
                .all(|ip| { all.iter().any(|block| block.range.contains(ip.parse().unwrap())) })
        );
    }

    #[test]
    fn the_reference_reader_agrees_with_what_is_written() {
        let blocks = blocks(&["192.0.2.0/24 until 2026-12-01T00:00:00Z", "198.51.100.7", "2001:db8::/32"]);
        let bytes = written_bytes(Format::Mmdb, &blocks);
        let reader = Reader::from_source(bytes.as_slice()).unwrap();
        reader.verify().unwrap();
        let until = |ip: &str| {
            let record =
                reader.lookup(ip.parse().unwrap()).unwrap().decode::<HashMap<String, serde_json::Value>>().unwrap();
            record.map(|record| (record["listed"].clone(), record.get("until").cloned()))
        };
        let listed = |until: Option<&str>| Some((true.into(), until.map(Into::into)));
        assert_eq!(until("192.0.2.7"), listed(Some("2026-12-01T00:00:00Z")));
        assert_eq!(until("::ffff:192.0.2.7"), listed(Some("2026-12-01T00:00:00Z")));
        assert_eq!(until("198.51.100.7"), listed(None));
        assert_eq!(until("2001:db8::7"), listed(None));
        for ip in ["192.0.3.0", "198.51.100.8", "2001:db9::", "2002:c000:207::", "::ffff:192.0.3.0"] {
            assert_eq!(until(ip), None, "{ip}");
        }
    }

    #[test]
    fn a_damaged_file_is_an_error_or_read_otherwise_and_never_a_panic() {
        let bytes = countries();
        for wanted in [Wanted::default(), wanted("country", "RU")] {
            for at in 0..bytes.len() {
                for flip in [1, 0x80, 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= flip;
                    let _ = read_all(Format::Mmdb, &damaged, &wanted);
                }
                let _ = read_all(Format::Mmdb, &bytes[at..], &wanted);
                assert!(read_all(Format::Mmdb, &bytes[..at], &wanted).is_err(), "{at}");
            }
        }
        for file in ["", "192.0.2.0/24\n", "\u{ab}MaxMind.com"] {
            let error = read_all(Format::Mmdb, file, &Wanted::default()).unwrap_err();
            assert!(error.starts_with("this is not a MaxMind database: "), "{error}");
        }
    }

    #[test]
    fn a_small_tree_that_has_more_networks_than_can_be_counted_is_refused() {
        // Both children of each node are the next node. The last are a record, nothing, or the node of the IPv4 addresses.
        for last in [RECORD, NOTHING, 96] {
            let mut bomb = Database { nodes: (1..=120).map(|next| [next; 2]).collect(), records: Vec::new() };
            bomb.put(&map(vec![]));
            bomb.nodes[119] = [last; 2];
            let out = file(&bomb);
            let error = read_all(Format::Mmdb, &out, &Wanted::default()).unwrap_err();
            assert!(error.contains("it is damaged: "), "{last}: {error}");
        }
    }

    #[test]
    fn a_small_file_whose_records_share_large_parts_is_refused() {
        // An array of thousands of values, and one record for each of thousands of networks, which is a pointer to it.
        let mut bomb = Database::default();
        bomb.put(&Data::Array((0..280).map(|_| Data::Bool(true)).collect()));
        let inner = 0_u32;
        let middle = u32::try_from(bomb.records.len()).unwrap();
        head(11, 200, &mut bomb.records);
        (0..200).for_each(|_| bomb.records.extend(pointer(inner)));
        for network in 0..1000_u128 {
            let record = u32::try_from(bomb.records.len()).unwrap();
            bomb.records.extend(pointer(middle));
            bomb.point(network << 8, 120, RECORD | record).unwrap();
        }
        let out = file(&bomb);
        for wanted in [Wanted::default(), wanted("0.0", "true")] {
            let error = read_all(Format::Mmdb, &out, &wanted).unwrap_err();
            assert!(error.contains("it is damaged: its records have too many values"), "{error}");
        }
    }

    /// A pointer to a record, as four bytes after its control byte.
    fn pointer(offset: u32) -> Vec<u8> {
        [vec![0b0011_1000], offset.to_be_bytes().to_vec()].concat()
    }

    #[test]
    fn a_tree_of_ipv4_that_leads_back_to_its_root_is_refused() {
        let cycle = Database { nodes: vec![[1, NOTHING], [RECORD, NOTHING]], records: vec![0xe0] };
        let mut bytes = file(&cycle);
        let version = bytes.windows(10).rposition(|window| window == b"ip_version").unwrap() + 11;
        assert_eq!(bytes[version], 6);
        bytes[version] = 4;
        // The right child of the second node.
        bytes[9..12].fill(0);
        let error = read_all(Format::Mmdb, &bytes, &Wanted::default()).unwrap_err();
        assert!(error.contains("it is damaged: its tree"), "{error}");
    }
}
