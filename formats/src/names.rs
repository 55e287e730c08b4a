//! Names of sets, tables and variables, made from the name of a list: lower-case letters, digits, `.`, `_` and `-`, and the first is a
//! letter or a digit.
//!
//! Two lists must never share an object, so a name that has to be changed gets a hash of the whole name at its end. Other names stay.

/// The most bytes of a name, as of the name of a list.
const MOST_BYTES: usize = 63;

/// A name without characters that the name of a list does not have, so that no name can end what it is written into.
pub(crate) fn safe(name: &str) -> String {
    let is_allowed = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || matches!(char, '.' | '_' | '-');
    let is_safe = name.chars().all(is_allowed)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.len() <= MOST_BYTES;
    if is_safe {
        return name.to_owned();
    }
    let replaced: String = name.chars().map(|char| if is_allowed(char) { char } else { '_' }).collect();
    at_most(&with_hash(&format!("l{replaced}"), '-', name), MOST_BYTES)
}

/// The beginning of a name, for programs that have a limit, which is more than the length of a hash.
pub(crate) fn at_most(name: &str, most: usize) -> String {
    if name.len() <= most {
        return name.to_owned();
    }
    let hash = hash(name);
    format!("{}-{hash}", name.get(..most - hash.len() - 1).unwrap_or_default())
}

/// With a letter in front, for programs whose names do not begin with a digit.
pub(crate) fn with_letter_first(name: &str) -> String {
    let has_letter = name.starts_with(|first: char| first.is_ascii_alphabetic());
    if has_letter { name.to_owned() } else { with_hash(&format!("l-{name}"), '-', name) }
}

/// With `_` for all but letters and digits.
pub(crate) fn word(name: &str) -> String {
    let word: String = name.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '_' }).collect();
    if word == name { word } else { with_hash(&word, '_', name) }
}

fn with_hash(changed: &str, separator: char, name: &str) -> String {
    format!("{changed}{separator}{}", hash(name))
}

/// Eight digits of a hash (FNV-1a), which is the same in all versions: objects with these names stay where they are written.
fn hash(name: &str) -> String {
    let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, add);
    format!("{:08x}", (hash ^ (hash >> 32)) & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fit_stay() {
        assert_eq!(safe("2024.tor-exits_1"), "2024.tor-exits_1");
        assert_eq!(at_most("tor", 28), "tor");
        assert_eq!(with_letter_first("tor"), "tor");
        assert_eq!(word("tor1"), "tor1");
    }

    #[test]
    fn names_that_do_not_fit_are_changed_and_end_in_a_hash() {
        assert_eq!(word("tor-exits"), format!("tor_exits_{}", hash("tor-exits")));
        assert_eq!(with_letter_first("2024-tor"), format!("l-2024-tor-{}", hash("2024-tor")));
        assert_eq!(safe("A b\";\n{é"), format!("l__b_____-{}", hash("A b\";\n{é")));
        assert_eq!(hash("tor-exits").len(), 8);
        let long = at_most(&"a".repeat(63), 28);
        assert!(long.len() == 28 && long.starts_with("aaaaaaaaaaaaaaaaaaa-"), "{long}");
        assert!(safe(&"é".repeat(100)).len() <= MOST_BYTES && safe("").starts_with("l-"));
    }

    #[test]
    fn two_names_are_never_made_the_same() {
        for (one, other) in [("tor-exits", "tor.exits"), ("tor_exits", "tor-exits"), ("tor.exits", "tor_exits")] {
            assert_ne!(word(one), word(other));
        }
        assert_ne!(with_letter_first("1"), with_letter_first("l-1"));
        assert_ne!(safe("A"), safe("B"));
        assert_ne!(safe(&"A".repeat(100)), safe(&"A".repeat(101)));
        let cut = |last: &str| at_most(&format!("{}{last}", "a".repeat(40)), 28);
        assert_ne!(cut("1"), cut("2"));
    }
}
