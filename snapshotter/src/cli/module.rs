//! `edgefold module`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::CliError;
use crate::modules::{FILTER, NATIVE_FILTER, PORTABLE_FILTER, RECHECK_FILTER};
use crate::ship::files::replace_file;

const EXAMPLES: &str = "\
Examples:
  edgefold module -o edgefold.wasm
  edgefold module --portable -o edgefold.wasm        # for nginx, Kong, APISIX and other hosts
  edgefold module --native -o edgefold-filter.so     # for --filter native";

/// Write the filter's module to a file, for hosts that do not get it from `serve`
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
    /// Write the dynamic module that --filter native needs, for the kind of machine that this edgefold runs on
    #[arg(long, conflicts_with_all = ["recheck", "portable"])]
    native: bool,
}

impl ModuleArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let module = match self {
            Self { native: true, .. } if NATIVE_FILTER.is_empty() => {
                let what = "--native: this edgefold was not built for Linux, so it has no dynamic module";
                return Err(CliError::Usage(what.to_owned()));
            }
            Self { native: true, .. } => NATIVE_FILTER,
            Self { portable: true, .. } => PORTABLE_FILTER,
            Self { recheck: true, .. } => RECHECK_FILTER,
            Self { .. } => FILTER,
        };
        replace_file(&self.output, module).map_err(CliError::file(&self.output))?;
        Ok(ExitCode::SUCCESS)
    }
}
