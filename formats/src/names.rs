//! Names of sets, tables and variables, made from the name of a list: lower-case letters, digits, `.`, `_` and `-`, and the first is a
//! letter or a digit.

use std::borrow::Cow;

/// A name with `_` for all characters that the name of a list does not have, so that no name can end what it is written into.
pub(crate) fn safe(name: &str) -> String {
    let is_allowed = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || matches!(char, '.' | '_' | '-');
    let name: String = name.chars().take(63).map(|char| if is_allowed(char) { char } else { '_' }).collect();
    if name.starts_with(|first: char| first.is_ascii_alphanumeric()) { name } else { format!("l{name}") }
}

/// The beginning of a name, for programs that have a limit.
pub(crate) fn at_most(name: &str, most: usize) -> &str {
    name.get(..most).unwrap_or(name)
}

/// With a letter in front, for programs whose names do not begin with a digit.
pub(crate) fn with_letter_first(name: &str) -> Cow<'_, str> {
    if name.starts_with(|first: char| first.is_ascii_alphabetic()) { name.into() } else { format!("l-{name}").into() }
}

/// With `_` for all but letters and digits.
pub(crate) fn word(name: &str) -> String {
    name.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_to_fit() {
        assert_eq!(safe("2024.tor-exits_1"), "2024.tor-exits_1");
        assert_eq!(safe("A b\";\n{é"), "l__b_____");
        assert_eq!(safe(""), "l");
        assert_eq!(at_most("tor-exits", 3), "tor");
        assert_eq!(at_most("tor", 28), "tor");
        assert_eq!(with_letter_first("2024-tor"), "l-2024-tor");
        assert_eq!(with_letter_first("tor"), "tor");
        assert_eq!(word("tor-exits.v2"), "tor_exits_v2");
    }
}
