//! What goes into a snapshot beside the ranges.

use clap::Args;

use super::settings_args::SettingsArgs;

#[derive(Args, Debug)]
pub(super) struct SnapshotContentArgs {
    /// The name of the filter in Envoy's configuration, and of the ECDS resource
    #[arg(long, help_heading = "The filter", default_value = "edgefold", value_parser = filter_name)]
    pub(super) name: String,
    /// Raise this to go back on purpose, to an earlier moment or to another log: the filter refuses older snapshots otherwise. All
    /// `serve` of a filter need the same
    #[arg(long, value_name = "NUMBER", help_heading = "The filter", default_value_t = 0)]
    pub(super) epoch: u32,
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
}

/// A name that fits into the header and on a line of a log.
fn filter_name(text: &str) -> Result<String, String> {
    let fits = (1..=255).contains(&text.len()) && !text.contains(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err("a name has 1 to 255 bytes and no control characters".to_owned()) }
}
