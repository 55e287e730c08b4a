//! `edgefold completions`

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, CliError, output};

const EXAMPLES: &str = "\
Examples:
  edgefold completions bash > /usr/share/bash-completion/completions/edgefold
  edgefold completions zsh > /usr/share/zsh/vendor-completions/_edgefold
  edgefold completions fish > ~/.config/fish/completions/edgefold.fish";

/// Print a script that completes commands and flags in a shell
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl CompletionsArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "edgefold", &mut script);
        output::print(|out| out.write_all(&script))?;
        Ok(ExitCode::SUCCESS)
    }
}
