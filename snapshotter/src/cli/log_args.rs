//! `--log`, and the properties of librdkafka.

use std::path::PathBuf;

use clap::Args;
use edgefold::{Log, LogUrl};

use super::CliError;
use super::progress::observed;

/// Which log.
#[derive(Args, Debug)]
#[command(next_help_heading = "Log")]
pub(super) struct LogArgs {
    /// The log: sqlite:PATH or kafka://HOST:PORT[,HOST:PORT]/PREFIX
    #[arg(long = "log", value_name = "URL", env = "EDGEFOLD_LOG", default_value = "sqlite:edgefold.db")]
    url: LogUrl,
    #[command(flatten)]
    kafka: KafkaArgs,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Kafka options")]
struct KafkaArgs {
    /// Set a property of librdkafka, such as security.protocol=SASL_SSL; may be repeated
    #[arg(short = 'X', long = "property", value_name = "KEY=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
    /// Read properties of librdkafka from a file with a KEY=VALUE on each line; -X overrides it
    #[arg(short = 'F', long, value_name = "FILE")]
    properties_file: Option<PathBuf>,
}

impl LogArgs {
    /// The URL of the log.
    pub(super) fn url(&self) -> &LogUrl {
        &self.url
    }

    /// The log, whose readers show their progress.
    pub(super) fn open(&self) -> Result<Box<dyn Log>, CliError> {
        let mut properties = Vec::new();
        if let Some(path) = &self.kafka.properties_file {
            let text = std::fs::read_to_string(path).map_err(CliError::file(path))?;
            for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
                properties
                    .push(property(line).map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))?);
            }
        }
        properties.extend(self.kafka.properties.iter().cloned());
        Ok(observed(self.url.open_with(&properties)?))
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not a property: write KEY=VALUE"))?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}
