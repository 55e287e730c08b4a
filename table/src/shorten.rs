//! Text of any length, cut to what an error may repeat.

use alloc::string::String;

/// The characters of a text that an error repeats.
const CHARACTERS: usize = 64;

/// Enough of `text` to recognize it by, so that hostile input does not flood a terminal or a log.
pub fn shorten(text: &str) -> String {
    text.chars().take(CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_a_character() {
        assert_eq!(shorten("10.0.0.300"), "10.0.0.300");
        assert_eq!(shorten(&"é".repeat(65)), "é".repeat(64));
    }
}
