//! What a list is called, and what it does.

use alloc::string::String;
use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode, impl_borrow_decode};
use edgefold_table::shorten;
use xxhash_rust::xxh3::xxh3_64;

use crate::{Named, Refusal};

/// The most lists with a name of their own that a log can have at a time, beside the default list.
pub const MAX_NAMED_LISTS: usize = 64;

/// The name of a list: 1 to 63 lower-case letters, digits, `.`, `_` and `-`, of which the first is a letter or a digit.
///
/// [`ListName::DEFAULT`] is the list of commands that name none.
///
/// ```
/// use edgefold_snapshot::ListName;
///
/// let name: ListName = "tor-exits".parse()?;
/// assert_eq!(name.to_string(), "tor-exits");
/// assert!("Tor exits".parse::<ListName>().is_err());
/// # Ok::<(), edgefold_snapshot::ListNameError>(())
/// ```
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct ListName {
    /// Inline, so that reading a command allocates nothing. What follows the name is zero.
    bytes: [u8; Self::MAX_BYTES],
    len: u8,
}

impl ListName {
    /// The longest name.
    pub const MAX_BYTES: usize = 63;
    /// The list of commands that name none. It always exists.
    pub const DEFAULT: Self = {
        let mut bytes = [0; Self::MAX_BYTES];
        bytes.split_at_mut(7).0.copy_from_slice(b"default");
        Self { bytes, len: 7 }
    };

    /// The name as text.
    pub fn as_str(&self) -> &str {
        // Nothing but ASCII gets into a name.
        self.bytes.get(..self.len.into()).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// Whether this is the default list.
    pub fn is_default(&self) -> bool {
        *self == Self::DEFAULT
    }
}

impl FromStr for ListName {
    type Err = ListNameError;

    fn from_str(text: &str) -> Result<Self, ListNameError> {
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let mut name = Self { bytes: [0; Self::MAX_BYTES], len: 0 };
        let place = name.bytes.get_mut(..text.len());
        match (place, u8::try_from(text.len())) {
            (Some(place), Ok(len)) if text.bytes().next().is_some_and(is_first) && text.bytes().all(is_inner) => {
                place.copy_from_slice(text.as_bytes());
                name.len = len;
                Ok(name)
            }
            _ => Err(ListNameError { text: shorten(text) }),
        }
    }
}

/// The default list comes first, and all others by their bytes.
impl Ord for ListName {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        let key = |name: &Self| !name.is_default();
        key(self).cmp(&key(other)).then_with(|| self.as_str().cmp(other.as_str()))
    }
}

impl PartialOrd for ListName {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ListName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ListName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A string.
impl Encode for ListName {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.as_str().encode(encoder)
    }
}

impl<Context> Decode<Context> for ListName {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        String::decode(decoder)?.parse().map_err(|_| DecodeError::Other("the name of a list has another form"))
    }
}

impl_borrow_decode!(ListName);

/// A text that is not the name of a list.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{text:?} is not the name of a list: write 1 to 63 lower-case letters, digits, \".\", \"_\" or \"-\", with a letter or a digit first"
)]
pub struct ListNameError {
    text: String,
}

/// What happens to clients whose address is on a list.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum ListAction {
    /// They are refused.
    Deny {
        /// The part of the clients that is refused.
        share: Share,
        /// The response to a refused request; that of the [`Settings`](crate::Settings) if `None`.
        refusal: Option<Refusal>,
    },
    /// They pass, and are counted and reported.
    Shadow,
    /// They pass, whatever other lists say.
    Exempt,
    /// They pass, and the upstream is told the name of the list.
    Tag,
}

/// [`ListAction::DEFAULT`].
impl Default for ListAction {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl ListAction {
    /// That of a list about which no command says what it does: all its clients are refused.
    pub const DEFAULT: Self = Self::Deny { share: Share::ALL, refusal: None };

    /// `deny`, `shadow`, `exempt` or `tag`.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// Which of the four it is.
    pub fn kind(&self) -> ListKind {
        match self {
            Self::Deny { .. } => ListKind::Deny,
            Self::Shadow => ListKind::Shadow,
            Self::Exempt => ListKind::Exempt,
            Self::Tag => ListKind::Tag,
        }
    }

    /// Whether it is about the client with this address: only a refusal can leave some out.
    pub fn applies_to(&self, ip: IpAddr) -> bool {
        if let Self::Deny { share, .. } = self { share.contains(ip) } else { true }
    }
}

/// Which of its four kinds a [`ListAction`] is. A byte, so that those of all lists are in one place for a lookup.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListKind {
    /// [`ListAction::Deny`].
    Deny,
    /// [`ListAction::Shadow`].
    Shadow,
    /// [`ListAction::Exempt`].
    Exempt,
    /// [`ListAction::Tag`].
    Tag,
}

impl Named for ListKind {
    const ALL: &'static [(&'static str, Self)] =
        &[("deny", Self::Deny), ("shadow", Self::Shadow), ("exempt", Self::Exempt), ("tag", Self::Tag)];
}

/// A part of all clients, in whole percent. Which clients are in it depends on nothing but their address, so a client is always in
/// or always out, and a larger share only adds clients.
///
/// ```
/// use edgefold_snapshot::Share;
///
/// let (small, large): (Share, Share) = ("25%".parse()?, "50%".parse()?);
/// let ip = "192.0.2.7".parse()?;
/// assert!(!small.contains(ip) || large.contains(ip));
/// assert!(Share::ALL.contains(ip));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share {
    percent: u8,
}

impl Share {
    /// All clients.
    pub const ALL: Self = Self { percent: 100 };
    /// No client.
    pub const NONE: Self = Self { percent: 0 };

    /// Whether the client with this address is in the share. An IPv4-mapped IPv6 address is the IPv4 address in it.
    pub fn contains(self, ip: IpAddr) -> bool {
        // All is by far the most frequent, and costs no hash.
        self == Self::ALL || bucket(ip) < u64::from(self.percent)
    }
}

/// One of a hundred parts of equal size: `docs/semantics.md` is the authority, since every worker and replica must agree.
fn bucket(ip: IpAddr) -> u64 {
    let bits = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    xxh3_64(&bits.to_be_bytes()) % 100
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let error = || ShareError { text: shorten(text) };
        let digits = text.strip_suffix('%').ok_or_else(error)?;
        // No sign, and one form for each number.
        let is_plain = digits == "0" || digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
        let percent: u8 = digits.parse().map_err(|_| error())?;
        if is_plain && percent <= 100 { Ok(Self { percent }) } else { Err(error()) }
    }
}

/// `25%`
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent)
    }
}

/// One byte.
impl Encode for Share {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.percent.encode(encoder)
    }
}

impl<Context> Decode<Context> for Share {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u8::decode(decoder)? {
            percent @ 0..=100 => Ok(Self { percent }),
            _ => Err(DecodeError::Other("a share is more than 100 percent")),
        }
    }
}

impl_borrow_decode!(Share);

/// A text that is not a share.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is not a share: write a whole number from 0 to 100 with a percent sign, as in 25%")]
pub struct ShareError {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_form() {
        let longest = "x".repeat(63);
        for text in ["default", "a", "0", "tor-exits", "feed_1.v2", &longest] {
            assert_eq!(text.parse::<ListName>().unwrap().as_str(), text);
        }
        let too_long = "x".repeat(64);
        for text in
            ["", ".a", "-a", "_a", "A", "a b", "a/b", "a:b", "*", "é", "@offset", "a\0", &too_long, &"x".repeat(300)]
        {
            assert!(text.parse::<ListName>().unwrap_err().to_string().contains("is not the name of a list"), "{text}");
        }
        assert!("default".parse::<ListName>().unwrap().is_default());
    }

    #[test]
    fn the_default_list_comes_first() {
        let mut names: alloc::vec::Vec<ListName> =
            ["b", "default", "a", "aa", "0", "a-"].map(|name| name.parse().unwrap()).to_vec();
        names.sort();
        let names: alloc::vec::Vec<&str> = names.iter().map(ListName::as_str).collect();
        assert_eq!(names, ["default", "0", "a", "a-", "aa", "b"]);
    }

    #[test]
    fn a_share_is_a_whole_number_of_percent() {
        for text in ["0%", "1%", "25%", "100%"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
        for text in ["", "%", "25", "101%", "-1%", "+1%", "01%", "1.5%", "256%", "1 %", "½%"] {
            assert!(text.parse::<Share>().unwrap_err().to_string().contains("is not a share"), "{text}");
        }
    }

    #[test]
    fn a_share_of_many_addresses_is_within_a_point_and_only_grows() {
        let v4 = (0..100_000_u32).map(|host| IpAddr::V4((0x0a00_0000 + host).into()));
        let v6 = (0..100_000_u128).map(|host| IpAddr::V6(((0x2001_0db8 << 96) + host).into()));
        for addresses in [v4.collect::<alloc::vec::Vec<_>>(), v6.collect()] {
            let mut before: Option<Share> = None;
            for percent in [0_u8, 1, 10, 25, 50, 90, 99, 100] {
                let share = Share { percent };
                let count = addresses.iter().filter(|ip| share.contains(**ip)).count();
                assert!(count.abs_diff(usize::from(percent) * 1_000) < 1_000, "{share}: {count}");
                if let Some(before) = before {
                    assert!(addresses.iter().all(|ip| !before.contains(*ip) || share.contains(*ip)));
                }
                before = Some(share);
            }
        }
    }

    #[test]
    fn a_mapped_address_is_in_the_share_of_its_ipv4_address() {
        let share = Share { percent: 50 };
        for host in 0..100_u32 {
            let ip = core::net::Ipv4Addr::from(0x0a00_0000 + host);
            assert_eq!(share.contains(ip.into()), share.contains(ip.to_ipv6_mapped().into()));
        }
        // Every build must agree with those that run already.
        let known = ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(|ip| bucket(ip.parse().unwrap()));
        assert_eq!(known, [38, 12, 84]);
    }
}
