//! Who may append what.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use edgefold::{Action, Command, ListName};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tracing::{info, warn};

/// What a token stands for, in the file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The SHA-256 of the token in hexadecimal.
    sha256: String,
    /// The lists that its commands may be about, or `*` for all.
    lists: Vec<String>,
    /// The verbs that its commands may have.
    verbs: BTreeSet<Verb>,
}

/// The verbs, each for all names that mean the same.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
enum Verb {
    #[serde(rename = "BLACKLIST")]
    Blacklist,
    #[serde(rename = "WHITELIST")]
    Whitelist,
    #[serde(rename = "LIST")]
    List,
    #[serde(rename = "UNLIST")]
    Unlist,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Blacklist => "BLACKLIST",
            Self::Whitelist => "WHITELIST",
            Self::List => "LIST",
            Self::Unlist => "UNLIST",
        }
    }
}

/// A token that was presented.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    name: String,
    entry: Entry,
}

/// All tokens. The file is read again when it changes.
#[derive(Debug)]
pub(super) struct Tokens {
    path: PathBuf,
    read: Mutex<Read>,
}

#[derive(Debug)]
struct Read {
    text: String,
    entries: BTreeMap<String, Entry>,
    /// Why the file cannot be used as it is now.
    trouble: Option<String>,
}

/// Why tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not valid.
    #[error("{}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        why: String,
    },
}

impl Tokens {
    pub(super) fn read(path: PathBuf) -> Result<Self, TokensError> {
        let text = read(&path)?;
        let entries = parse(&path, &text)?;
        Ok(Self { path, read: Mutex::new(Read { text, entries, trouble: None }) })
    }

    /// The token that was presented; `None` if there is no such token.
    pub(super) fn find(&self, presented: &str) -> Option<Token> {
        let mut known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let found = read(&self.path).and_then(|text| {
            if text == known.text { Ok(None) } else { parse(&self.path, &text).map(|entries| Some((text, entries))) }
        });
        match found {
            Ok(None) => {}
            Ok(Some((text, entries))) => {
                info!("{}: using the new tokens", self.path.display());
                *known = Read { text, entries, trouble: None };
            }
            Err(error) => {
                let error = error.to_string();
                if known.trouble.as_ref() != Some(&error) {
                    warn!("{error}; the old tokens stay in use");
                    known.trouble = Some(error);
                }
            }
        }
        // The time that this takes says something about the hash, but nothing about a token with that hash.
        let hash = hex(&Sha256::digest(presented.as_bytes()));
        let (name, entry) = known.entries.iter().find(|(_, entry)| entry.sha256.eq_ignore_ascii_case(&hash))?;
        Some(Token { name: name.clone(), entry: entry.clone() })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<String, TokensError> {
    fs::read_to_string(path).map_err(|source| TokensError::File { path: path.to_owned(), source })
}

fn parse(path: &Path, text: &str) -> Result<BTreeMap<String, Entry>, TokensError> {
    let failed = |why: String| TokensError::Content { path: path.to_owned(), why };
    let entries: BTreeMap<String, Entry> = toml::from_str(text).map_err(|error| failed(error.to_string()))?;
    for (name, entry) in &entries {
        // The name becomes the origin of commands.
        let command = format!("BLACKLIST 192.0.2.1 origin={name}");
        if Command::parse(&command).is_ok_and(|command| command.origin.as_ref() != Some(name)) || name.is_empty() {
            return Err(failed(format!("the name {name:?} cannot be an origin: take white space and quotes out")));
        }
        Command::parse(&command).map_err(|error| failed(format!("the name {name:?} cannot be an origin: {error}")))?;
        if entry.sha256.len() != 64 || !entry.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(failed(format!(
                "sha256 of {name} must be the SHA-256 of the token in hexadecimal, as `printf %s TOKEN | sha256sum` prints it"
            )));
        }
        for list in entry.lists.iter().filter(|list| *list != "*") {
            list.parse::<ListName>().map_err(|error| failed(format!("lists of {name}: {list:?}: {error}")))?;
        }
    }
    Ok(entries)
}

impl Token {
    /// Whose it is.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Checks that it may append this command.
    pub(super) fn check(&self, command: &Command) -> Result<(), String> {
        let Self { name, entry } = self;
        let (verb, list) = match &command.action {
            Action::Blacklist { list, .. } => (Verb::Blacklist, Some(list)),
            Action::Whitelist { list, .. } => (Verb::Whitelist, list.as_ref()),
            Action::List { list, .. } => (Verb::List, Some(list)),
            Action::Unlist { list } => (Verb::Unlist, Some(list)),
        };
        if !entry.verbs.contains(&verb) {
            let may: Vec<&str> = entry.verbs.iter().map(|verb| verb.name()).collect();
            return Err(format!("the token of {name} may not append {}, only {}", verb.name(), may.join(" and ")));
        }
        let list = list.map_or("*".to_owned(), ToString::to_string);
        if !entry.lists.iter().any(|allowed| allowed == "*" || *allowed == list) {
            let what = if list == "*" { "all lists".to_owned() } else { format!("list {list}") };
            return Err(format!("the token of {name} may not change {what}, only {}", entry.lists.join(" and ")));
        }
        match &command.origin {
            Some(origin) if origin != name => {
                Err(format!("the origin is that of the token, {name}: leave origin={origin} out"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(lists: &[&str], verbs: &[Verb]) -> Token {
        let lists = lists.iter().map(|list| (*list).to_owned()).collect();
        let entry = Entry { sha256: String::new(), lists, verbs: verbs.iter().copied().collect() };
        Token { name: "waf".to_owned(), entry }
    }

    fn check(token: &Token, text: &str) -> Result<(), String> {
        token.check(&Command::parse(text).unwrap())
    }

    #[test]
    fn a_token_is_limited_to_its_lists_and_verbs() {
        let waf = token(&["default", "waf"], &[Verb::Blacklist]);
        for text in ["BLACKLIST 10.0.0.1", "ADD 10.0.0.1 list=waf", "BLOCK 10.0.0.1 origin=waf"] {
            assert_eq!(check(&waf, text), Ok(()), "{text}");
        }
        for (text, why) in [
            ("BLACKLIST 10.0.0.1 list=monitoring", "may not change list monitoring, only default and waf"),
            ("WHITELIST 10.0.0.1", "may not append WHITELIST, only BLACKLIST"),
            ("LIST waf action=exempt", "may not append LIST"),
            ("UNLIST waf", "may not append UNLIST"),
            ("BLACKLIST 10.0.0.1 origin=ops", "leave origin=ops out"),
        ] {
            assert!(check(&waf, text).unwrap_err().contains(why), "{text}");
        }
        let one = token(&["waf"], &[Verb::Whitelist]);
        assert!(check(&one, "WHITELIST 10.0.0.1 list=*").unwrap_err().contains("all lists"));
        assert_eq!(check(&token(&["*"], &[Verb::Whitelist]), "WHITELIST 10.0.0.1 list=*"), Ok(()));
    }

    #[test]
    fn a_file_that_is_not_valid_says_what_would_be_right() {
        let hash = "0".repeat(64);
        let valid = format!("[waf]\nsha256 = \"{hash}\"\nlists = [\"*\"]\nverbs = [\"BLACKLIST\"]\n");
        assert_eq!(parse(Path::new("tokens"), &valid).unwrap().len(), 1);
        for (from, to, why) in [
            ("BLACKLIST", "BLOCK", "unknown variant `BLOCK`"),
            (hash.as_str(), "secret", "sha256sum"),
            ("[waf]", "[\"w a f\"]", "cannot be an origin"),
            ("\"*\"", "\"a b\"", "lists of waf"),
            ("lists", "list", "unknown field"),
        ] {
            let error = parse(Path::new("tokens"), &valid.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
