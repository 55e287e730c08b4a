//! Text of any length, cut to what an error may repeat.

use alloc::string::String;

/// The characters of a text that an error repeats.
const CHARACTERS: usize = 64;

/// Enough of `text` to recognize it by, so that hostile input does not flood a terminal or a log.
pub fn shorten(text: &str) -> String {
    text.chars().take(CHARACTERS).collect()
}
