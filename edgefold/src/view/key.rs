//! The keys of the view. No key of one kind is a key of another: an address and the name of a list have no blank, and no name begins
//! with `@`.

use std::net::IpAddr;

use super::OFFSET_KEY;
use crate::ListName;

/// What comes before the name in the key of what a list does.
const ACTION: &str = "@list ";

/// What a record is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Key {
    /// Which commands the view is the fold of.
    Offset,
    /// What a list does.
    Action(ListName),
    /// The range of a list that begins with an address.
    Range(ListName, IpAddr),
}

impl Key {
    /// `None` if edgefold does not write such a key: there is exactly one text for each.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == OFFSET_KEY {
            return Some(Self::Offset);
        }
        if let Some(name) = text.strip_prefix(ACTION) {
            return name.parse().ok().map(Self::Action);
        }
        let (list, first) = match text.split_once(' ') {
            None => (ListName::DEFAULT, text),
            Some((name, first)) => (name.parse().ok().filter(|name: &ListName| !name.is_default())?, first),
        };
        let address = first.parse().ok().filter(|address| is_canonical(address, first))?;
        Some(Self::Range(list, address))
    }
}

/// The key of what a list does.
pub(super) fn of_action(list: ListName) -> Vec<u8> {
    format!("{ACTION}{list}").into_bytes()
}

/// The key of the range that begins with `first`.
pub(super) fn of_range(list: ListName, first: IpAddr) -> Vec<u8> {
    if list.is_default() { first.to_string().into_bytes() } else { format!("{list} {first}").into_bytes() }
}

/// Whether `text` is how edgefold writes `address`. IPv4 addresses have only one form.
fn is_canonical(address: &IpAddr, text: &str) -> bool {
    match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none() && v6.to_string() == text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nothing_else_is_read() {
        let (named, ip) = ("10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        for (key, expected) in [
            (of_range(ListName::DEFAULT, ip), Key::Range(ListName::DEFAULT, ip)),
            (of_range(named, ip), Key::Range(named, ip)),
            (of_action(named), Key::Action(named)),
            (of_action(ListName::DEFAULT), Key::Action(ListName::DEFAULT)),
            (OFFSET_KEY.into(), Key::Offset),
        ] {
            assert_eq!(Key::parse(str::from_utf8(&key).unwrap()), Some(expected));
        }
        for text in [
            "",
            " ",
            "@list",
            "@list ",
            "@list A",
            "@list a 10.0.0.1",
            "@offset ",
            "@",
            "a",
            "a ",
            "a  10.0.0.1",
            " 10.0.0.1",
            "default 10.0.0.1",
            "A 10.0.0.1",
            "a 010.0.0.1",
            "a 2001:DB8::1",
            "a ::ffff:10.0.0.1",
            "a 10.0.0.1 b",
            "10.0.0.0/24",
        ] {
            assert_eq!(Key::parse(text), None, "{text}");
        }
    }
}
