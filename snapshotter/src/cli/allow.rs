//! `edgefold allow`

use std::process::ExitCode;

use clap::Args;
use edgefold::Action;

use super::CliError;
use super::append::AppendArgs;
use super::log_args::LogArgs;

const EXAMPLES: &str = "\
Examples:
  edgefold allow 10.0.0.100
  edgefold allow 2001:db8::/32 --reason \"our own network\"

The ranges pass until a later command blocks them again.
Prints the offset and the text of each command, separated by a tab, once the log has them.

Exit status: 0 if everything was appended, 2 if what is not printed was not, 3 if it may have been, 64 for a usage error.";

/// Let ranges pass: append WHITELIST commands to the log
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct AllowArgs {
    #[command(flatten)]
    append: AppendArgs,
    #[command(flatten)]
    log: LogArgs,
}

impl AllowArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        self.append.append(&*self.log.open()?, Action::Whitelist, self.append.time()?)
    }
}
