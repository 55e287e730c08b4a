//! A text that anyone may have chosen, for a line of a log.

use core::fmt::{self, Write};

/// Displays the text in quotes, with `?` for control characters. `{:?}` would bring Unicode tables into the filter's module.
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
