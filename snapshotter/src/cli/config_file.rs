//! `edgefold.toml`: flags that one always types.
//!
//! A key is the name of a flag. At the top are those that mean the same everywhere; a table is a subcommand. What is in the file becomes
//! flags before those that were typed, so that all that holds for flags holds for it. Flags and environment variables override it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Command};
use toml::{Table, Value};

use super::CliError;

/// Where the file is, if not in one of the usual places. Empty: there is none.
pub(super) const VARIABLE: &str = "EDGEFOLD_CONFIG";

/// The usual places, as the help names them.
pub(super) const PLACES: &str = "$XDG_CONFIG_HOME/edgefold/edgefold.toml (by default in ~/.config), then edgefold/edgefold.toml in \
                                 $XDG_CONFIG_DIRS (by default /etc/xdg), then /etc/edgefold/edgefold.toml";

/// The flags that mean the same for every subcommand that has them.
const EVERYWHERE: [&str; 6] = ["log", "property", "properties-file", "cache", "admin-url", "origin"];

/// Where a flag of that name means something else: `edgefold log --origin` chooses what is printed.
const EXCEPT: (&str, &str) = ("log", "origin");

/// These must be typed each time.
const NEVER: [&str; 2] = ["force", "dry-run"];

/// The file that was found.
#[derive(Debug)]
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    pub(super) defaults: Vec<FlagDefault>,
}

/// A flag's default.
#[derive(Debug)]
pub(super) struct FlagDefault {
    /// The subcommand; `None` for all.
    pub(super) subcommand: Option<String>,
    /// The long name of the flag, without hyphens before it.
    pub(super) flag: String,
    pub(super) values: Vec<String>,
}

impl ConfigFile {
    /// Reads the first file that there is.
    pub(super) fn find() -> Result<Option<Self>, CliError> {
        match env::var_os(VARIABLE) {
            Some(path) if path.is_empty() => Ok(None),
            Some(path) => match Self::read(Path::new(&path)) {
                Err(CliError::File { path, source }) => {
                    Err(CliError::Usage(format!("{VARIABLE} names the file {}: {source}", path.display())))
                }
                read => read.map(Some),
            },
            None => places().into_iter().find(|path| path.is_file()).map(|path| Self::read(&path)).transpose(),
        }
    }

    fn read(path: &Path) -> Result<Self, CliError> {
        let text = std::fs::read_to_string(path).map_err(CliError::file(path))?;
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            // Without the line itself, which may have a password.
            let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            wrong(path, &format!("line {line}: {}", error.message()))
        })?;
        let mut defaults = Vec::new();
        for (key, value) in table {
            match value {
                Value::Table(of_subcommand) => {
                    for (flag, value) in of_subcommand {
                        let values = values(path, &flag, value)?;
                        defaults.push(FlagDefault { subcommand: Some(key.clone()), flag, values });
                    }
                }
                value if EVERYWHERE.contains(&&*key) => {
                    defaults.push(FlagDefault { subcommand: None, values: values(path, &key, value)?, flag: key });
                }
                _ => {
                    let why = format!(
                        "write {key} below the subcommand that has this flag, as in [import]. Only {} stand at the top",
                        EVERYWHERE.join(", ")
                    );
                    return Err(wrong(path, &why));
                }
            }
        }
        if let Some(FlagDefault { flag, .. }) = defaults.iter().find(|default| NEVER.contains(&&*default.flag)) {
            return Err(wrong(path, &format!("--{flag} must be typed each time")));
        }
        Ok(Self { path: path.to_owned(), defaults })
    }

    /// The command line with the flags of the file that were not given, and that environment variables do not set.
    ///
    /// # Errors
    /// A key that is not a flag of a subcommand.
    pub(super) fn add_to(&self, command: &Command, typed: Vec<OsString>) -> Result<Vec<OsString>, CliError> {
        self.check(command)?;
        // The subcommand is the first word: only --help and --version can stand before it.
        let Some(name) = typed.get(1).and_then(|name| name.to_str()) else { return Ok(typed) };
        let Some(mut subcommand) = command.find_subcommand(name) else { return Ok(typed) };
        let mut names = 2;
        while let Some(inner) = typed.get(names).and_then(|name| subcommand.find_subcommand(name)) {
            (subcommand, names) = (inner, names + 1);
        }
        // Whatever is wrong with what was typed is said later.
        let matches = command.clone().ignore_errors(true).try_get_matches_from(&typed).ok();
        let mut matches = matches.as_ref();
        for name in &typed[1..names] {
            matches = matches.and_then(|matches| matches.subcommand_matches(name.to_str()?));
        }
        let is_given = |arg: &Arg| {
            let source = matches.and_then(|matches| matches.value_source(arg.get_id().as_str()));
            matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
        };
        let mut added = Vec::new();
        for default in self.defaults.iter().filter(|default| self.is_in_force(default, name)) {
            let Some(arg) = flag(subcommand, &default.flag) else { continue };
            let rivals = subcommand.get_arg_conflicts_with(arg);
            if is_given(arg) || rivals.into_iter().any(is_given) {
                continue;
            }
            let is_switch = matches!(arg.get_action(), ArgAction::SetTrue)
                || arg.get_num_args().is_some_and(|number| number.min_values() == 0);
            for value in &default.values {
                match value.as_str() {
                    "true" if is_switch => added.push(format!("--{}", default.flag).into()),
                    "false" if is_switch => {}
                    value => added.push(format!("--{}={value}", default.flag).into()),
                }
            }
        }
        let mut all = typed;
        all.splice(names..names, added);
        Ok(all)
    }

    /// Whether a default holds for the subcommand `name`: a table overrides the top.
    fn is_in_force(&self, default: &FlagDefault, name: &str) -> bool {
        let of_table = |other: &FlagDefault| other.flag == default.flag && other.subcommand.as_deref() == Some(name);
        match &default.subcommand {
            Some(subcommand) => subcommand == name,
            None => (name, &*default.flag) != EXCEPT && !self.defaults.iter().any(of_table),
        }
    }

    fn check(&self, command: &Command) -> Result<(), CliError> {
        for FlagDefault { subcommand: of, flag: name, .. } in &self.defaults {
            let mut subcommands = command
                .get_subcommands()
                .filter(|subcommand| of.as_deref().is_none_or(|of| of == subcommand.get_name()));
            let has = |subcommand: &Command| {
                flag(subcommand, name).is_some()
                    || subcommand.get_subcommands().any(|inner| flag(inner, name).is_some())
            };
            if !subcommands.any(has) {
                let of = of.as_ref().map_or("any subcommand".to_owned(), |name| format!("`edgefold {name}`"));
                return Err(wrong(
                    &self.path,
                    &format!("--{name} is not a flag of {of}: a key is the long name of a flag"),
                ));
            }
        }
        Ok(())
    }
}

fn flag<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| arg.get_long() == Some(name))
}

/// The texts that a flag would get. An array is a flag that is given several times.
fn values(path: &Path, flag: &str, value: Value) -> Result<Vec<String>, CliError> {
    let one = |value: Value| match value {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(flag) => Ok(flag.to_string()),
        Value::Datetime(time) => Ok(time.to_string()),
        Value::Array(_) | Value::Table(_) => Err(wrong(path, &format!("{flag}: write a text, a number or true"))),
    };
    match value {
        Value::Array(values) => values.into_iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

fn wrong(path: &Path, why: &str) -> CliError {
    CliError::Usage(format!("{}: {}", path.display(), why.trim_end()))
}

/// Where it may be, by the XDG Base Directory Specification, and then in /etc.
fn places() -> Vec<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let of_user = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).and_then(absolute);
    let of_user = of_user.or_else(|| absolute(PathBuf::from(env::var_os("HOME")?).join(".config")));
    let of_system = env::var_os("XDG_CONFIG_DIRS").filter(|paths| !paths.is_empty()).unwrap_or("/etc/xdg".into());
    let of_system = env::split_paths(&of_system).filter_map(absolute).collect::<Vec<_>>();
    let folders = of_user.into_iter().chain(of_system).chain(["/etc".into()]);
    folders.map(|folder| folder.join("edgefold").join("edgefold.toml")).collect()
}
