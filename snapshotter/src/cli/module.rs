//! `edgefold module`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use edgefold_snapshot::OpenConnections;

use super::CliError;
use crate::modules::{PORTABLE_FILTER, module_for};
use crate::ship::files::replace_file;

const EXAMPLES: &str = "\
Examples:
  edgefold module -o edgefold.wasm
  edgefold module --portable -o edgefold.wasm    # for nginx, Kong, APISIX and other hosts";

/// Write the filter's wasm module to a file, for hosts that do not get it from `serve`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ModuleArgs {
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Write the module that --open-connections recheck needs
    #[arg(long)]
    recheck: bool,
    /// Write the module for hosts other than Envoy. It is an HTTP filter only, and does not recheck
    #[arg(long, conflicts_with = "recheck")]
    portable: bool,
}

impl ModuleArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let open_connections = if self.recheck { OpenConnections::Recheck } else { OpenConnections::Keep };
        let module = if self.portable { PORTABLE_FILTER } else { module_for(open_connections) };
        replace_file(&self.output, module).map_err(CliError::file(&self.output))?;
        Ok(ExitCode::SUCCESS)
    }
}
