//! `edgefold module`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::CliError;
use super::output::print;
use crate::modules::{FILTER, NATIVE_FILTER, PORTABLE_FILTER, RECHECK_FILTER, file_name};
use crate::replace::replace_file;
use crate::ship::ecds::{FailurePolicy, FilterHost};

const EXAMPLES: &str = "\
Examples:
  edgefold module -o edgefold.wasm
  edgefold module --portable -o edgefold.wasm        # for nginx, Kong, APISIX and other hosts
  edgefold module --native -o /var/lib/edgefold       # for --filter native";

/// Write the filter's module to a file, for hosts that do not get it from `serve`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ModuleArgs {
    /// The file to write. For a folder, the file in it gets a name that tells versions apart, which is printed
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
                let what = "--native: this edgefold was not built for Linux with glibc, so it has no dynamic module";
                return Err(CliError::Usage(what.to_owned()));
            }
            Self { native: true, .. } => NATIVE_FILTER,
            Self { portable: true, .. } => PORTABLE_FILTER,
            Self { recheck: true, .. } => RECHECK_FILTER,
            Self { .. } => FILTER,
        };
        let path = if self.output.is_dir() {
            let host = if self.native { FilterHost::Native } else { FilterHost::Wasm(FailurePolicy::Reload) };
            self.output.join(file_name(host, module))
        } else {
            self.output.clone()
        };
        replace_file(&path, module).map_err(CliError::file(&path))?;
        if path != self.output {
            print(|out| writeln!(out, "{}", path.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
