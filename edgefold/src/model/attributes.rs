//! The attributes of a command: words of the form `name=value`, with values that can be quoted.

use std::borrow::Cow;
use std::fmt;

use super::command::CommandError;

/// The attribute that can be given more than once.
const REPEATED: &str = "header";

/// Attributes that were read, and not taken yet.
pub(super) struct Attributes<'a>(Vec<(&'a str, Cow<'a, str>)>);

impl<'a> Attributes<'a> {
    /// Reads all of `text`, with names that are `known`.
    pub(super) fn parse(
        mut text: &'a str,
        known: impl Fn(&str) -> Result<(), CommandError>,
    ) -> Result<Self, CommandError> {
        let mut this = Self(Vec::new());
        while !text.is_empty() {
            text = this.read(text, &known)?;
        }
        Ok(this)
    }

    /// Reads one attribute at the start of `text`, and returns the rest.
    fn read(
        &mut self,
        text: &'a str,
        known: impl Fn(&str) -> Result<(), CommandError>,
    ) -> Result<&'a str, CommandError> {
        let end = text.find([' ', '\t', '=']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        known(name)?;
        let Some(value) = rest.strip_prefix('=') else {
            return Err(CommandError::NoValue { name: name.to_owned() });
        };
        let (value, rest) = match value.strip_prefix('"') {
            Some(quoted) => unquote(name, quoted)?,
            None => {
                let (word, rest) = next_word(value);
                (Cow::Borrowed(word), rest)
            }
        };
        if value.is_empty() {
            return Err(CommandError::NoValue { name: name.to_owned() });
        }
        if name != REPEATED && self.0.iter().any(|(other, _)| *other == name) {
            return Err(CommandError::DoubledAttribute { name: name.to_owned() });
        }
        self.0.push((name, value));
        Ok(rest)
    }

    /// The value of the first attribute with this name that was not taken before.
    pub(super) fn take(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let at = self.0.iter().position(|(other, _)| *other == name)?;
        Some(self.0.remove(at).1)
    }
}

/// Splits `text` at the first blank, and skips the blanks there. The word is empty if `text` starts with a blank.
pub(super) fn next_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_at(text.find([' ', '\t']).unwrap_or(text.len()));
    (word, skip_blanks(rest))
}

fn skip_blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// Reads up to the closing quote, and returns the value and the rest.
fn unquote<'a>(name: &str, quoted: &'a str) -> Result<(Cow<'a, str>, &'a str), CommandError> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                let rest = &quoted[at + 1..];
                if !(rest.is_empty() || rest.starts_with([' ', '\t'])) {
                    return Err(CommandError::AfterQuote { name: name.to_owned() });
                }
                return Ok((Cow::Owned(value), skip_blanks(rest)));
            }
            '\\' => match characters.next() {
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                _ => return Err(CommandError::Escape { name: name.to_owned() }),
            },
            _ => value.push(character),
        }
    }
    Err(CommandError::UnclosedQuote { name: name.to_owned() })
}

/// A value in quotes, as it is read back.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('\\', r"\\").replace('"', "\\\""))
    }
}
