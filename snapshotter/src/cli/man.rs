//! `edgefold man`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};

use super::{Cli, CliError, output};

const EXAMPLES: &str = "\
Examples:
  edgefold man /usr/local/share/man/man1 && man edgefold-explain";

/// Write the man pages to a folder: edgefold.1, and one for each subcommand
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ManArgs {
    /// The folder, which is created if it does not exist
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

impl ManArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        std::fs::create_dir_all(&self.folder).map_err(CliError::file(&self.folder))?;
        clap_mangen::generate_to(Cli::command(), &self.folder).map_err(CliError::file(&self.folder))?;
        output::say(&format!("wrote the man pages to {}", self.folder.display()));
        Ok(ExitCode::SUCCESS)
    }
}
