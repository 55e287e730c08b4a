//! `edgefold.toml`: defaults of flags, for what one would not type twice.
//!
//! A key is the name of a flag. At the top are those that mean the same everywhere; a table is a subcommand. Flags and environment variables
//! override the file.

use std::env;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Command};
use toml::{Table, Value};

use super::CliError;

/// Where the file is, if not in one of the usual places. Empty: there is none.
pub(super) const VARIABLE: &str = "EDGEFOLD_CONFIG";

/// The usual places, as the help names them.
pub(super) const PLACES: &str = "$XDG_CONFIG_HOME/edgefold/edgefold.toml (by default in ~/.config), then edgefold/edgefold.toml in \
                                 $XDG_CONFIG_DIRS (by default /etc/xdg), then /etc/edgefold/edgefold.toml";

/// The flags that mean the same for every subcommand that has them.
const EVERYWHERE: [&str; 5] = ["log", "property", "properties-file", "admin-url", "origin"];

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
            Some(path) => Self::read(Path::new(&path)).map(Some),
            None => places().into_iter().find(|path| path.is_file()).map(|path| Self::read(&path)).transpose(),
        }
    }

    fn read(path: &Path) -> Result<Self, CliError> {
        let text = std::fs::read_to_string(path).map_err(CliError::file(path))?;
        let table: Table = text.parse().map_err(|error: toml::de::Error| wrong(path, &error.to_string()))?;
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
                        "{key} does not mean the same everywhere: write it below the subcommand, as in [import]. Only {} stand alone",
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

    /// The command line with these defaults.
    ///
    /// # Errors
    /// A key that is no flag of a subcommand.
    pub(super) fn apply(&self, mut command: Command) -> Result<Command, CliError> {
        for default in &self.defaults {
            let mut is_used = false;
            command = command.mut_subcommands(|subcommand| {
                let is_wanted = match &default.subcommand {
                    Some(wanted) => wanted == subcommand.get_name(),
                    None => (subcommand.get_name(), &*default.flag) != EXCEPT,
                };
                if is_wanted { set_default(subcommand, default, &mut is_used) } else { subcommand }
            });
            if !is_used {
                let of = default
                    .subcommand
                    .as_ref()
                    .map_or("any subcommand".to_owned(), |name| format!("`edgefold {name}`"));
                return Err(wrong(
                    &self.path,
                    &format!("--{} is not a flag of {of}: a key is the long name of a flag", default.flag),
                ));
            }
        }
        Ok(command)
    }
}

fn set_default(command: Command, default: &FlagDefault, is_used: &mut bool) -> Command {
    let id = command.get_arguments().find(|arg| arg.get_long() == Some(&default.flag)).map(|arg| arg.get_id().clone());
    let command = match id {
        Some(id) => {
            *is_used = true;
            command.mut_arg(id, |arg| {
                let arg =
                    if matches!(arg.get_action(), ArgAction::SetTrue) { arg } else { arg.hide_default_value(false) };
                // What is required may come from the file.
                arg.required(false).default_values(default.values.clone())
            })
        }
        None => command,
    };
    command.mut_subcommands(|subcommand| set_default(subcommand, default, is_used))
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
    let of_user = of_user.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".config")));
    let of_system = env::var_os("XDG_CONFIG_DIRS").filter(|paths| !paths.is_empty()).unwrap_or("/etc/xdg".into());
    let of_system = env::split_paths(&of_system).filter_map(absolute).collect::<Vec<_>>();
    let folders = of_user.into_iter().chain(of_system).chain(["/etc".into()]);
    folders.map(|folder| folder.join("edgefold").join("edgefold.toml")).collect()
}
