//! `edgefold config`

use std::env;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use serde_json::json;

use super::config_file::{ConfigFile, PLACES, VARIABLE};
use super::output::{self, Format};
use super::{Cli, CliError};
use crate::answers::words;

/// The properties of librdkafka whose values are shown.
const NOT_SECRET: [&str; 8] = [
    "client.id",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "security.protocol",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
];

/// Print the defaults that are in force, and where each comes from
///
/// They come from edgefold.toml and from environment variables. A key of the file is the long name of a flag. At the top are log,
/// properties-file, property, cache, admin-url and origin, for every subcommand that has the flag; all others are in a table with the name of the
/// subcommand. An array is a flag that is given several times. Flags override environment variables, and these override the file.
#[derive(Args, Debug)]
#[command(after_help = help())]
pub(super) struct ConfigArgs {
    /// The output format; raw is FLAG<TAB>VALUE<TAB>FROM
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
}

fn help() -> String {
    format!(
        "\
Example of a file:
  log = \"kafka://broker-1:9092,broker-2:9092/edgefold\"
  properties-file = \"/etc/edgefold/kafka.properties\"
  admin-url = [\"http://edgefold-1:9464\", \"http://edgefold-2:9464\"]
  origin = \"alice\"

  [import]
  max-change = \"20%\"

The file is the first of {PLACES}. {VARIABLE} names another one; if it is empty, there is none."
    )
}

/// A default that is in force.
struct InForce {
    flag: String,
    value: String,
    from: String,
}

impl ConfigArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let file = ConfigFile::find()?;
        let mut in_force = from_environment();
        let of_file = file.iter().flat_map(|file| {
            file.defaults.iter().map(|default| {
                let of = default.subcommand.as_ref().map(|subcommand| format!("{subcommand}.")).unwrap_or_default();
                let from = file.path.display().to_string();
                let values: Vec<String> = default.values.iter().map(|value| shown(&default.flag, value)).collect();
                InForce { flag: format!("{of}{}", default.flag), value: values.join(", "), from }
            })
        });
        // What the environment overrides is not in force.
        let is_overridden = |default: &InForce| {
            let flag = default.flag.rsplit('.').next().unwrap_or_default();
            in_force.iter().any(|other| other.flag == flag)
        };
        let of_file: Vec<InForce> = of_file.filter(|default| !is_overridden(default)).collect();
        in_force.extend(of_file);
        for flag in ["log", "admin-url"] {
            if in_force.iter().all(|default| default.flag != flag)
                && let Some(value) = built_in(flag)
            {
                in_force.push(InForce { flag: flag.to_owned(), value, from: "built in".to_owned() });
            }
        }
        in_force.sort_by(|one, other| one.flag.cmp(&other.flag));
        output::print(|out| match self.output {
            Format::Human => {
                let file = file.as_ref().map_or("there is none".to_owned(), |file| file.path.display().to_string());
                writeln!(out, "file: {file}")?;
                let width = in_force.iter().map(|default| default.flag.len()).max().unwrap_or(0);
                in_force.iter().try_for_each(|InForce { flag, value, from }| {
                    writeln!(out, "{flag:<width$}  {}  ({from})", words::one_line(value))
                })
            }
            Format::Raw => in_force.iter().try_for_each(|InForce { flag, value, from }| {
                writeln!(out, "{flag}\t{}\t{}", words::one_line(value), words::one_line(from))
            }),
            Format::Json => output::json_array(
                out,
                in_force
                    .iter()
                    .map(|InForce { flag, value, from }| json!({ "flag": flag, "value": value, "from": from })),
            ),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The value of a flag. Of a property of librdkafka, only what is surely not a secret.
fn shown(flag: &str, value: &str) -> String {
    match value.split_once('=') {
        Some((key, _)) if flag == "property" && !NOT_SECRET.contains(&key.trim()) => {
            format!("{}=(not shown)", key.trim())
        }
        None if flag == "property" => "(not shown)".to_owned(),
        _ => value.to_owned(),
    }
}

/// The flags whose environment variables are set.
fn from_environment() -> Vec<InForce> {
    let mut found: Vec<InForce> = Vec::new();
    for subcommand in Cli::command().get_subcommands() {
        for arg in subcommand.get_arguments() {
            let (Some(flag), Some(variable)) = (arg.get_long(), arg.get_env()) else { continue };
            let Some(value) = env::var_os(variable) else { continue };
            if found.iter().all(|other| other.flag != flag) {
                let (value, from) = (value.to_string_lossy().into_owned(), variable.to_string_lossy().into_owned());
                found.push(InForce { flag: flag.to_owned(), value, from });
            }
        }
    }
    found
}

fn built_in(flag: &str) -> Option<String> {
    let command = Cli::command();
    let mut arguments = command.get_subcommands().flat_map(clap::Command::get_arguments);
    let arg = arguments.find(|arg| arg.get_long() == Some(flag))?;
    Some(arg.get_default_values().first()?.to_string_lossy().into_owned())
}
