//! `edgefold snapshot`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::CliError;
use super::moment::MomentArgs;
use super::serve::SnapshotArgs;
use super::settings;
use crate::ecds::replace_file;
use crate::log::Log;
use crate::snapshot::cut;

/// Cut one snapshot of what is blocked now
#[derive(Args, Debug)]
pub(super) struct Snapshot {
    /// Where to write it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    snapshot: SnapshotArgs,
    #[command(flatten)]
    moment: MomentArgs,
}

impl Snapshot {
    pub(super) fn run(&self, log: &dyn Log) -> Result<ExitCode, CliError> {
        let settings = self.snapshot.settings.read()?;
        let (fold, time) = self.moment.load(log)?;
        let bytes = cut(&fold, &self.snapshot.name, settings::at(&settings, time), time)?;
        replace_file(&self.output, &bytes).map_err(CliError::file(&self.output))?;
        Ok(ExitCode::SUCCESS)
    }
}
