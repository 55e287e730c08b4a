//! `edgefold man`

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;

use super::{Cli, CliError, output};
use crate::replace::replace_file;

const EXAMPLES: &str = "\
Examples:
  edgefold man /usr/local/share/man/man1
  man edgefold-explain";

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
        let mut command = Cli::command();
        command.build();
        write_pages(&command, &self.folder).map_err(CliError::file(&self.folder))?;
        output::say(&format!("wrote the man pages to {}", self.folder.display()));
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes the page of a command, and those of its subcommands.
fn write_pages(command: &Command, folder: &Path) -> io::Result<()> {
    let man = Man::new(command.clone());
    replace_file(&folder.join(man.get_filename()), &page(&man, command)?)?;
    let subcommands = command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help");
    subcommands.into_iter().try_for_each(|subcommand| write_pages(subcommand, folder))
}

/// As clap_mangen renders it, except that examples are not filled, and have a heading that says what they are.
fn page(man: &Man, command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|subcommand| subcommand.get_name() != "help") {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(notes) = command.get_after_help() {
        writeln!(page, ".SH EXAMPLES AND NOTES")?;
        for paragraph in notes.to_string().split("\n\n") {
            // Lines that are set in are as they are typed.
            let is_set_in = paragraph.contains("\n  ");
            writeln!(page, ".PP{}", if is_set_in { "\n.nf" } else { "" })?;
            paragraph.lines().try_for_each(|line| writeln!(page, "{}", escaped(line)))?;
            if is_set_in {
                writeln!(page, ".fi")?;
            }
        }
    }
    man.render_version_section(&mut page)?;
    Ok(page)
}

/// A line of text for roff: a backslash begins an escape, and so does a dot or an apostrophe at the start.
fn escaped(line: &str) -> String {
    let line = line.replace('\\', r"\e").replace('-', r"\-");
    if line.starts_with(['.', '\'']) { format!(r"\&{line}") } else { line }
}
