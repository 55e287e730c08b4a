//! `edgefold module`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::CliError;
use crate::ecds::{FILTER_WASM, RECHECK_WASM, replace_file};

/// Write the filter's wasm module to a file, for hosts that do not take it from `serve`
#[derive(Args, Debug)]
pub(super) struct Module {
    /// Where to write it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The one for network filters with --open-connections recheck
    #[arg(long)]
    recheck: bool,
}

impl Module {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let module = if self.recheck { RECHECK_WASM } else { FILTER_WASM };
        replace_file(&self.output, module).map_err(CliError::file(&self.output))?;
        Ok(ExitCode::SUCCESS)
    }
}
