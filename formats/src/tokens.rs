//! Splits configuration files into words, quoted texts and marks such as braces, and those into statements. Their lengths are bounded.

use std::io::{self, BufRead};

/// The most bytes of a word or quoted text. What is longer is bad.
const MAX_TOKEN_BYTES: usize = 4096;
/// The most words of a statement. What has more is bad.
const MAX_WORDS: usize = 64;

/// What one kind of file consists of. Comments begin with `#`, and end with their line.
pub(crate) struct Syntax {
    /// The characters that are tokens of their own.
    pub(crate) marks: &'static [u8],
    /// What texts are quoted with.
    pub(crate) quotes: &'static [u8],
    /// Whether a backslash in a quoted text makes the character after it a part of the text.
    pub(crate) has_escapes: bool,
    /// Whether `/* ... */` is a comment too.
    pub(crate) has_block_comments: bool,
}

/// A piece of a file. Its text is in [`Tokens::text`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Token {
    Word,
    Quoted,
    Mark(u8),
    /// The end of a line.
    NewLine,
    /// What is not a token, and why.
    Bad(&'static str),
    /// The end of the file.
    End,
}

/// Reads tokens.
pub(crate) struct Tokens<'a> {
    input: &'a mut dyn BufRead,
    syntax: Syntax,
    /// The line of the next byte.
    next_line: u64,
    /// The line of the last token.
    line: u64,
    bytes: Vec<u8>,
    text: String,
    is_too_long: bool,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(input: &'a mut dyn BufRead, syntax: Syntax) -> Self {
        let (bytes, text) = (Vec::new(), String::new());
        Self { input, syntax, next_line: 1, line: 1, bytes, text, is_too_long: false }
    }

    /// The line of the last token, from 1.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// The text of the last word or quoted text, without quotes, or what could be kept of a bad one.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn next(&mut self) -> io::Result<Token> {
        loop {
            self.bytes.clear();
            self.text.clear();
            self.is_too_long = false;
            self.line = self.next_line;
            let Some(byte) = self.peek()? else { return Ok(Token::End) };
            match byte {
                b'\n' => {
                    self.take();
                    return Ok(Token::NewLine);
                }
                b'#' => self.skip_line()?,
                _ if self.syntax.quotes.contains(&byte) => return self.quoted(byte),
                _ if byte.is_ascii_whitespace() => self.take(),
                _ if self.syntax.marks.contains(&byte) => {
                    self.take();
                    self.text.push(char::from(byte));
                    return Ok(Token::Mark(byte));
                }
                _ => {
                    self.word()?;
                    if self.syntax.has_block_comments && self.bytes.starts_with(b"/*") {
                        if !self.skip_block_comment()? {
                            return Ok(Token::Bad("the comment is not closed: close it with */"));
                        }
                        continue;
                    }
                    return Ok(self.checked(Token::Word));
                }
            }
        }
    }

    /// The token after those at which lines end.
    pub(crate) fn next_on_any_line(&mut self) -> io::Result<Token> {
        loop {
            match self.next()? {
                Token::NewLine => {}
                token => return Ok(token),
            }
        }
    }

    fn word(&mut self) -> io::Result<()> {
        while let Some(byte) = self.peek()? {
            let syntax = &self.syntax;
            let ends = byte.is_ascii_whitespace() || syntax.quotes.contains(&byte) || syntax.marks.contains(&byte);
            if ends || (self.syntax.has_block_comments && self.bytes == b"/*") {
                break;
            }
            self.keep(byte);
            self.take();
        }
        Ok(())
    }

    /// A quoted text ends with its line at the latest, so that a quote that is not closed spoils one entry and not the whole file.
    fn quoted(&mut self, quote: u8) -> io::Result<Token> {
        self.take();
        loop {
            match self.peek()? {
                None | Some(b'\n') => {
                    self.checked(Token::Quoted);
                    return Ok(Token::Bad("the quote is not closed in its line"));
                }
                Some(byte) if byte == quote => {
                    self.take();
                    return Ok(self.checked(Token::Quoted));
                }
                Some(b'\\') if self.syntax.has_escapes => {
                    self.take();
                    if let Some(byte) = self.peek()?.filter(|byte| *byte != b'\n') {
                        self.keep(byte);
                        self.take();
                    }
                }
                Some(byte) => {
                    self.keep(byte);
                    self.take();
                }
            }
        }
    }

    /// Whether the comment was closed.
    fn skip_block_comment(&mut self) -> io::Result<bool> {
        let mut was_star = false;
        while let Some(byte) = self.peek()? {
            self.take();
            if was_star && byte == b'/' {
                return Ok(true);
            }
            was_star = byte == b'*';
        }
        Ok(false)
    }

    fn skip_line(&mut self) -> io::Result<()> {
        while self.peek()?.is_some_and(|byte| byte != b'\n') {
            self.take();
        }
        Ok(())
    }

    fn checked(&mut self, token: Token) -> Token {
        self.text.push_str(&String::from_utf8_lossy(&self.bytes));
        match token {
            _ if self.is_too_long => Token::Bad("it is too long"),
            _ if std::str::from_utf8(&self.bytes).is_err() => Token::Bad("it is not UTF-8"),
            token => token,
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.bytes.len() < MAX_TOKEN_BYTES {
            self.bytes.push(byte);
        } else {
            self.is_too_long = true;
        }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.input.fill_buf()?.first().copied())
    }

    /// Passes over the byte that was seen.
    fn take(&mut self) {
        if let Ok([b'\n', ..]) = self.input.fill_buf() {
            self.next_line += 1;
        }
        self.input.consume(1);
    }
}

/// How a statement ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    /// With `;`.
    Semicolon,
    /// With `{`: what follows is inside it.
    Open,
    /// With `}`, which also closes what it is in.
    Close,
    /// With its line, where that ends statements.
    NewLine,
    /// With the file.
    File,
}

/// Words up to a mark.
#[derive(Debug)]
pub(crate) struct Statement {
    /// The line of its first word, or of the mark.
    pub(crate) line: u64,
    pub(crate) words: Vec<String>,
    pub(crate) ended: Ended,
    /// Why it cannot be read.
    pub(crate) bad: Option<&'static str>,
}

impl Statement {
    /// As it was written, but for blanks and quotes.
    pub(crate) fn text(&self) -> String {
        self.words.join(" ")
    }

    pub(crate) fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }
}

/// Reads the statement that follows, of a syntax with the marks `{`, `}` and `;`. Lines end statements whose first word is one of
/// `of_one_line`.
pub(crate) fn statement(tokens: &mut Tokens<'_>, of_one_line: &[&str]) -> io::Result<Statement> {
    let mut statement = Statement { line: 0, words: Vec::new(), ended: Ended::File, bad: None };
    loop {
        let token = tokens.next()?;
        let ended = match token {
            Token::NewLine if statement.words.first().is_some_and(|word| of_one_line.contains(&word.as_str())) => {
                Ended::NewLine
            }
            Token::NewLine => continue,
            Token::Mark(b';') => Ended::Semicolon,
            Token::Mark(b'{') => Ended::Open,
            Token::Mark(b'}') => Ended::Close,
            Token::End => Ended::File,
            Token::Mark(_) | Token::Word | Token::Quoted | Token::Bad(_) => {
                if statement.words.is_empty() {
                    statement.line = tokens.line();
                }
                match token {
                    Token::Bad(why) => statement.bad = Some(why),
                    _ if statement.words.len() == MAX_WORDS => statement.bad = Some("it has too many words"),
                    _ => {}
                }
                if statement.words.len() < MAX_WORDS {
                    statement.words.push(tokens.text().to_owned());
                }
                continue;
            }
        };
        if statement.words.is_empty() {
            statement.line = tokens.line();
        }
        statement.ended = ended;
        return Ok(statement);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNTAX: Syntax = Syntax { marks: b"{};", quotes: b"\"'", has_escapes: true, has_block_comments: true };

    fn all(text: &[u8]) -> Vec<(u64, Token, String)> {
        let mut input = text;
        let mut tokens = Tokens::new(&mut input, SYNTAX);
        let mut found = Vec::new();
        loop {
            let token = tokens.next_on_any_line().unwrap();
            if token == Token::End {
                return found;
            }
            found.push((tokens.line(), token, tokens.text().to_owned()));
        }
    }

    #[test]
    fn tokens_have_their_lines() {
        let found = all(b"a {\n  b-1 \"c \\\" d\"; # no { here\n/* nor\n{ here */ e}\n/*x*/'f'");
        let found: Vec<_> = found.iter().map(|(line, _, text)| (*line, text.as_str())).collect();
        let expected = [(1, "a"), (1, "{"), (2, "b-1"), (2, "c \" d"), (2, ";"), (4, "e"), (4, "}"), (5, "f")];
        assert_eq!(found, expected);
    }

    #[test]
    fn hostile_tokens_are_bad_and_short() {
        let long = [b"a ".as_slice(), &b"x".repeat(1 << 20), b" b"].concat();
        let found = all(&long);
        assert_eq!(found.len(), 3);
        assert_eq!((found[1].1, found[1].2.len()), (Token::Bad("it is too long"), MAX_TOKEN_BYTES));
        assert_eq!(all(b"\xff\xfe a")[0].1, Token::Bad("it is not UTF-8"));
        assert_eq!(all(b"\"a\nb")[0].1, Token::Bad("the quote is not closed in its line"));
        assert_eq!(all(b"\"a\nb")[1], (2, Token::Word, "b".to_owned()));
        assert_eq!(all(b"/* a")[0].1, Token::Bad("the comment is not closed: close it with */"));
        assert_eq!(all(b"\"a\\"), [(1, Token::Bad("the quote is not closed in its line"), "a".to_owned())]);
    }

    #[test]
    fn a_statement_has_a_limited_number_of_words() {
        let text = format!("{};", "a ".repeat(100_000));
        let mut input = text.as_bytes();
        let mut tokens = Tokens::new(&mut input, SYNTAX);
        let statement = statement(&mut tokens, &[]).unwrap();
        assert_eq!((statement.words.len(), statement.bad), (MAX_WORDS, Some("it has too many words")));
        assert_eq!(statement.ended, Ended::Semicolon);
    }
}
