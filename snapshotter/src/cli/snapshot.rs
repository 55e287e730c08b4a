//! `edgefold snapshot`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use edgefold::ListName;

use super::log_args::LogArgs;
use super::moment_args::MomentArgs;
use super::snapshot_args::SnapshotContentArgs;
use super::{CliError, output};
use crate::replace::replace_file;
use crate::ship::cut;

const EXAMPLES: &str = "\
Examples:
  edgefold snapshot -o snapshot.bin
  edgefold snapshot -o snapshot.bin --until-offset 1042 --mode shadow";

/// Write one snapshot of all lists, or of some, to a file
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct SnapshotArgs {
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Only this list; may be repeated [default: all lists]
    #[arg(long, value_name = "NAME")]
    list: Vec<ListName>,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    content: SnapshotContentArgs,
    #[command(flatten)]
    moment: MomentArgs,
}

impl SnapshotArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let settings = self.content.settings.read()?;
        let (mut fold, time, contact) = match settings.freshness {
            Some(_) => self.moment.load_with_contact(&self.log)?,
            None => self.moment.load(&self.log).map(|(fold, time)| (fold, time, time))?,
        };
        for name in &self.list {
            output::list(&fold, name)?;
        }
        if !self.list.is_empty() {
            fold.retain_lists(|name| self.list.contains(name));
        }
        let fresh_from = cut::fresh_from(&settings, contact);
        let header = cut::header(&fold, &self.content.name, self.content.epoch, &settings, time, fresh_from);
        let snapshot = cut::cut(&fold, header, time)?.snapshot;
        replace_file(&self.output, &snapshot).map_err(CliError::file(&self.output))?;
        Ok(ExitCode::SUCCESS)
    }
}
