//! A text that may be anybody's, for a line of a log.

use core::fmt::{self, Write};

/// The text in quotes, with `?` for control characters. What `{:?}` does brings tables of Unicode into the filter.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(
    /// The text.
    pub &'a str,
);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for character in self.0.chars() {
            f.write_char(if character.is_control() { '?' } else { character })?;
        }
        f.write_char('"')
    }
}
